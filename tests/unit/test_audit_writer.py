"""The audit trail under load and on a bad disk: nobody waits, and nothing is lost without a line that says so."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from gateway.audit.event import Event, EventType
from gateway.audit.metrics import AuditCollector
from gateway.audit.trail import AnchorKind, Trail, trail_files
from gateway.audit.verify import verify
from gateway.audit.writer import Writer
from tests.support.processes import wait_until

# The same in the children that tests start.
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def now() -> datetime:
    return datetime.now(UTC)


def event(number: int = 0) -> Event:
    return Event(EventType.RELOAD, now(), "tester", details={"number": number})


def writer(folder: Path, *, capacity: int = 100, max_bytes: int = 1 << 20) -> Writer:
    trail = Trail(folder, KEY, max_bytes=max_bytes, keep=1000, now=now)
    return Writer(trail, now=now, capacity=capacity, retry_s=0.02, tick_s=0.05)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for file in trail_files(folder) for line in file.path.read_bytes().splitlines()]


def proved(folder: Path) -> bool:
    report = verify(folder, [KEY.public_key()])
    assert report.broken is None, str(report.broken)
    return report.unsigned_lines == 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> "Disk":
    return Disk(monkeypatch)


class Disk:
    """`os.write` of files, made to fail or to take a part only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: int | None = None
        self.takes_bytes_before_it_fails = 0
        self._write = os.write
        monkeypatch.setattr("os.write", self.write)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.error is None:
            return self._write(descriptor, data)
        if self.takes_bytes_before_it_fails:
            taken, self.takes_bytes_before_it_fails = self.takes_bytes_before_it_fails, 0
            return self._write(descriptor, bytes(data)[:taken])
        raise OSError(self.error, os.strerror(self.error))


