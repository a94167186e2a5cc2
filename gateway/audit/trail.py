"""The trail on disk: files of chained lines, rotated, continued after a restart. For one thread; raises OSError.

Every file begins and, once it is closed, ends with an anchor, so each is provable on its own, and a history whose
oldest files are gone begins at a signature.
"""

import fcntl
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.event import Event, EventType
from gateway.audit.keys import to_text
from gateway.audit.line import GENESIS, MAX_LINE_BYTES, BrokenLineError, Head, encode, encode_anchor, parse

log = structlog.get_logger(__name__)

AnchorKind = Literal["open", "close", "start", "stop"]
ACTOR = "audit"
_NAME = re.compile(r"audit-(\d{12})-(\d{4}-\d{2}-\d{2})\.jsonl")
_TORN_NAME = re.compile(r"torn-(\d{12})\.bin")


class AuditError(Exception):
    """The trail cannot be written at all; the message says why and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class TrailFile:
    """A file of the trail, by the sequence that it begins with and the day that it was begun."""

    first_sequence: int
    day: date
    path: Path

    @classmethod
    def named(cls, folder: Path, first_sequence: int, day: date) -> "TrailFile":
        return cls(first_sequence, day, folder / f"audit-{first_sequence:012}-{day.isoformat()}.jsonl")


def trail_files(folder: Path) -> list[TrailFile]:
    """The files of a trail, oldest first. Raises OSError."""
    files = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        with suppress(ValueError):
            if match is not None:
                files.append(TrailFile(int(match[1]), date.fromisoformat(match[2]), path))
    return sorted(files)


def lock(folder: Path) -> int:
    """Make `folder` and keep every other gateway out of it. Returns the lock's file descriptor. Raises AuditError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AuditError(f"cannot write the audit trail to {folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AuditError(
            f"another gateway writes the audit trail in {folder}; stop it, or name another audit.dir"
        ) from None
    return descriptor


