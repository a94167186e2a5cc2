"""What a backend refuses for good is kept, and sent again when somebody asks for it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.models import Config
from gateway.delivery.dead_letter import BadLetterError, Letter
from gateway.delivery.delivery import Delivery
from gateway.types import Lane, Signal
from tests.support.scripted import Backend, scripted
from tests.support.small_engine import LANE, Batch, SmallEngine, until

CLI = CliRunner()


def config(folder: Path, url: str, **destination: Any) -> dict[str, Any]:
    backend = {"type": "loki", "url": url, "retry": {"initial": "10ms", "max": "20ms"}, "dead_letter": "refused"}
    return {
        "destinations": {
            "backend": {**backend, **destination},
            "refused": {"type": "file", "path": str(folder / "refused" / "{tenant}.jsonl")},
        },
        "queue": {"dir": str(folder / "queue"), "max_bytes": "4MiB"},
        "tenants": {"acme": {}},
    }


async def refuse(folder: Path, settings: dict[str, Any], batches: list[Batch]) -> Delivery:
    engine = SmallEngine()
    delivery = await Delivery.open(Config.model_validate(settings), engine=engine)
    await delivery.start()
    for batch in batches:
        engine.close_batch(batch)
    await until(lambda: len(engine.acked) == len(batches))
    await until(lambda: delivery.counters()[LANE].queued == 0)
    await delivery.drain(2.0)
    return delivery


def letters(folder: Path, name: str = "acme.jsonl") -> list[Letter]:
    return [Letter.parse(line) for line in (folder / "refused" / name).read_bytes().splitlines()]


async def test_what_a_backend_refuses_is_in_the_file_with_its_reason(tmp_path: Path) -> None:
    async with scripted(260) as backend:
        delivery = await refuse(tmp_path, config(tmp_path, backend.url), [Batch(1, b"x" * 10, items=3)])
    assert delivery.counters()[LANE].dropped == {"blocked": 3}
    (letter,) = letters(tmp_path)
    assert (letter.lane, letter.format, letter.reason, letter.items) == (LANE, "loki", "blocked", 3)
    assert b"".join(letter.parts) == b"x" * 10


async def test_what_grew_too_old_is_kept_as_well(tmp_path: Path) -> None:
    retry = {"initial": "10ms", "max": "20ms", "max_age": "1s"}
    async with scripted(*[503] * 50) as backend:
        await refuse(tmp_path, config(tmp_path, backend.url, retry=retry), [Batch(1, b"x")])
    assert [letter.reason for letter in letters(tmp_path)] == ["too_old"]


async def test_nothing_leaves_the_queue_before_its_letter_is_on_disk(tmp_path: Path) -> None:
    settings, engine = config(tmp_path, ""), SmallEngine()
    (tmp_path / "refused").write_text("a file where a folder should be")
    async with scripted(260) as backend:
        settings["destinations"]["backend"]["url"] = backend.url
        delivery = await Delivery.open(Config.model_validate(settings), engine=engine)
        await delivery.start()
        engine.close_batch(Batch(1, b"x"))
        await until(lambda: len(backend.bodies) == 1)
        await until(lambda: delivery.counters()[LANE].queued == 10)
        (tmp_path / "refused").unlink()
        await until(lambda: delivery.counters()[LANE].dropped == {"blocked": 10})
        await delivery.drain(1.0)
    assert len(letters(tmp_path)) == 1


def replay(folder: Path, settings: dict[str, Any], *arguments: str) -> Any:
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
    file = str(folder / "refused" / "acme.jsonl")
    return CLI.invoke(app, ["replay", "-c", str(folder / "gateway.yaml"), file, *arguments])


@pytest.fixture
async def refused(tmp_path: Path) -> Path:
    """A folder with the letters of two refused batches."""
    async with scripted(260, 260) as backend:
        settings = config(tmp_path, backend.url, max_request_bytes=1024)
        await refuse(tmp_path, settings, [Batch(1, b"first" * 200), Batch(2, b"second" * 200)])
    return tmp_path


async def in_thread(function: Any, *arguments: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(function, *arguments)


async def replayed(folder: Path, *script: Any, arguments: tuple[str, ...] = ()) -> tuple[Any, Backend]:
    async with scripted(*script) as backend:
        return await in_thread(replay, folder, config(folder, backend.url), *arguments), backend


async def test_letters_that_are_taken_leave_the_file(refused: Path) -> None:
    result, backend = await replayed(refused, 503, 204, 204)
    assert result.exit_code == 0, result.output
    assert "20 items delivered" in result.stdout
    assert len(backend.bodies) == 3
    assert os.listdir(refused / "refused") == []


async def test_letters_that_are_refused_again_stay_in_a_file_that_can_be_replayed(refused: Path) -> None:
    result, _ = await replayed(refused, 204, 260)
    assert result.exit_code == 1
    assert "10 items were not taken: blocked" in result.stderr
    left = letters(refused, "acme.jsonl.replaying")
    assert [b"".join(letter.parts) for letter in left] == [b"second" * 200]
    # Not under the name that the gateway writes to, and not overwritten by the next replay of that.
    (refused / "refused" / "acme.jsonl").write_bytes(left[0].line())
    again, _ = await replayed(refused)
    assert again.exit_code == 2
    assert "replay it first" in again.stderr
    (refused / "refused" / "acme.jsonl").unlink()
    (refused / "refused" / "acme.jsonl.replaying").rename(refused / "refused" / "acme.jsonl")
    result, _ = await replayed(refused)
    assert result.exit_code == 0


async def test_only_what_is_asked_for_is_sent(refused: Path) -> None:
    for arguments in (("--tenant", "globex"), ("--reason", "http_400"), ("--destination", "other")):
        result, backend = await replayed(refused, arguments=arguments)
        assert (result.exit_code, backend.bodies) == (0, [])
        assert len(letters(refused, "acme.jsonl.replaying")) == 2
        (refused / "refused" / "acme.jsonl.replaying").rename(refused / "refused" / "acme.jsonl")


async def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(refused: Path) -> None:
    result, backend = await replayed(refused, arguments=("--dry-run",))
    assert (result.exit_code, backend.bodies) == (0, [])
    assert "20 items of acme (logs), given up for blocked, would go to backend" in result.stdout
    assert len(letters(refused)) == 2


async def test_letters_go_only_where_their_format_is_taken(refused: Path) -> None:
    async with scripted() as backend:
        settings = config(refused, backend.url)
        settings["destinations"]["jaeger"] = {"type": "otlp", "endpoint": backend.url, "protocol": "http"}
        result = await in_thread(replay, refused, settings, "--to", "jaeger")
        assert (result.exit_code, backend.bodies) == (1, [])
        assert "jaeger does not take the format loki" in result.stderr


async def test_lines_that_are_no_letters_are_kept_and_counted(refused: Path) -> None:
    with (refused / "refused" / "acme.jsonl").open("ab") as file:
        file.write(b'{"resourceSpans":[]}\n')
    result, _ = await replayed(refused)
    assert result.exit_code == 1
    assert "1 lines are no dead letters" in result.stderr
    assert (refused / "refused" / "acme.jsonl.replaying").read_bytes() == b'{"resourceSpans":[]}\n'


@settings(deadline=None)
@given(
    st.text(min_size=1),
    st.sampled_from(Signal),
    st.binary(),
    st.integers(0, 1 << 40),
    st.floats(0, 4e9),
)
def test_a_letter_is_read_as_it_was_written(tenant: str, signal: Signal, payload: bytes, items: int, at: float) -> None:
    tenant = tenant.encode("utf-8", "ignore").decode()
    letter = Letter(Lane(tenant, "loki", signal), "loki", "http_400", items, at, (payload,))
    read = Letter.parse(letter.line())
    assert (read.lane, read.items, read.parts) == (letter.lane, items, (payload,))
    assert read.time == pytest.approx(at, abs=0.002)


@pytest.mark.parametrize(
    "change",
    [{"dead_letter": 2}, {"format": "avro"}, {"signal": "profiles"}, {"payload": "no base64"}, {"items": None}],
)
def test_a_line_that_is_no_letter_is_named_as_such(change: dict[str, Any]) -> None:
    letter = Letter(LANE, "loki", "http_400", 1, 0.0, (b"x",))
    with pytest.raises(BadLetterError):
        Letter.parse(json.dumps({**json.loads(letter.line()), **change}).encode())
