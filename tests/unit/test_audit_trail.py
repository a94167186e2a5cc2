"""What the audit trail promises: nothing in it can be changed, removed or added without `verify` naming the line."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.event import Event, EventType
from gateway.audit.trail import Trail, trail_files
from gateway.audit.verify import Broken, verify

KEY = Ed25519PrivateKey.generate()
PUBLIC = [KEY.public_key()]
MORNING = datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _without_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here pulls the plug of the machine, and thousands of lines are written."""
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


class Clock:
    def __init__(self) -> None:
        self.now = MORNING

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def trail(
    folder: Path, *, clock: Callable[[], datetime] | None = None, max_bytes: int = 1 << 20, keep: int = 9
) -> Trail:
    return Trail(folder, KEY, max_bytes=max_bytes, keep=keep, now=clock or Clock())


def event(number: int, **details: object) -> Event:
    return Event(EventType.RELOAD, MORNING, f"viewer-{number}", "acme", 3, {"number": number, **details})


def write(folder: Path, events: int, *, max_bytes: int = 1 << 20, keep: int = 9, stop: bool = True) -> None:
    """A whole run: start, so many events one by one, stop."""
    written = trail(folder, max_bytes=max_bytes, keep=keep)
    written.append([], "start")
    for number in range(events):
        written.append([event(number)])
    if stop:
        written.append([], "stop")
    written.close()


def files(folder: Path) -> list[Path]:
    return [file.path for file in trail_files(folder)]


def all_lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in files(folder) for line in path.read_bytes().splitlines()]


def broken(folder: Path) -> Broken | None:
    return verify(folder, PUBLIC).broken


@pytest.fixture
def rotated(tmp_path: Path) -> Path:
    """Four files of a few lines each, ending with the anchor of a stop."""
    write(tmp_path, 3, max_bytes=1000)
    assert len(files(tmp_path)) == 4
    return tmp_path


def test_a_trail_as_it_was_written_is_proved(rotated: Path) -> None:
    report = verify(rotated, PUBLIC)
    assert report.broken is None
    lines = all_lines(rotated)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert (report.lines, report.head.sequence, report.unsigned_lines) == (len(lines), len(lines), 0)
    for path in files(rotated):
        kinds = [json.loads(line)["details"].get("kind") for line in path.read_bytes().splitlines()]
        assert kinds[0] == "open"
        assert kinds[-1] in ("close", "stop")


@pytest.mark.parametrize("to_newline", [False, True])
def test_any_one_byte_flipped_is_found_and_its_line_named(rotated: Path, to_newline: bool) -> None:
    for path in files(rotated):
        whole = path.read_bytes()
        for offset in range(len(whole)):
            changed = bytearray(whole)
            changed[offset] = ord("\n") if to_newline else changed[offset] ^ (1 << offset % 8)
            if changed == whole:
                continue
            path.write_bytes(changed)
            found = broken(rotated)
            assert found is not None, f"{path.name} at {offset}"
            assert (found.file, found.line) == (path, whole.count(b"\n", 0, offset) + 1), f"at {offset}: {found}"
        path.write_bytes(whole)
    assert broken(rotated) is None


def test_a_flipped_byte_is_still_found_after_the_gateway_started_again(tmp_path: Path) -> None:
    """Also in the last line, which the restart continues after."""
    write(tmp_path, 3)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    last_line = len(whole.splitlines())
    for offset in range(whole.rindex(b"\n", 0, -1) + 1, len(whole) - 1):
        changed = bytearray(whole)
        changed[offset] ^= 0x01
        path.write_bytes(changed)
        write(tmp_path, 1)
        found = broken(tmp_path)
        assert found is not None
        assert found.line == last_line
        assert "damaged_line" in [json.loads(line)["event"] for line in path.read_bytes().splitlines()[last_line:]]


