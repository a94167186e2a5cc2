"""What a run leaves for the next: delivered records are not sent again, and what may be sent again is counted."""

import os
import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from gateway.delivery.disk import progress as progress_file
from gateway.delivery.disk.progress import FormerRun, Mark, Progress, read_former_run
from gateway.delivery.disk.records import Records
from gateway.delivery.queue import DurableQueue, QueueError
from gateway.types import Shard
from tests.support.queue import payloads, record, shard

MAX_BYTES = 64 << 20
IDENTITY = bytes(range(16))
ROOT = Path(__file__).parents[2]


def open_queue(folder: Path) -> DurableQueue:
    return DurableQueue(folder, MAX_BYTES)


def fill(queue: DurableQueue, count: int = 5, where: Shard | None = None) -> int:
    first = queue.first_sequence
    queue.commit([(first + n, record(where or shard(), b"%d" % n)) for n in range(count)], [])
    return first


def make(folder: Path) -> Progress:
    return Progress(folder, IDENTITY, 7, strikes=0, waiting=[], former=FormerRun())


def test_settled_records_are_deleted_at_the_start_not_sent_again(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    first = fill(queue)
    queue.progress.settled(shard(), first + 2)
    queue.close()
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"2", b"3", b"4"]
    assert (queue.backlog()[shard()].records, queue.backlog()[shard()].items) == (3, 9)
    queue.close()


def test_what_was_under_way_is_counted_and_kept(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    first = fill(queue)
    queue.progress.under_way(shard(), first + 4)
    queue.progress.settled(shard(), first + 1)
    queue.close()
    for _ in range(2):
        queue = open_queue(tmp_path)
        assert payloads(queue, shard()) == [b"1", b"2", b"3", b"4"]
        assert queue.backlog()[shard()].maybe_delivered == 9
        queue.close()


def test_a_shard_that_was_delivered_to_the_end_has_no_backlog(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    first = fill(queue)
    queue.progress.settled(shard(), first + 5)
    queue.close()
    queue = open_queue(tmp_path)
    assert queue.backlog() == {}
    assert payloads(queue, shard()) == []
    queue.close()


def test_marks_survive_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from gateway.delivery.queue import DurableQueue;"
        "from tests.support.queue import record, shard;"
        "queue = DurableQueue(Path(sys.argv[1]), 64 << 20); first = queue.first_sequence;"
        "queue.commit([(first + n, record(content=b'%d' % n)) for n in range(5)], []);"
        "queue.progress.under_way(shard(), first + 3); queue.progress.settled(shard(), first + 2);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False, timeout=30)
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"2", b"3", b"4"]
    assert queue.backlog()[shard()].maybe_delivered == 3
    queue.close()


@pytest.mark.parametrize("lost", ["nothing", "progress", "data.mdb"])
def test_sequences_never_come_again(tmp_path: Path, lost: str) -> None:
    """Else a settled mark of before would delete a record that nobody delivered."""
    last = 0
    for _ in range(4):
        queue = open_queue(tmp_path)
        first = fill(queue, 3)
        assert first > last
        last = first + 2
        queue.progress.settled(shard(), last + 1)
        queue.progress.under_way(shard(), last + 10)
        queue.commit([], [(shard(), first + n) for n in range(3)])
        queue.close()
        if lost != "nothing":
            (tmp_path / lost).unlink()
    queue = open_queue(tmp_path)
    fill(queue, 2)
    queue.close()
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"0", b"1"]
    queue.close()


def test_marks_of_another_queue_are_not_believed(tmp_path: Path) -> None:
    """Somebody restores a data file, and the progress file beside it is of another queue."""
    queue = open_queue(tmp_path / "one")
    first = fill(queue)
    queue.close()
    other = open_queue(tmp_path / "other")
    fill(other)
    other.progress.settled(shard(), first + 5)
    other.close()
    (tmp_path / "other" / "progress").replace(tmp_path / "one" / "progress")
    queue = open_queue(tmp_path / "one")
    assert len(payloads(queue, shard())) == 5
    assert queue.first_sequence > first + 5
    queue.close()


def test_an_older_data_file_of_the_same_queue_meets_its_marks(tmp_path: Path) -> None:
    """Restored from a copy: what was delivered since is known, and new sequences are above the marks."""
    queue = open_queue(tmp_path)
    first = fill(queue)
    queue.close()
    copy = (tmp_path / "data.mdb").read_bytes()
    for _ in range(3):
        queue = open_queue(tmp_path)
        fill(queue, 2, shard("globex"))
        queue.progress.settled(shard("globex"), queue.first_sequence + 2)
        queue.progress.settled(shard(), first + 4)
        queue.commit([], [(shard(), first + n) for n in range(4)])
        last = queue.first_sequence
        queue.close()
    (tmp_path / "data.mdb").write_bytes(copy)
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"4"]
    assert queue.first_sequence > last
    queue.close()


