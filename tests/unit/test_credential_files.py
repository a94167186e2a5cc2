"""Credentials in files: read again when they change, and waited for when they are not there."""

import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.delivery.senders import watched
from gateway.delivery.senders.destinations import Sender
from gateway.delivery.senders.outcome import Delivered, Held, Outcome
from gateway.delivery.senders.watched import Watched
from gateway.types import Lane, Signal
from tests.support.scripted import Backend, scripted, scripted_grpc
from tests.support.sender import opened

PROTOCOLS = {"http": scripted, "grpc": scripted_grpc}


@pytest.fixture(autouse=True)
def looked_at_with_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_INTERVAL_S", 0.0)


def sender_to(backend: Backend, protocol: str, **settings: Any) -> AbstractAsyncContextManager[Sender]:
    return opened({"type": "otlp", "endpoint": backend.url, "protocol": protocol, "timeout": "2s", **settings})


async def send(sender: Sender) -> Outcome:
    return await sender.send(Lane("acme", "backend", Signal.TRACES), [b"something"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_token_that_is_replaced_is_used_from_the_next_request_on(tmp_path: Path, protocol: str) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with PROTOCOLS[protocol]() as backend, sender_to(backend, protocol, bearer_token_file=file) as sender:
        assert await send(sender) == Delivered()
        (tmp_path / "new").write_text("second")
        (tmp_path / "new").replace(file)
        assert await send(sender) == Delivered()
        file.write_text("the third")
        assert await send(sender) == Delivered()
    shown = [headers["authorization"] for headers in backend.headers]
    assert shown == ["Bearer first", "Bearer second", "Bearer the third"]


REFUSED = {"http": 401, "grpc": (grpc.StatusCode.UNAUTHENTICATED, b"")}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_token_that_is_refused_is_looked_for_at_once(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "LOOK_INTERVAL_S", 1000.0)
    file = tmp_path / "token"
    file.write_text("first")
    refused = REFUSED[protocol]
    async with (
        PROTOCOLS[protocol](refused, b"" if protocol == "grpc" else 204, refused) as backend,
        sender_to(backend, protocol, bearer_token_file=file) as sender,
    ):
        file.write_text("second")
        assert await send(sender) == Delivered()
        assert isinstance(await send(sender), Held), "it is the same as before"
    shown = [headers["authorization"] for headers in backend.headers]
    assert shown == ["Bearer first", "Bearer second", "Bearer second"]


async def test_a_secret_that_a_container_swaps_by_its_symlink_is_seen(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(version)
        os.utime(tmp_path / version / "token", (1, 1))
    data = tmp_path / "data"
    data.symlink_to("one")
    async with scripted() as backend, sender_to(backend, "http", bearer_token_file=data / "token") as sender:
        await send(sender)
        (tmp_path / "swap").symlink_to("two")
        (tmp_path / "swap").replace(data)
        await send(sender)
    assert [headers["authorization"] for headers in backend.headers] == ["Bearer one", "Bearer two"]


UNUSABLE = [(b"", "is empty"), (b" \n", "is empty"), (b"a\nb", "is not one line"), (b"\xff", "is not one line")]
UNUSABLE += [(None, "No such file"), (b"x" * 70_000, "is not one line"), ("pä:ss".encode(), "printable ASCII")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("content", "why"), UNUSABLE)
async def test_without_a_token_nothing_is_sent_until_there_is_one(
    tmp_path: Path, protocol: str, content: bytes | None, why: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    async with PROTOCOLS[protocol]() as backend, sender_to(backend, protocol, bearer_token_file=file) as sender:
        outcome = await send(sender)
        assert outcome == Held("no_credential")
        assert why in outcome.detail
        assert not backend.bodies
        file.write_text("here it is")
        assert await send(sender) == Delivered()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_password_is_read_from_its_file(tmp_path: Path, protocol: str) -> None:
    file = tmp_path / "password"
    file.write_text("pä:ss\n")
    user = {"username": "me", "password_file": file}
    async with PROTOCOLS[protocol]() as backend, sender_to(backend, protocol, basic_auth=user) as sender:
        assert await send(sender) == Delivered()
    assert backend.headers[0]["authorization"] == "Basic bWU6cMOkOnNz"


async def test_a_file_is_looked_at_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_INTERVAL_S", 1.0)
    now, made = [0.0], []
    file = tmp_path / "f"
    file.write_text("1")
    watching = Watched([file], lambda: made.append(file.read_text()) or len(made), made.append, lambda: now[0])
    file.write_text("22")
    assert [await watching.get() for now[0] in (0.5, 0.9, 1.0, 1.5, 2.1)] == [1, 1, 2, 2, 2]
    file.write_text("333")
    assert [await watching.get() for now[0] in (2.5, 3.1)] == [2, 3]
    file.unlink()
    assert [await watching.get() for now[0] in (5.0, 7.0)] == [3, 3]
    assert [type(found).__name__ for found in made] == ["str", "str", "str", "FileNotFoundError"], "told once"