@pytest.mark.parametrize("change", ["delete", "swap", "duplicate", "insert", "cut"])
def test_no_line_can_be_removed_moved_added_or_cut(rotated: Path, change: str) -> None:
    first_file, *_, last_file = files(rotated)
    for path in files(rotated):
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        foreign = (last_file if path == first_file else first_file).read_bytes().splitlines(keepends=True)[1]
        for index in range(len(lines)):
            tampered = list(lines)
            expected = index + 1
            match change:
                case "delete":
                    del tampered[index]
                    if path == last_file and index == len(lines) - 1:
                        continue  # See test_a_shortened_trail_is_found_by_the_sequence_a_monitor_saw.
                    if index == len(lines) - 1:
                        # Seen where the next file goes on.
                        path.write_bytes(b"".join(tampered))
                        found = broken(rotated)
                        assert found is not None
                        assert (found.file, found.line) == (files(rotated)[files(rotated).index(path) + 1], 1)
                        continue
                case "swap":
                    if index + 1 == len(lines):
                        continue
                    tampered[index], tampered[index + 1] = tampered[index + 1], tampered[index]
                case "duplicate":
                    tampered.insert(index, tampered[index])
                    expected = index + 2
                case "insert":
                    tampered.insert(index, foreign)
                case "cut":
                    tampered[index:] = [tampered[index][:-10]]
            path.write_bytes(b"".join(tampered))
            found = broken(rotated)
            assert found is not None, f"{path.name} {index}"
            assert (found.file, found.line) == (path, expected), str(found)
        path.write_bytes(whole)


def test_a_missing_file_is_named_where_the_trail_goes_on(rotated: Path) -> None:
    first, second, third, *_ = files(rotated)
    second.unlink()
    found = broken(rotated)
    assert found is not None
    assert (found.file, found.line) == (third, 1)
    assert "lines are missing before it" in found.reason
    assert first.exists()