class Trail:
    """Appends lines. What could not be written leaves no trace: the same call may be made again."""

    def __init__(
        self, folder: Path, key: Ed25519PrivateKey, *, max_bytes: int, keep: int, now: Callable[[], datetime]
    ) -> None:
        self._folder = folder
        self._key = key
        self._max_bytes = max_bytes
        self._keep = keep
        self._now = now
        self._file: TrailFile | None = None
        self._descriptor = -1
        self._size = 0
        self._partial = False
        """A write failed in the middle, and its bytes are still in the file."""
        self._head: Head | None = None
        self._last_anchor: str | None = None
        """Kind of the last line, if it is an anchor."""
        self._generation = 0
        """Of the last event: what the trail says of itself is said under it."""
        self._findings: list[Event] = []
        """What recovery found and has yet to say."""
        self._former_run = "none"
        """How the run before this one ended: none, stopped, unfinished."""
        self.written: Counter[str] = Counter()
        """Lines since the start, by event type."""

    @property
    def sequence(self) -> int:
        """Of the last line."""
        return self._head.sequence if self._head is not None else 0

    def append(self, events: Sequence[Event], anchor: AnchorKind | None = None) -> None:
        """Write `events` and, after them, an anchor; all of it is on disk on return, or none of it."""
        self._open()
        events = [*self._findings, *events]
        if self._due(sum(len(encode(event, GENESIS)[0]) for event in events)):
            self._rotate()
        self._write(events, anchor)
        self._findings = []

    def rotate_if_due(self) -> None:
        """The daily anchor of a gateway to which nothing happens."""
        self._open()
        if self._due(0):
            self._rotate()
            self._write([], None)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._file = None

    # Where the chain goes on.

    def _open(self) -> None:
        if self._file is not None and not self._file.path.exists():
            # Somebody took the file away; verification will name the gap.
            log.error("a file of the audit trail has gone", file=str(self._file.path))
            self.close()
        if self._file is not None:
            return
        if self._head is None:
            self._recover()
        if self._file is None:
            self._begin_file()

    def _recover(self) -> None:
        """Continue after the last complete line; what a crash left behind it is set aside."""
        files = trail_files(self._folder)
        while files:
            file = files.pop()
            content_size, last_line = _end_of(file.path)
            size = file.path.stat().st_size
            if size > content_size:
                self._findings.append(self._set_aside(file, content_size, size))
            if last_line is None:
                file.path.unlink()
                continue
            try:
                line = parse(last_line)
                self._head, self._last_anchor = line.head, line.anchor_kind
            except BrokenLineError as error:
                # The chain goes on behind it, so that verification names this line and nothing else.
                lines = file.path.read_bytes().count(b"\n")
                self._head = Head(file.first_sequence + lines - 1, hashlib.sha256(last_line).hexdigest())
                details: dict[str, object] = {"file": file.path.name, "reason": str(error)}
                self._findings.append(self._event(EventType.DAMAGED_LINE, details))
                log.error("the last line of the audit trail is damaged", file=str(file.path), reason=str(error))
            self._former_run = "stopped" if self._last_anchor == "stop" and not self._findings else "unfinished"
            self._attach(file, os.O_APPEND)
            return
        self._head = GENESIS

    def _set_aside(self, file: TrailFile, start: int, end: int) -> Event:
        """Move the bytes of an unfinished line into a file of their own."""
        with file.path.open("r+b") as content:
            content.seek(start)
            torn = content.read(end - start)
            lines_before = _count_lines(file.path, start)
            kept = self._folder / f"torn-{file.first_sequence + lines_before:012}.bin"
            with kept.open("wb") as out:
                out.write(torn)
                out.flush()
                os.fsync(out.fileno())
            content.truncate(start)
            os.fsync(content.fileno())
        log.warning("the audit trail ended in an unfinished line", set_aside=str(kept), size_bytes=len(torn))
        details = {"file": file.path.name, "set_aside": kept.name, "bytes": len(torn)}
        return self._event(EventType.TORN_LINE, {**details, "sha256": hashlib.sha256(torn).hexdigest()})

    def _begin_file(self) -> None:
        assert self._head is not None, "recovery comes first"  # noqa: S101
        file = TrailFile.named(self._folder, self._head.sequence + 1, self._now().date())
        self._attach(file, os.O_APPEND | os.O_CREAT)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _attach(self, file: TrailFile, flags: int) -> None:
        self._descriptor = os.open(file.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size
        self._file = file
        self._partial = False

    # Rotation.

    def _due(self, more_bytes: int) -> bool:
        if self._file is None or self._size == 0:
            return False
        # Anchors and the line of a loss come on top, so the bound holds to within a few lines.
        return self._size + more_bytes > self._max_bytes or self._now().date() > self._file.day

    def _rotate(self) -> None:
        if self._last_anchor != "close":
            self._write([], "close")
        self.close()
        self._begin_file()
        self._prune()

    def _prune(self) -> None:
        files = trail_files(self._folder)
        kept = files[-self._keep :]
        torn = [
            path
            for path in self._folder.iterdir()
            if (match := _TORN_NAME.fullmatch(path.name)) and int(match[1]) < kept[0].first_sequence
        ]
        for path in (*(file.path for file in files[: -self._keep]), *torn):
            try:
                path.unlink()
            except OSError as error:
                log.warning("an old audit file cannot be deleted", file=str(path), error=str(error))

    # Lines.

    def _write(self, events: Sequence[Event], anchor: AnchorKind | None) -> None:
        assert self._head is not None, "recovery comes first"  # noqa: S101
        lines: list[bytes] = []
        head = self._head
        if self._size == 0:
            line, head = encode_anchor(self._anchor("open"), head, self._key)
            lines.append(line)
        for event in events:
            line, head = encode(event, head)
            lines.append(line)
        if anchor is not None:
            line, head = encode_anchor(self._anchor(anchor), head, self._key)
            lines.append(line)
        opened = self._size == 0
        self._put(b"".join(lines))
        self._head = head
        self._generation = events[-1].generation if events else self._generation
        self._last_anchor = anchor or ("open" if opened and not events else None)
        self.written.update(event.type.value for event in events)
        if anchors := opened + (anchor is not None):
            self.written[EventType.ANCHOR.value] += anchors

    def _put(self, data: bytes) -> None:
        """All of `data`, synced, at the end of the file; on an error the file is as it was."""
        if self._partial:
            os.ftruncate(self._descriptor, self._size)
            self._partial = False
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            # After a failed sync the kernel may forget the bytes: they are written again.
            self._partial = True
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                self._partial = False
            raise
        self._size += len(data)

    def _anchor(self, kind: AnchorKind) -> Event:
        details: dict[str, object] = {"kind": kind, "public_key": to_text(self._key.public_key())}
        if kind == "start":
            details["former_run"] = self._former_run
        return self._event(EventType.ANCHOR, details)

    def _event(self, kind: EventType, details: dict[str, object]) -> Event:
        return Event(kind, self._now(), ACTOR, None, self._generation, details)


def _end_of(path: Path) -> tuple[int, bytes | None]:
    """Bytes up to and with the last newline, and the line that it ends."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        window = 2 * MAX_LINE_BYTES
        while True:
            start = max(0, size - window)
            file.seek(start)
            tail = file.read(size - start)
            end = tail.rfind(b"\n")
            before = tail.rfind(b"\n", 0, max(end, 0))
            if start == 0 or (end >= 0 and before >= 0):
                break
            window *= 2
    if end < 0:
        return 0, None
    return start + end + 1, tail[before + 1 : end]


def _count_lines(path: Path, end: int) -> int:
    with path.open("rb") as file:
        return file.read(end).count(b"\n")
