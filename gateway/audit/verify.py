"""Proves a trail, offline: every line is as it was written, none is missing between two, and anchors are signed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.audit.event import EventType
from gateway.audit.keys import fingerprint, from_text
from gateway.audit.line import GENESIS, MAX_LINE_BYTES, BrokenLineError, Head, Line, parse, signed_by
from gateway.audit.trail import TrailFile, trail_files


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place that is not as it was written."""

    file: Path
    line: int
    """Counted from 1; 0 is the file as a whole."""
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


@dataclass(slots=True)
class Report:
    """What was found, up to the first broken line."""

    files: int = 0
    lines: int = 0
    anchors: int = 0
    first_sequence: int = 0
    first_time: str = ""
    head: Head = GENESIS
    last_anchor_time: str = ""
    unsigned_lines: int = 0
    """After the last anchor: chained, but not signed yet."""
    keys: list[Ed25519PublicKey] = field(default_factory=list)
    """That signed anchors, in order of appearance."""
    broken: Broken | None = None

    @property
    def fingerprints(self) -> list[str]:
        return [fingerprint(key) for key in self.keys]


def verify(folder: Path, trusted: Sequence[Ed25519PublicKey] = (), *, at_least: int = 0) -> Report:
    """Read the whole trail in `folder`.

    `trusted`: the keys that may have signed; without any, the one key that the anchors name is taken on trust.
    `at_least`: the sequence that the trail must reach, from `gateway_audit_sequence`. Raises OSError.
    """
    report = Report()
    files = trail_files(folder)
    if not files:
        report.broken = Broken(folder, 0, "there is no audit trail here")
    for file in files:
        number = 0
        try:
            for number, raw in _lines(file.path):
                _check(parse(_whole(raw)), number, file, folder, report, trusted)
        except BrokenLineError as error:
            report.broken = Broken(file.path, number, str(error))
            return report
        if number == 0 and file is not files[-1]:
            report.broken = Broken(file.path, 0, "it is empty, though the trail goes on after it")
            return report
        report.files += 1
    if report.broken is None and report.head.sequence < at_least:
        reason = f"the trail ends with sequence {report.head.sequence}, but it must reach {at_least}: lines are missing"
        report.broken = Broken(files[-1].path, 0, reason)
    return report


def _check(
    line: Line, number: int, file: TrailFile, folder: Path, report: Report, trusted: Sequence[Ed25519PublicKey]
) -> None:
    """Raises BrokenLineError if `line` does not belong here."""
    if report.lines == 0:
        _check_beginning(line, file)
        report.first_sequence, report.first_time = line.sequence, line.time
    else:
        _check_succession(line, report.head)
    if number == 1:
        if line.anchor_kind != "open":
            raise BrokenLineError("a file begins with an anchor; this one's first lines are missing")
        if line.sequence != file.first_sequence:
            raise BrokenLineError(
                f"the file is named after sequence {file.first_sequence}, but begins with {line.sequence}"
            )
    if line.event == EventType.ANCHOR:
        _check_anchor(line, report, trusted)
        report.anchors += 1
        report.last_anchor_time = line.time
        report.unsigned_lines = 0
    else:
        report.unsigned_lines += 1
    if line.event == EventType.TORN_LINE:
        _check_set_aside(line, folder)
    report.lines += 1
    report.head = line.head


def _check_beginning(line: Line, file: TrailFile) -> None:
    """The first line of all follows nothing, or, where the oldest files are gone, is an anchor (see `_check`)."""
    if line.sequence < 1 or (line.sequence == 1 and line.previous != GENESIS.hash):
        raise BrokenLineError(f"{file.path.name} does not begin a chain")


def _check_succession(line: Line, head: Head) -> None:
    expected = head.sequence + 1
    if line.sequence > expected:
        raise BrokenLineError(f"sequence {line.sequence} stands where {expected} belongs: lines are missing before it")
    if line.sequence < expected:
        raise BrokenLineError(f"sequence {line.sequence} stands where {expected} belongs: it is not in its place")
    if line.previous != head.hash:
        raise BrokenLineError("it does not follow from the line before it: that line, or this one, was replaced")


def _check_anchor(line: Line, report: Report, trusted: Sequence[Ed25519PublicKey]) -> None:
    named = from_text(line.details.get("public_key"))
    if named is None:
        raise BrokenLineError("the anchor names no key")
    if trusted and named not in trusted:
        raise BrokenLineError(f"the anchor is signed with another key, {fingerprint(named)}, than those given")
    if not signed_by(line, named):
        raise BrokenLineError("the anchor's signature is not right: it was forged or changed")
    if named not in report.keys:
        if report.keys and not trusted:
            raise BrokenLineError(
                f"the key changes here to {fingerprint(named)}; if that is right, give both public keys in one file "
                "with --public-key"
            )
        report.keys.append(named)


def _check_set_aside(line: Line, folder: Path) -> None:
    """The unfinished line that a crash left is kept in a file of its own, named by the event."""
    name = str(line.details.get("set_aside"))
    path = folder / Path(name).name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise BrokenLineError(f"it names {name}, which is missing") from None
    if digest != line.details.get("sha256"):
        raise BrokenLineError(f"it names {name}, which was changed")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines with their newlines, counted from 1; none longer than one byte too much."""
    with path.open("rb") as file:
        yield from enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1)


def _whole(raw: bytes) -> bytes:
    """The line without its newline. Raises BrokenLineError if it has none."""
    if raw.endswith(b"\n"):
        return raw[:-1]
    if len(raw) > MAX_LINE_BYTES:
        raise BrokenLineError("it is longer than any line that the gateway writes")
    raise BrokenLineError("it is unfinished: it was cut, or a crash cut it and the gateway has not started since")