def test_a_shortened_trail_is_found_by_the_sequence_a_monitor_saw(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (path,) = files(tmp_path)
    head = verify(tmp_path, PUBLIC).head.sequence
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    report = verify(tmp_path, PUBLIC)
    assert report.broken is None
    assert report.unsigned_lines > 0
    assert verify(tmp_path, PUBLIC, at_least=head).broken is not None


def rehash(line: dict[str, object]) -> bytes:
    """What a forger without the key can do: make a line whole again."""
    import hashlib

    line.pop("hash")
    content = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    return content + b',"hash":"' + hashlib.sha256(content).hexdigest().encode() + b'"}\n'


def test_a_forger_who_mends_all_hashes_is_stopped_by_the_next_anchor(tmp_path: Path) -> None:
    write(tmp_path, 4)
    (path,) = files(tmp_path)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for forged in range(len(lines)):
        previous, mended = "0" * 64, []
        for index, line in enumerate(lines):
            copy = {**line, "previous": previous}
            if index == forged:
                copy["actor"] = "somebody else"
            mended.append(rehash(copy))
            previous = json.loads(mended[-1])["hash"]
        path.write_bytes(b"".join(mended))
        found = broken(tmp_path)
        assert found is not None
        anchors = [index + 1 for index, line in enumerate(lines) if line["event"] == "anchor" and index >= forged]
        assert found.line == anchors[0]
        assert "signature" in found.reason


def test_a_forger_who_mends_one_line_only_is_stopped_by_the_next(tmp_path: Path) -> None:
    write(tmp_path, 4)
    (path,) = files(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    for forged in range(len(lines) - 1):
        line = json.loads(lines[forged])
        if line["event"] == "anchor":
            continue
        mended = rehash({**line, "actor": "somebody else"})
        path.write_bytes(b"".join([*lines[:forged], mended, *lines[forged + 1 :]]))
        found = broken(tmp_path)
        assert found is not None
        assert (found.line, "it does not follow from the line before it" in found.reason) == (forged + 2, True)


def test_a_trail_signed_with_another_key_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    stranger = Ed25519PrivateKey.generate().public_key()
    found = verify(tmp_path, [stranger]).broken
    assert found is not None
    assert "another key" in found.reason
    assert verify(tmp_path, [stranger, *PUBLIC]).broken is None


def test_a_change_of_keys_must_be_vouched_for(tmp_path: Path) -> None:
    write(tmp_path, 1)
    second = Ed25519PrivateKey.generate()
    written = Trail(tmp_path, second, max_bytes=1 << 20, keep=9, now=Clock())
    written.append([event(1)], "start")
    written.close()
    found = verify(tmp_path).broken
    assert found is not None
    assert "the key changes here" in found.reason
    assert verify(tmp_path, [*PUBLIC, second.public_key()]).broken is None


def test_what_is_left_when_the_oldest_files_are_gone_begins_at_an_anchor(tmp_path: Path) -> None:
    write(tmp_path, 30, max_bytes=2500, keep=3)
    assert len(files(tmp_path)) == 3
    report = verify(tmp_path, PUBLIC)
    assert report.broken is None
    assert report.first_sequence > 1
    # But not in the middle of a file, even at an anchor and under a fitting name.
    oldest = files(tmp_path)[0]
    lines = oldest.read_bytes().splitlines(keepends=True)
    oldest.unlink()
    cut = tmp_path / f"audit-{json.loads(lines[2])['seq']:012}-2026-03-01.jsonl"
    cut.write_bytes(b"".join(lines[2:]))
    found = broken(tmp_path)
    assert found is not None
    assert (found.file, found.line) == (cut, 1)


def test_a_restart_continues_the_chain_and_says_how_the_former_run_ended(tmp_path: Path) -> None:
    write(tmp_path, 2)
    write(tmp_path, 2, stop=False)
    write(tmp_path, 2)
    assert verify(tmp_path, PUBLIC).broken is None
    starts = [line["details"] for line in all_lines(tmp_path) if line["details"].get("kind") == "start"]
    assert [start["former_run"] for start in starts] == ["none", "stopped", "unfinished"]


def test_a_line_torn_by_a_crash_is_set_aside_at_any_length_and_recorded(tmp_path: Path) -> None:
    write(tmp_path, 3, stop=False)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert broken(tmp_path) is not None
        write(tmp_path, 1)
        assert broken(tmp_path) is None
        torn = next(line for line in all_lines(tmp_path) if line["event"] == "torn_line")
        kept = tmp_path / str(torn["details"]["set_aside"])
        assert kept.read_bytes() == whole[last:cut]
        assert torn["details"]["bytes"] == cut - last
    # What was set aside is part of what is proved.
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    found = broken(tmp_path)
    assert found is not None
    assert "was changed" in found.reason
    kept.unlink()
    assert "is missing" in str(broken(tmp_path))


def test_a_file_with_nothing_but_a_torn_line_is_begun_again(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (path,) = files(tmp_path)
    lines = len(path.read_bytes().splitlines())
    (tmp_path / f"audit-{lines + 1:012}-2026-03-02.jsonl").write_bytes(b'{"v":1,"seq":')
    write(tmp_path, 3)
    assert broken(tmp_path) is None
    assert "torn_line" in [line["event"] for line in all_lines(tmp_path)]


def test_every_day_has_its_anchor_also_when_nothing_happens(tmp_path: Path) -> None:
    clock = Clock()
    written = trail(tmp_path, clock=clock)
    written.append([], "start")
    for _ in range(3):
        written.rotate_if_due()
        clock.now += timedelta(days=1)
        written.rotate_if_due()
        written.rotate_if_due()
    written.close()
    assert len(files(tmp_path)) == 4
    report = verify(tmp_path, PUBLIC)
    assert (report.broken, report.anchors) == (None, 8)


def test_a_file_taken_away_while_it_is_written_leaves_a_gap_that_is_named(tmp_path: Path) -> None:
    written = trail(tmp_path)
    written.append([event(1)], "start")
    files(tmp_path)[0].unlink()
    written.append([event(2)], "stop")
    written.close()
    (left,) = files(tmp_path)
    report = verify(tmp_path, PUBLIC)
    # It begins with an anchor, so only whoever knows that nothing was pruned yet can tell; the first sequence says it.
    assert report.first_sequence > 1
    assert left.name.startswith(f"audit-{report.first_sequence:012}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=6), st.text(), st.integers(1000, 4000))
@settings(max_examples=100, deadline=None)
def test_whatever_an_event_holds_its_line_can_be_written_and_proved(
    tmp_path_factory: pytest.TempPathFactory, details: list[dict[str, object]], actor: str, max_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("trail")
    written = trail(folder, max_bytes=max_bytes)
    for detail in details:
        written.append([Event(EventType.RELOAD, MORNING, actor, None, 1, detail)])
    written.append([event(1, text="x" * 100_000, many=list(range(100_000)))], "stop")
    written.close()
    assert broken(folder) is None