def test_everything_submitted_is_written_in_order_and_signed(tmp_path: Path) -> None:
    written = writer(tmp_path, capacity=5000, max_bytes=64 << 10)
    written.start()
    threads = [threading.Thread(target=lambda: [written.submit(event(n)) for n in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written.close(10)
    assert proved(tmp_path)
    assert sum(line["event"] == "reload" for line in lines(tmp_path)) == 2000
    stats = written.stats()
    assert stats.written["reload"] == 2000
    assert sum(stats.written.values()) == stats.sequence == len(lines(tmp_path))
    assert stats.lost == {"overflow": 0, "disk_full": 0, "write_error": 0}


@pytest.mark.parametrize("partly", [0, 1, 100, 250])
def test_a_full_disk_holds_events_back_and_what_overflows_is_counted_and_told(
    tmp_path: Path, disk: Disk, partly: int
) -> None:
    written = writer(tmp_path, capacity=10)
    written.start()
    wait_until(lambda: written.stats().sequence > 0, "the first anchor")
    disk.error, disk.takes_bytes_before_it_fails = errno.ENOSPC, partly
    written.submit(event(-1))
    wait_until(lambda: not written.stats().writable, "the failure")
    for number in range(25):
        started = time.perf_counter()
        written.submit(event(number))
        assert time.perf_counter() - started < 0.1
    lost = written.stats().lost
    assert lost["disk_full"] == 15
    disk.error = None
    wait_until(lambda: written.stats().writable, "the disk to be used again")
    written.submit(event(99))
    written.close(10)
    assert proved(tmp_path)
    told = [line["details"] for line in lines(tmp_path) if line["event"] == "lost"]
    assert told == [{"events": 15, "reasons": {"disk_full": 15}}]
    numbers = [line["details"]["number"] for line in lines(tmp_path) if line["event"] == "reload"]
    assert numbers == [-1, *range(10), 99]


def test_a_full_disk_is_a_gauge_to_alert_on_and_a_counter(tmp_path: Path, disk: Disk) -> None:
    """As docs/operations.md tells whoever writes the alerts."""
    written = writer(tmp_path, capacity=10)
    registry = CollectorRegistry()
    registry.register(AuditCollector(written.stats))

    def shown() -> tuple[float | None, float | None]:
        lost = registry.get_sample_value("gateway_audit_lost_events_total", {"reason": "disk_full"})
        return registry.get_sample_value("gateway_audit_writable"), lost

    written.start()
    wait_until(lambda: written.stats().sequence > 0, "the first anchor")
    assert shown() == (1, 0)
    disk.error = errno.ENOSPC
    written.submit(event())
    wait_until(lambda: shown() == (0, 0), "the failure to be seen")
    for number in range(25):
        written.submit(event(number))
    assert shown() == (0, 15)
    disk.error = None
    wait_until(lambda: shown() == (1, 15), "the disk to be used again")
    written.close(10)
    assert proved(tmp_path)


def test_overflow_is_told_apart_from_a_bad_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    sync = os.fsync
    monkeypatch.setattr("os.fsync", lambda descriptor: (slow.wait(10), sync(descriptor))[1])
    written = writer(tmp_path, capacity=10)
    written.start()
    for number in range(30):
        written.submit(event(number))
    assert written.stats().lost["overflow"] == 20
    slow.set()
    written.close(10)
    assert proved(tmp_path)
    assert [line["details"]["events"] for line in lines(tmp_path) if line["event"] == "lost"] == [20]


def test_a_failed_sync_counts_as_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = writer(tmp_path)
    written.start()
    wait_until(lambda: written.stats().sequence > 0, "the first anchor")
    failures = iter([True, True, False])
    sync = os.fsync

    def failing(descriptor: int) -> None:
        if next(failures, False):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", failing)
    written.submit(event(1))
    wait_until(lambda: written.stats().written.get("reload", 0) == 1, "the line")
    assert next(failures, None) is None, "the sync was tried until it worked"
    written.close(10)
    assert proved(tmp_path)
    assert sum(line["event"] == "reload" for line in lines(tmp_path)) == 1


def test_an_event_that_cannot_be_written_does_not_keep_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = writer(tmp_path)
    written.start()
    wait_until(lambda: written.stats().sequence > 0, "the first anchor")
    encode = Trail.append

    def failing(trail: Trail, events: list[Event], anchor: AnchorKind | None = None) -> None:
        if any(event.details.get("number") == 13 for event in events):
            raise TypeError("a bug")
        encode(trail, events, anchor)

    monkeypatch.setattr(Trail, "append", failing)
    written.submit(event(13))
    wait_until(lambda: written.stats().lost["write_error"] == 1, "the loss")
    written.submit(event(14))
    written.close(10)
    assert proved(tmp_path)
    assert [line["event"] for line in lines(tmp_path) if line["event"] != "anchor"] == ["lost", "reload"]


def test_a_disk_that_stays_full_does_not_hold_up_the_stop(tmp_path: Path, disk: Disk) -> None:
    written = writer(tmp_path)
    written.start()
    wait_until(lambda: written.stats().sequence > 0, "the first anchor")
    disk.error = errno.ENOSPC
    for number in range(5):
        written.submit(event(number))
    started = time.monotonic()
    written.close(10)
    assert time.monotonic() - started < 5
    assert written.stats().lost["disk_full"] == 5


LIMITED = """
import resource, sys, time
from pathlib import Path
from gateway import logs
from tests.unit.test_audit_writer import event, writer
logs.configure("error", "json")
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, {hard}))
written = writer(Path(sys.argv[1]), max_bytes=1 << 20)
written.start()
for number in range(40):
    written.submit(event(number))
deadline = time.monotonic() + 20
while written.stats().writable and time.monotonic() < deadline:
    time.sleep(0.01)
print(written.stats().writable, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, ({hard}, {hard}))
while not written.stats().writable and time.monotonic() < deadline:
    time.sleep(0.01)
written.close(10)
print(sum(written.stats().lost.values()))
"""


def test_a_file_that_the_kernel_refuses_to_grow_is_a_full_disk_and_heals(tmp_path: Path) -> None:
    """With a real error of the kernel, in the middle of a write."""
    script = LIMITED.format(hard=resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.split() == ["False", "0"], result.stderr
    assert proved(tmp_path)
    assert sum(line["event"] == "reload" for line in lines(tmp_path)) == 40


KILLED = """
import sys
from pathlib import Path
from tests.unit.test_audit_writer import event, writer
written = writer(Path(sys.argv[1]), capacity=100000, max_bytes=20000)
written.start()
number = 0
while True:
    written.submit(event(number))
    number += 1
    if number % 100 == 0 and written.stats().written.get("reload"):
        print("writing", flush=True)
"""


def test_a_trail_survives_kill_9_again_and_again(tmp_path: Path) -> None:
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.05)
        child.kill()
        child.wait()
        child.stdout.close()
    written = writer(tmp_path)
    written.start()
    written.close(10)
    assert proved(tmp_path)
    assert [line["details"]["former_run"] for line in lines(tmp_path) if line["details"].get("kind") == "start"] == [
        "none", "unfinished", "unfinished", "unfinished", "unfinished",
    ]  # fmt: skip


def test_a_folder_that_vanishes_is_an_error_that_heals(tmp_path: Path) -> None:
    folder = tmp_path / "trail"
    folder.mkdir()
    written = writer(folder)
    written.start()
    wait_until(lambda: written.stats().sequence > 0, "the first anchor")
    folder.rename(tmp_path / "elsewhere")
    written.submit(event(1))
    wait_until(lambda: not written.stats().writable, "the failure")
    (tmp_path / "elsewhere").rename(folder)
    wait_until(lambda: written.stats().writable, "the folder to be used again")
    written.close(10)
    assert proved(folder)
    assert [line["details"]["number"] for line in lines(folder) if line["event"] == "reload"] == [1]
