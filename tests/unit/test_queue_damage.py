"""A damaged queue: no crash, what can be read is delivered, what cannot is counted, and the file is set aside."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from gateway.delivery.disk import rebuild as rebuilding
from gateway.delivery.disk.frame import Encoder
from gateway.delivery.disk.keys import key
from gateway.delivery.disk.pages import PageFile
from gateway.delivery.disk.progress import read_former_run
from gateway.delivery.disk.records import Records
from gateway.delivery.disk.survey import RECORDS
from gateway.delivery.queue import DurableQueue, QueueError, QueueWriteError, Stored
from gateway.types import Shard
from tests.support.queue import payload, payloads, read_all, record, shard, write_v1

TIMES = 100
MAX_BYTES = 64 << 20
ROOT = Path(__file__).parents[2]


def fill(folder: Path, count: int = 8, size: int = 5000, where: Shard | None = None) -> list[bytes]:
    where = where or shard()
    contents = [payload(number, size) for number in range(count)]
    queue = DurableQueue(folder, MAX_BYTES)
    queue.commit([(queue.first_sequence + n, record(where, content)) for n, content in enumerate(contents)], [])
    queue.close()
    return contents


def damage(file: Path, offset: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(content)


def meta(page: int, field: int) -> int:
    return page * 4096 + field


def damage_both_metas(file: Path) -> None:
    for page in (0, 1):
        damage(file, meta(page, 16), b"nonsense")


def aside(folder: Path) -> list[Path]:
    return sorted(folder.glob("data.mdb.corrupt-*"))


@pytest.mark.parametrize("seed", [20261125])
def test_no_wrong_bit_or_lost_sector_ends_the_process_or_loses_another_record(tmp_path: Path, seed: int) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.queue_damage", str(tmp_path), str(seed), str(TIMES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, f"{lines[-1:]} {run.stderr[-2000:]}"
    outcomes = [json.loads(line.split("} ", 1)[1]) for line in lines]
    assert [(line, outcome["wrong"]) for line, outcome in zip(lines, outcomes, strict=True) if outcome["wrong"]] == []
    # It does matter: else this would show nothing.
    assert sum(outcome["rebuilt"] for outcome in outcomes) > TIMES // 10


def test_what_lmdb_writes_is_sound(tmp_path: Path) -> None:
    """Else every start would make the file anew: deep trees, large values, a long free list, copies."""
    environment = lmdb.open(str(tmp_path), map_size=MAX_BYTES, max_dbs=3, sync=False)
    databases = [environment.open_db(name) for name in (b"meta", b"quarantine", b"records")]
    expected: dict[bytes, bytes] = {}
    for step in range(60):
        with environment.begin(db=databases[2], write=True) as transaction:
            for number in range(12):
                raw = key(shard(number=step % 7), step * 100 + number)
                expected[raw] = payload(raw, (step * 977 + number * 3001) % 12_000)
                transaction.put(raw, expected[raw])
            for raw in sorted(expected)[step % 5 :: 9]:
                transaction.delete(raw)
                del expected[raw]
    (tmp_path / "copy").mkdir()
    environment.copy(str(tmp_path / "copy"), compact=True)
    environment.close()
    for file in (tmp_path / "data.mdb", tmp_path / "copy" / "data.mdb"):
        with PageFile(file) as opened:
            found = {entry.key: (entry.offset, entry.size) for entry in opened.entries() if entry.database == RECORDS}
            assert {raw: opened.read(*place) for raw, place in found.items()} == expected


def test_an_older_state_of_the_file_is_not_taken_for_the_newest(tmp_path: Path) -> None:
    """If the newer of the two first pages loses its number, the last commit would be gone, and nobody would know."""
    fill(tmp_path)
    queue = DurableQueue(tmp_path, MAX_BYTES)
    queue.commit([(queue.first_sequence, record(content=b"the last"))], [])
    queue.close()
    newest = read_former_run(tmp_path).transaction
    damage(tmp_path / "data.mdb", meta(newest % 2, 144), (newest - 2).to_bytes(8, "little"))
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard())[-1] == b"the last"
    queue.close()


def test_records_are_found_when_nothing_of_the_tree_is_left(tmp_path: Path) -> None:
    contents = fill(tmp_path)
    damage_both_metas(tmp_path / "data.mdb")
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard()) == contents
    assert queue.backlog()[shard()].items == 24
    assert queue.disk_stats().rebuilt_records == 8
    assert [file.stat().st_mode & 0o777 for file in aside(tmp_path)] == [0o600]
    queue.close()


def test_a_damaged_payload_is_found_corrupt_when_it_is_its_turn(tmp_path: Path) -> None:
    contents = fill(tmp_path)
    file = tmp_path / "data.mdb"
    with PageFile(file) as opened:
        entries = [entry for entry in opened.entries() if entry.database == RECORDS]
    damage(file, entries[3].offset + entries[3].size - 1, b"?")
    # And a page of the tree, so that the file is made anew.
    newest = read_former_run(tmp_path).transaction
    damage(file, meta(newest % 2, 136), (1 << 40).to_bytes(8, "little"))
    queue = DurableQueue(tmp_path, MAX_BYTES)
    found = list(read_all(queue, shard()))
    assert [isinstance(read, Stored) for read in found] == [number != 3 for number in range(8)]
    assert getattr(found[3], "items", None) == 3
    assert payloads(queue, shard()) == contents[:3] + contents[4:]
    assert queue.backlog()[shard()].items == 24
    assert queue.disk_stats().rebuilt_corrupt == 1
    queue.close()


def test_records_that_were_delivered_are_not_dug_out_again(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path, MAX_BYTES)
    first = queue.first_sequence
    queue.commit([(first + n, record(content=payload(n, 5000))) for n in range(6)], [])
    queue.commit([(first, record(shard("globex"), payload("globex", 5000)))], [])
    queue.progress.settled(shard(), first + 4)
    queue.progress.settled(shard("globex"), first + 1)
    queue.commit([], [*((shard(), first + n) for n in range(4)), (shard("globex"), first)])
    queue.close()
    # A run in which globex sends nothing.
    DurableQueue(tmp_path, MAX_BYTES).close()
    damage_both_metas(tmp_path / "data.mdb")
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard()) == [payload(4, 5000), payload(5, 5000)]
    assert payloads(queue, shard("globex")) == []
    queue.close()


def test_a_tenant_cannot_write_for_another_by_what_it_sends(tmp_path: Path) -> None:
    """A payload that holds a whole frame is within a frame, or does not know the queue's identity."""
    queue = DurableQueue(tmp_path, MAX_BYTES)
    forged = record(shard("victim"), b"forged")
    stolen = bytes(Encoder(queue.identity).encode(queue.first_sequence, forged, None))
    guessed = bytes(Encoder(bytes(16)).encode(queue.first_sequence, forged, None))
    queue.commit([(queue.first_sequence, record(content=bytes(300) + stolen + bytes(5000)))], [])
    queue.commit([(queue.first_sequence + 1, record(content=bytes(300) + guessed + bytes(5000)))], [])
    queue.close()
    file = tmp_path / "data.mdb"
    with PageFile(file) as opened:
        entries = [entry for entry in opened.entries() if entry.database == RECORDS]
    damage(file, entries[1].offset + entries[1].size - 1, b"?")
    damage_both_metas(file)
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert set(queue.backlog()) == {shard()}
    queue.close()