def test_a_mark_of_one_shard_says_nothing_about_another(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    first = fill(queue)
    fill(queue, 5, shard(number=1))
    fill(queue, 5, shard("acme2"))
    queue.progress.settled(shard(number=1), first + 5)
    queue.close()
    queue = open_queue(tmp_path)
    assert set(queue.backlog()) == {shard(), shard("acme2")}
    queue.close()


def test_no_changed_bit_of_the_file_loses_a_record(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    first = fill(queue)
    queue.progress.settled(shard(), first + 2)
    queue.close()
    whole = (tmp_path / "progress").read_bytes()
    chance = random.Random(7)
    places = [chance.randrange(8 * 128) for _ in range(20)] + [8 * 128 + chance.randrange(8 * 80) for _ in range(40)]
    for place in places:
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        (tmp_path / "progress").write_bytes(changed)
        marks = read_former_run(tmp_path).marks
        # The mark before is in the other half: never more is believed to be settled than was.
        assert all(mark in (Mark(0, 0), Mark(first + 2, 0)) for mark in marks.values()), place
    (tmp_path / "progress").write_bytes(whole)
    assert read_former_run(tmp_path).mark(shard()) == Mark(first + 2, 0)


@pytest.mark.parametrize("content", [b"", b"x" * 100, os.urandom(4096), bytes(4096)])
def test_a_file_that_is_none_is_as_good_as_no_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "progress").write_bytes(content)
    assert read_former_run(tmp_path).marks == {}
    queue = open_queue(tmp_path)
    fill(queue)
    queue.close()
    (tmp_path / "progress").write_bytes(content)
    queue = open_queue(tmp_path)
    assert len(payloads(queue, shard())) == 5
    queue.close()


def test_a_write_that_was_cut_off_leaves_the_mark_before(tmp_path: Path) -> None:
    made = make(tmp_path)
    for sequence in (5, 6, 7):
        made.settled(shard(), sequence)
    made.close()
    raw = bytearray((tmp_path / "progress").read_bytes())
    # Turns 1, 2, 3: the third is in the second half.
    raw[128 + 40 + 18] ^= 0xFF
    (tmp_path / "progress").write_bytes(raw)
    assert read_former_run(tmp_path).mark(shard()) == Mark(6, 0)


def test_the_file_grows_and_stops_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_file, "MAX_SLOTS", 1024)
    made = make(tmp_path)
    for number in range(1100):
        made.settled(shard(number=number), number + 1)
    assert made.untracked == 76
    made.close()
    former = read_former_run(tmp_path)
    assert len(former.marks) == 1024
    assert former.mark(shard(number=1023)) == Mark(1024, 0)
    assert former.mark(shard(number=1024)) == Mark(0, 0)
    assert (tmp_path / "progress").stat().st_size == 128 + 1024 * 80


def test_a_disk_without_room_for_more_marks_costs_marks_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    for number in range(300):
        made.settled(shard(number=number), 9)
    assert made.untracked == 44
    made.close()


def no_room(*_arguments: object) -> None:
    raise OSError(28, "No space left on device")


def test_on_a_full_disk_the_backlog_is_still_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = open_queue(tmp_path)
    first = fill(queue)
    queue.progress.settled(shard(), first + 2)
    queue.close()
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    queue = open_queue(tmp_path)
    for number in range(300):
        queue.progress.settled(shard("globex", number), 9)
    assert not queue.progress.kept
    assert payloads(queue, shard()) == [b"2", b"3", b"4"]
    new = fill(queue, 1)
    assert new > first
    queue.close()
    monkeypatch.undo()
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"2", b"3", b"4", b"0"]
    queue.close()


def test_if_nothing_can_be_deleted_at_the_start_it_is_not_sent_again_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(tmp_path)
    first = fill(queue)
    queue.progress.settled(shard(), first + 2)
    queue.close()

    def full(*_arguments: object) -> None:
        raise lmdb.Error("mdb_txn_commit: No space left on device")

    monkeypatch.setattr(Records, "write_state", full)
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"2", b"3", b"4"]
    assert queue.backlog()[shard()].records == 3
    last = queue.first_sequence
    queue.close()
    monkeypatch.undo()
    queue = open_queue(tmp_path)
    assert queue.first_sequence > last > first
    queue.close()
    # But if neither the queue nor the progress can be written, sequences could come again.
    monkeypatch.setattr(Records, "write_state", full)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(QueueError, match="No space left on device"):
        open_queue(tmp_path)


def test_marks_of_shards_without_a_backlog_go_before_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_file, "MAX_SLOTS", 300)
    queue = open_queue(tmp_path)
    first = fill(queue)
    for number in range(1, 256):
        queue.progress.settled(shard(number=number), first + number)
    queue.progress.settled(shard(), first + 1)
    queue.close()
    queue = open_queue(tmp_path)
    queue.close()
    former = read_former_run(tmp_path)
    assert len(former.marks) == 150
    assert former.mark(shard()) == Mark(first + 1, 0)
    assert former.mark(shard(number=255)) == Mark(first + 255, 0)
    assert former.mark(shard(number=1)) == Mark(0, 0)


def test_what_is_under_way_only_grows(tmp_path: Path) -> None:
    made = make(tmp_path)
    for sequence in (5, 9, 7):
        made.under_way(shard(), sequence)
    assert made.mark(shard()) == Mark(0, 9)
    made.close()
