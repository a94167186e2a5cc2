"""The durable queue: order, both formats, bounds, room given back, one gateway a folder, errors with a type."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import lmdb
import pytest

from gateway.delivery import queue as durable
from gateway.delivery.disk import records as lmdb_records
from gateway.delivery.queue import DurableQueue, QueueError, QueueReadError, QueueWriteError, Stored
from gateway.types import Shard
from tests.support.queue import key_v1, payload, payloads, record, shard, write_v1

MAX_BYTES = 64 << 20
ROOT = Path(__file__).parents[2]


def open_queue(folder: Path, wait_s: float = 0.0) -> DurableQueue:
    return DurableQueue(folder, MAX_BYTES, wait_s=wait_s)


def put(queue: DurableQueue, *contents: bytes, where: Shard | None = None, first: int = 0) -> None:
    start = queue.first_sequence + first
    queue.commit([(start + n, record(where or shard(), content)) for n, content in enumerate(contents)], [])


def test_shards_are_read_in_order_and_apart(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    shards = [shard(), shard(number=1), shard(number=10), shard(number=256), shard("acme2"), shard(destination="b2")]
    for step in range(3):
        for place, where in enumerate(shards):
            put(queue, b"%d/%d" % (place, step), where=where, first=step)
    for place, where in enumerate(shards):
        assert payloads(queue, where) == [b"%d/%d" % (place, step) for step in range(3)]
    queue.close()


def test_what_version_1_left_goes_before_what_is_new(tmp_path: Path) -> None:
    write_v1(tmp_path, {(0, 4): b"a", (0, 5): b"b", (3, 0): b"c", (12, 0): b"d"})
    queue = open_queue(tmp_path)
    assert {where.number: found.records for where, found in queue.backlog().items()} == {0: 2, 3: 1, 12: 1}
    assert queue.backlog()[shard()].size == 2
    put(queue, b"new", b"newer")
    put(queue, b"new", where=shard(number=3))
    assert payloads(queue, shard()) == [b"a", b"b", b"new", b"newer"]
    assert payloads(queue, shard(number=3)) == [b"c", b"new"]
    assert payloads(queue, shard(number=12)) == [b"d"]
    queue.commit([], [(shard(), 4)])
    queue.close()
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"b", b"new", b"newer"]
    queue.progress.settled(shard(), 6)
    queue.close()
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [b"new", b"newer"]
    assert payloads(queue, shard(number=3)) == [b"c", b"new"]
    queue.close()


def test_a_corrupt_record_of_version_1_is_set_aside(tmp_path: Path) -> None:
    write_v1(tmp_path, {(0, 4): b"a", (0, 5): b"b"})
    environment = lmdb.open(str(tmp_path), map_size=MAX_BYTES, max_dbs=3)
    with environment.begin(db=environment.open_db(b"records"), write=True) as transaction:
        transaction.put(key_v1(shard(), 4), b"nothing that anybody wrote")
    environment.close()
    queue = open_queue(tmp_path)
    assert queue.backlog()[shard()].items == 4
    queue.quarantine(shard(), 4)
    assert payloads(queue, shard()) == [b"b"]
    assert queue.disk_stats().quarantined_records == 1
    queue.close()


def test_a_version_1_gateway_refuses_what_this_one_wrote(tmp_path: Path) -> None:
    open_queue(tmp_path).close()
    environment = lmdb.open(str(tmp_path), map_size=MAX_BYTES, max_dbs=3)
    with environment.begin(db=environment.open_db(b"meta")) as transaction:
        assert int(transaction.get(b"format")) > 1
    environment.close()


def test_a_record_of_a_newer_version_is_refused_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = open_queue(tmp_path)
    monkeypatch.setattr("gateway.delivery.disk.frame.FORMAT_VERSION", 3)
    put(queue, b"of tomorrow")
    monkeypatch.undo()
    queue.close()
    with pytest.raises(
        QueueError, match=r"a record has format 3, not 2.*[Rr]un that version, or name another queue\.dir"
    ):
        open_queue(tmp_path)
    assert not list(tmp_path.glob("data.mdb.corrupt-*"))


@pytest.mark.parametrize(("max_bytes", "expected"), [(0, 1), (1, 1), (2500, 2), (5000, 4), (1 << 20, 6)])
def test_a_reading_ends_within_its_bytes_but_has_one_record(tmp_path: Path, max_bytes: int, expected: int) -> None:
    queue = open_queue(tmp_path)
    put(queue, *[payload(n, 1000) for n in range(6)])
    assert len(list(queue.read(shard(), 0, max_bytes))) == expected
    queue.close()


def test_what_was_read_does_not_depend_on_the_file(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, payload(1, 5000))
    (found,) = queue.read(shard(), 0, 1 << 20)
    queue.commit([], [(shard(), queue.first_sequence)])
    put(queue, *[bytes(5000) for _ in range(20)], first=1)
    queue.close()
    assert isinstance(found, Stored)
    assert found.record.payload == payload(1, 5000)


def test_a_commit_is_whole_or_not_at_all(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path, 1 << 20)
    put(queue, b"before")
    with pytest.raises(QueueWriteError, match="MDB_MAP_FULL"):
        queue.commit(
            [
                (queue.first_sequence + 1, record(content=b"small")),
                (queue.first_sequence + 2, record(content=bytes(90 << 20))),
            ],
            [(shard(), queue.first_sequence)],
        )
    assert payloads(queue, shard()) == [b"before"]
    put(queue, b"after", first=3)
    assert payloads(queue, shard()) == [b"before", b"after"]
    queue.close()


def test_errors_of_lmdb_have_a_type_of_the_queue(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, b"x")
    queue._records.close()
    with pytest.raises(QueueReadError, match="cannot read the queue in"):
        queue.read(shard(), 0, 1)
    with pytest.raises(QueueReadError):
        queue.disk_stats()
    with pytest.raises(QueueWriteError):
        queue.reclaim()
    with pytest.raises(QueueWriteError):
        put(queue, b"y")
    queue._records.close()
    with pytest.raises(QueueWriteError):
        queue.quarantine(shard(), 0)
    # Each that failed to write has opened it again.
    put(queue, b"z")
    queue.close()


def test_a_backlog_is_what_is_there_now(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    assert queue.backlog() == {}
    put(queue, b"xx", b"yyy")
    assert queue.backlog()[shard()].size == 5
    queue.close()


def test_quarantine_is_bounded_and_the_oldest_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_records, "MAX_QUARANTINED", 3)
    queue = open_queue(tmp_path)
    put(queue, *[b"%d" % n for n in range(5)])
    for n in range(5):
        queue.quarantine(shard(), queue.first_sequence + n)
    stats = queue.disk_stats()
    assert (stats.quarantined_records, stats.quarantine_evicted) == (3, 2)
    with queue._records.environment.begin(db=queue._records.quarantined) as transaction:
        kept = [bytes(frame)[-1:] for _, frame in transaction.cursor()]
    assert kept == [b"2", b"3", b"4"]
    queue.close()


def test_quarantine_holds_no_more_bytes_than_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_records, "MAX_QUARANTINE_BYTES", 100_000)
    queue = open_queue(tmp_path)
    put(queue, *[payload(n, 30_000) for n in range(5)], bytes(200_000))
    for n in range(5):
        queue.quarantine(shard(), queue.first_sequence + n)
    assert (queue.disk_stats().quarantined_records, queue.disk_stats().quarantine_evicted) == (2, 3)
    assert queue.disk_stats().quarantined_bytes <= 100_000
    queue.quarantine(shard(), queue.first_sequence + 5)
    assert queue.disk_stats().quarantined_records == 0
    queue.close()


def test_room_that_is_not_needed_goes_back_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_REWRITE_FILE_BYTES", 4 << 20)
    queue = open_queue(tmp_path)
    put(queue, *[payload(n, 1 << 20) for n in range(12)])
    assert queue.reclaim() == 0
    queue.commit([], [(shard(), queue.first_sequence + n) for n in range(11)])
    before = queue.disk_stats()
    assert before.file_bytes > 12 << 20 > 2 << 20 > before.live_bytes
    freed = queue.reclaim()
    after = queue.disk_stats()
    assert freed == after.reclaimed_bytes == before.file_bytes - after.file_bytes > 10 << 20
    put(queue, b"goes on", first=12)
    assert payloads(queue, shard()) == [payload(11, 1 << 20), b"goes on"]
    assert queue.reclaim() == 0
    queue.close()
    queue = open_queue(tmp_path)
    assert payloads(queue, shard()) == [payload(11, 1 << 20), b"goes on"]
    assert queue.disk_stats().rebuilt_records is None
    queue.close()


def test_readers_and_commits_go_on_while_the_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_REWRITE_FILE_BYTES", 0)
    monkeypatch.setattr(durable, "_REWRITE_SHARE", 1)
    queue = open_queue(tmp_path)
    expected = [payload(n, 3000) for n in range(50)]
    put(queue, *expected)
    failures: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            if payloads(queue, shard())[:50] != expected:
                failures.append("a record was not there")

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(30):
        put(queue, b"%d" % step, first=50 + step)
        queue._rewrite()
    ended.set()
    reader.join()
    assert failures == []
    assert len(payloads(queue, shard())) == 80
    queue.close()


KILLED_RECLAIM = """
import os, signal, sys
from pathlib import Path
from gateway.delivery import queue as durable
from gateway.delivery.disk import rebuild, records
from tests.support.queue import payload, record, shard
durable._REWRITE_FILE_BYTES = 0
left = 0
def counted(call):
    def step(*arguments, **named):
        global left
        result = call(*arguments, **named)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return step