def test_records_of_version_1_are_kept_as_far_as_the_tree_leads_to_them(tmp_path: Path) -> None:
    """They have no names in them, and so cannot be found without their keys."""
    contents = {(0, n): payload(n, 300) for n in range(100)}
    write_v1(tmp_path, contents)
    file = tmp_path / "data.mdb"
    with PageFile(file) as opened:
        places = [entry.offset for entry in opened.entries() if entry.database == RECORDS]
    damage(file, places[50] // 4096 * 4096, b"?")
    queue = DurableQueue(tmp_path, MAX_BYTES)
    found = payloads(queue, shard())
    in_page = sum(place // 4096 == places[50] // 4096 for place in places)
    assert found == [content for n, content in enumerate(contents.values()) if places[n] // 4096 != places[50] // 4096]
    assert 1 < in_page < 20
    queue.close()


@pytest.mark.parametrize("size", [0, 100, 4096, 8192, 20_000])
def test_a_file_that_was_cut_off_is_no_reason_to_stay_down(tmp_path: Path, size: int) -> None:
    fill(tmp_path, count=30, size=300)
    os.truncate(tmp_path / "data.mdb", size)
    queue = DurableQueue(tmp_path, MAX_BYTES)
    queue.commit([(queue.first_sequence, record(content=b"goes on"))], [])
    assert payloads(queue, shard())[-1] == b"goes on"
    queue.close()


def test_blocks_that_the_disk_cannot_read_cost_only_what_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(tmp_path)
    with PageFile(tmp_path / "data.mdb") as opened:
        bad = next(entry.offset + 100 for entry in opened.entries() if entry.key == key(shard(), (1 << 40) + 3))
    read = os.pread

    def read_unless_bad(descriptor: int, size: int, offset: int) -> bytes:
        if offset <= bad < offset + size and os.readlink(f"/proc/self/fd/{descriptor}").endswith("/data.mdb"):
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", read_unless_bad)
    monkeypatch.setattr(rebuilding, "_CHUNK_BYTES", 4096)
    queue = DurableQueue(tmp_path, MAX_BYTES)
    monkeypatch.undo()
    assert payloads(queue, shard()) == contents[:3] + contents[4:]
    queue.close()


def test_only_the_newest_damaged_files_are_kept(tmp_path: Path) -> None:
    for number in range(4):
        fill(tmp_path, count=1, where=shard(f"tenant{number}"))
        damage_both_metas(tmp_path / "data.mdb")
        DurableQueue(tmp_path, MAX_BYTES).close()
        for place, file in enumerate(aside(tmp_path)):
            file.rename(tmp_path / f"data.mdb.corrupt-2026{number}{place}")
    fill(tmp_path, count=1)
    damage_both_metas(tmp_path / "data.mdb")
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert len(aside(tmp_path)) == rebuilding.KEPT_ASIDE
    assert len(queue.backlog()) == 5
    queue.close()


@pytest.fixture
def crashes_in_lmdb(tmp_path: Path) -> Callable[[], int]:
    """Runs that end as LMDB ends a process, in the midst of a commit; the exit code."""
    script = (
        "import os, sys; from pathlib import Path; from gateway.delivery.queue import DurableQueue;"
        "queue = DurableQueue(Path(sys.argv[1]), 64 << 20);"
        "queue.progress.committing(True); os.abort()"
    )

    def crash() -> int:
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, check=False, timeout=30
        ).returncode

    return crash


def test_after_three_crashes_in_a_row_the_file_is_made_anew_however_sound_it_looks(
    tmp_path: Path, crashes_in_lmdb: Callable[[], int]
) -> None:
    contents = fill(tmp_path)
    for _ in range(3):
        assert crashes_in_lmdb() < 0
        assert not aside(tmp_path)
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert queue.disk_stats().rebuilt_records == 8
    assert payloads(queue, shard()) == contents
    queue.close()
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert queue.disk_stats().rebuilt_records is None
    queue.close()


def no_room(*_arguments: object, **_named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_sound_file_stays_if_there_is_no_room_for_another(
    tmp_path: Path, crashes_in_lmdb: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(tmp_path)
    for _ in range(3):
        crashes_in_lmdb()
    monkeypatch.setattr(rebuilding, "put_in_place", no_room)
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard()) == contents
    assert queue.disk_stats().rebuilt_records is None
    assert not (tmp_path / "rebuild").exists()
    queue.close()


def test_a_damaged_file_without_room_for_another_says_so_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(tmp_path)
    damage_both_metas(tmp_path / "data.mdb")
    monkeypatch.setattr(rebuilding, "put_in_place", no_room)
    with pytest.raises(QueueError, match=r"must be room for a second file: .*No space left on device"):
        DurableQueue(tmp_path, MAX_BYTES)
    assert not (tmp_path / "rebuild").exists()
    monkeypatch.undo()
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard()) == contents
    queue.close()


def test_a_run_of_many_commits_was_not_ended_by_the_file(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path, MAX_BYTES)
    for number in range(16):
        queue.commit([(queue.first_sequence + number, record())], [])
    queue.progress.committing(True)
    assert read_former_run(tmp_path).strikes == 0
    queue.close()


def test_crashes_with_a_good_run_between_are_no_reason_to_make_it_anew(
    tmp_path: Path, crashes_in_lmdb: Callable[[], int]
) -> None:
    fill(tmp_path)
    for _ in range(2):
        crashes_in_lmdb()
        crashes_in_lmdb()
        DurableQueue(tmp_path, MAX_BYTES).close()
    assert not aside(tmp_path)


def test_what_only_lmdb_finds_damaged_is_made_anew_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = fill(tmp_path)
    failures = [lmdb.PageNotFoundError("mdb_put: MDB_PAGE_NOTFOUND: Requested page not found")]
    write_state = Records.write_state

    def write_state_unless_damaged(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        write_state(*arguments)

    monkeypatch.setattr(Records, "write_state", write_state_unless_damaged)
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard()) == contents
    assert len(aside(tmp_path)) == 1
    queue.close()


def test_damage_that_a_commit_meets_is_mended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(tmp_path)
    queue = DurableQueue(tmp_path, MAX_BYTES)

    def broken(*_arguments: object, **_named: object) -> None:
        raise lmdb.CorruptedError("MDB_CORRUPTED: Located page was wrong type")

    monkeypatch.setattr(Records, "set_aside", broken)
    with pytest.raises(QueueWriteError, match="MDB_CORRUPTED"):
        queue.quarantine(shard(), queue.first_sequence)
    assert payloads(queue, shard()) == contents
    queue.close()
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert queue.disk_stats().rebuilt_records == 8
    assert payloads(queue, shard()) == contents
    queue.close()
    DurableQueue(tmp_path, MAX_BYTES).close()
    assert len(aside(tmp_path)) == 1


def test_a_file_that_was_made_anew_in_part_is_made_anew_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill at any step of the replacement: the next start finds the old file, or the new one."""
    contents = fill(tmp_path)
    damage_both_metas(tmp_path / "data.mdb")
    steps = ("_put_corrupt", "put_in_place", "sync_folder")
    for step in steps:
        monkeypatch.setattr(rebuilding, step, killed)
        with pytest.raises(KeyboardInterrupt):
            DurableQueue(tmp_path, MAX_BYTES)
        monkeypatch.undo()
        assert (tmp_path / "data.mdb").exists()
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard()) == contents
    assert not (tmp_path / "rebuild").exists()
    queue.close()


def killed(*_arguments: object, **_named: object) -> None:
    raise KeyboardInterrupt


def test_without_hard_links_the_new_file_is_found_though_the_old_one_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(tmp_path)
    damage_both_metas(tmp_path / "data.mdb")
    replace = Path.replace

    def replace_until_killed(source: Path, target: Path) -> Path:
        if target.name == "data.mdb":
            raise KeyboardInterrupt
        return replace(source, target)

    def no_hard_links(*_arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_hard_links)
    monkeypatch.setattr(Path, "replace", replace_until_killed)
    with pytest.raises(KeyboardInterrupt):
        DurableQueue(tmp_path, MAX_BYTES)
    monkeypatch.undo()
    assert not (tmp_path / "data.mdb").exists()
    queue = DurableQueue(tmp_path, MAX_BYTES)
    assert payloads(queue, shard()) == contents
    queue.close()