def reclaim(folder):
    global left
    queue = durable.DurableQueue(folder, 64 << 20)
    first = queue.first_sequence
    queue.commit([(first + n, record(content=payload(n, 100_000))) for n in range(10)], [])
    queue.progress.settled(shard(), first + 8)
    queue.commit([], [(shard(), first + n) for n in range(8)])
    left = int(folder.name)
    durable.empty_work_folder = counted(durable.empty_work_folder)
    for owner, name in ((records.Records, "copy_to"), (records.Records, "close"), (records.Records, "open"),
                        (os, "fsync"), (Path, "replace"), (rebuild.shutil, "rmtree")):
        setattr(owner, name, counted(getattr(owner, name)))
    os._exit(0 if queue.reclaim() else 3)
for step in range(1, 30):
    child = os.fork()
    if child == 0:
        reclaim(Path(sys.argv[1]) / str(step))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, flush=True)
    if code != -signal.SIGKILL:
        break
"""


def test_a_kill_at_any_step_of_it_loses_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", KILLED_RECLAIM, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    codes = [int(line) for line in run.stdout.splitlines()]
    assert codes == [-9] * (len(codes) - 1) + [0], run.stderr
    assert len(codes) > 8
    for step in range(1, len(codes) + 1):
        folder = tmp_path / str(step)
        queue = open_queue(folder)
        assert payloads(queue, shard()) == [payload(8, 100_000), payload(9, 100_000)], step
        assert queue.disk_stats().rebuilt_records is None, step
        assert {file.name for file in folder.iterdir()} == {"data.mdb", "lock.mdb", "gateway.lock", "progress"}
        queue.close()


def test_a_second_gateway_is_told_who_has_the_queue(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    with pytest.raises(QueueError, match=rf"another gateway uses the queue in .* \(process {os.getpid()}\); stop it"):
        open_queue(tmp_path)
    queue.close()
    open_queue(tmp_path).close()


def test_a_second_gateway_may_wait_for_the_first(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    put(queue, b"handed over")
    started = time.monotonic()
    with pytest.raises(QueueError, match="another gateway"):
        open_queue(tmp_path, wait_s=0.2)
    assert time.monotonic() - started >= 0.2
    threading.Timer(0.3, queue.close).start()
    second = open_queue(tmp_path, wait_s=10.0)
    assert payloads(second, shard()) == [b"handed over"]
    second.close()


def test_commits_have_a_thread_of_their_own(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    names = {queue.thread.submit(lambda: threading.current_thread().name).result() for _ in range(3)}
    assert len(names) == 1
    assert names.pop().startswith("queue commits")
    queue.close()


def test_without_a_thread_for_commits_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(QueueError, match="can't start new thread"):
        open_queue(tmp_path)
    monkeypatch.undo()
    open_queue(tmp_path).close()


def test_sequences_of_a_former_run_are_refused(tmp_path: Path) -> None:
    queue = open_queue(tmp_path)
    with pytest.raises(ValueError, match=f"begin at {queue.first_sequence}"):
        queue.commit([(0, record())], [])
    queue.close()


def test_a_queue_that_was_killed_at_its_first_start_is_a_new_one(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path), map_size=MAX_BYTES, max_dbs=3)
    environment.open_db(b"records")
    environment.close()
    queue = open_queue(tmp_path)
    assert queue.disk_stats().rebuilt_records is None
    assert queue.backlog() == {}
    queue.close()


READ_THROUGH = """
import re, sys
from pathlib import Path
from gateway.delivery.queue import DurableQueue
from tests.support.queue import record, shard
def resident():
    status = Path("/proc/self/status").read_text()
    return sum(int(size) << 10 for size in re.findall(r"Rss(?:File|Anon):\\s+(\\d+) kB", status))
queue = DurableQueue(Path(sys.argv[1]), 1 << 30)
size, count = 2 << 20, 160
for n in range(count):
    queue.commit([(queue.first_sequence + n, record(content=bytes(size)))], [])
before, largest, sequence, total = resident(), 0, queue.first_sequence, 0
while found := list(queue.read(shard(), sequence, 4 << 20)):
    total += sum(stored.record.size for stored in found)
    sequence = found[-1].sequence + 1
    largest = max(largest, resident())
assert total == size * count
print(largest - before)
"""


def test_a_backlog_that_is_read_through_does_not_stay_in_memory(tmp_path: Path) -> None:
    """320 MiB through the map; without dropping pages, all of it would count as ours."""
    run = subprocess.run(
        [sys.executable, "-c", READ_THROUGH, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 64 << 20
