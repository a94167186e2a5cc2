"""Tokens by the client credentials grant, against a token endpoint that is strict, and others that are not well."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.config.credentials import OAuth2
from gateway.delivery.senders.credentials.credential import NoCredentialError
from gateway.delivery.senders.credentials.oauth2 import ClientCredentials
from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Retry
from gateway.types import Lane, Signal
from tests.support.ports import free_port
from tests.support.scripted import Backend, raw, saying, scripted, scripted_grpc
from tests.support.sender import opened
from tests.support.token_server import TokenServer, error, token_server

PROTOCOLS = {"http": scripted, "grpc": scripted_grpc}
REFUSED = {"http": 401, "grpc": (grpc.StatusCode.UNAUTHENTICATED, b"")}
SECRETS = ("hu:sh/+&é", "hu%3Ash%2F%2B%26%C3%A9", "Z2F0ZSt3YXk6aHUl")


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def credential(server: TokenServer, clock: Clock, **settings: Any) -> AsyncIterator[ClientCredentials]:
    fixed = {"token_url": server.url, "client_id": server.client_id, "client_secret": server.client_secret}
    config = OAuth2.model_validate({**fixed, "timeout": "500ms", **settings})
    async with aiohttp.ClientSession() as session:
        opened = ClientCredentials(config, session, clock)
        try:
            yield opened
        finally:
            await opened.close()


async def token(opened: ClientCredentials) -> str:
    headers = await opened.headers("https://backend/push", {}, ())
    return headers["Authorization"].removeprefix("Bearer ")


async def refusal(opened: ClientCredentials) -> Outcome:
    with pytest.raises(NoCredentialError) as raised:
        await token(opened)
    return raised.value.outcome


@pytest.mark.parametrize("where", ["basic", "body"])
async def test_a_token_is_asked_for_as_the_specification_says(where: str) -> None:
    more = {"scopes": ["read", "write"], "audience": "https://a/?b", "endpoint_params": {"resource": "x y"}}
    async with token_server() as server, credential(server, Clock(), client_auth=where, **more) as opened:
        assert await token(opened) == "token-1"
    form = {"grant_type": "client_credentials", "scope": "read write", "audience": "https://a/?b", "resource": "x y"}
    body = {"client_id": server.client_id, "client_secret": server.client_secret}
    assert server.asked == [form | body if where == "body" else form]


async def test_many_requests_share_one_token_and_wait_for_one_flight() -> None:
    async with token_server() as server, credential(server, Clock()) as opened:
        server.delay_s = 0.05
        assert set(await asyncio.gather(*(token(opened) for _ in range(50)))) == {"token-1"}
        assert len(server.asked) == 1


async def test_who_gives_up_waiting_does_not_end_the_flight_of_the_others() -> None:
    async with token_server() as server, credential(server, Clock()) as opened:
        server.delay_s = 0.1
        first, second = asyncio.create_task(token(opened)), asyncio.create_task(token(opened))
        await asyncio.sleep(0.02)
        first.cancel()
        assert await second == "token-1"
        assert len(server.asked) == 1


@pytest.mark.parametrize("written", [100, "100", 100.0])
async def test_a_token_is_replaced_when_four_fifths_of_its_life_are_over_and_nobody_waits(written: Any) -> None:
    clock = Clock()
    async with token_server() as server, credential(server, clock) as opened:
        server.expires_in = written
        assert await token(opened) == "token-1"
        clock.now += 79
        assert await token(opened) == "token-1"
        assert len(server.asked) == 1
        clock.now += 2
        server.delay_s = 0.05
        assert await token(opened) == "token-1", "it still works while the next is fetched"
        await asyncio.sleep(0.2)
        assert (await token(opened), len(server.asked)) == ("token-2", 2)


async def test_a_token_that_cannot_be_replaced_in_time_serves_to_its_end() -> None:
    clock = Clock()
    async with token_server() as server, credential(server, clock) as opened:
        server.expires_in = 100
        await token(opened)
        server.script = [lambda: web.Response(status=503)] * 100
        clock.now += 90
        for _ in range(10):
            assert await token(opened) == "token-1"
            await asyncio.sleep(0.01)
        assert len(server.asked) == 2, "after a failure the server is left alone for a while"
        clock.now += 11
        assert isinstance(await refusal(opened), Retry)


@pytest.mark.parametrize(("expires_in", "life_s"), [(None, 300), ("soon", 300), (-5, 1), (1e300, 86_400), ([], 300)])
async def test_a_life_that_is_not_told_or_absurd_is_bounded(expires_in: Any, life_s: float) -> None:
    clock = Clock()
    async with token_server() as server, credential(server, clock) as opened:
        server.expires_in = expires_in
        await token(opened)
        clock.now += life_s - 0.01
        assert await token(opened) == "token-1"
        await asyncio.sleep(0.1)
        clock.now += 0.02
        assert await token(opened) == "token-2"


WRONG: list[tuple[Any, type[Outcome], str]] = [
    (lambda: error("invalid_client", 401), Held, "answers 401: invalid_client"),
    (lambda: error("invalid_scope", error_description="no such\nscope"), Held, "400: invalid_scope: no such scope"),
    (lambda: error("bad", error_description="not hu:sh/+&é, is it"), Held, "400: bad: not ***, is it"),
    (lambda: web.Response(status=404, text="nothing here"), Held, "answers 404: nothing here"),
    (lambda: web.HTTPFound("https://else.where/"), Held, "302: a redirect to https://else.where/, which is not"),
    (lambda: web.Response(status=503, text="later"), Retry, "answers 503: later"),
    (lambda: web.Response(status=429, text="slow down"), Retry, "answers 429: slow down"),
    (lambda: web.Response(text="<html>token-9"), Held, "the answer has no access_token that can be used"),
    (lambda: web.json_response(["token-9"]), Held, "the answer has no access_token"),
    (lambda: web.json_response({"access_token": 9}), Held, "the answer has no access_token"),
    (lambda: web.json_response({"access_token": "a\r\nb"}), Held, "the answer has no access_token"),
    (lambda: web.json_response({"access_token": "token-9", "token_type": "mac"}), Held, "not of the type Bearer"),
    (lambda: web.json_response({"access_token": "x" * 70_000}), Held, "the answer has no access_token"),
]


@pytest.mark.parametrize(("answer", "outcome", "why"), WRONG)
async def test_what_goes_wrong_is_told_without_a_secret_and_is_over_when_it_is_mended(
    answer: Any, outcome: type[Outcome], why: str
) -> None:
    clock = Clock()
    async with token_server() as server, credential(server, clock) as opened:
        server.script = [answer]
        with capture_logs() as logs:
            found = await refusal(opened)
            assert (type(found), found.reason) == (outcome, "no_credential")
            assert why in found.detail
            clock.now += 120
            assert await token(opened) == "token-2"
        assert [entry["log_level"] for entry in logs] == ["warning", "info"]
        for secret in (*SECRETS, "token-9", "token-2"):
            assert secret not in found.detail + repr(logs)


async def test_a_server_that_fails_is_asked_less_and_less_often() -> None:
    clock = Clock()
    async with token_server() as server, credential(server, clock) as opened:
        server.script = [lambda: web.Response(status=500)] * 1000
        with capture_logs() as logs:
            for _ in range(6000):
                await refusal(opened)
                clock.now += 0.1
        assert 10 <= len(server.asked) <= 30, "of 6000 requests in ten minutes"
        assert len(logs) == 1, "the same trouble is told once"


@pytest.mark.parametrize("trouble", ["away", "silent", "garbage"])
async def test_a_server_that_cannot_be_talked_to_is_tried_again_later(trouble: str) -> None:
    talk = saying(b"garbage\r\n\r\n")
    async with token_server() as server, raw(talk) as strange:
        server.url = {"away": f"http://127.0.0.1:{free_port()}/", "silent": server.url, "garbage": strange.url}[trouble]
        server.delay_s = 5.0
        async with credential(server, Clock(), timeout="100ms") as opened:
            found = await refusal(opened)
    assert isinstance(found, Retry)
    assert found.after_s is not None
    assert 0 < found.after_s <= 1.0
    assert {"away": "connection_error", "silent": "timeout", "garbage": "bad_answer"}[trouble] in found.detail


async def test_a_secret_in_a_file_is_waited_for_and_then_used(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "secret"
    where = {"client_secret": None, "client_secret_file": file}
    async with token_server() as server, credential(server, clock, **where) as opened:
        found = await refusal(opened)
        assert (found, server.asked) == (Held("no_credential"), [])
        file.write_text(server.client_secret + "\n")
        await asyncio.sleep(1.05)
        clock.now += 60
        assert await token(opened) == "token-1"


def settings(server: TokenServer) -> dict[str, Any]:
    return {"token_url": server.url, "client_id": server.client_id, "client_secret": server.client_secret}


async def outcomes(backend: Backend, protocol: str, server: TokenServer, times: int) -> list[Outcome]:
    config = {"type": "otlp", "endpoint": backend.url, "protocol": protocol, "oauth2": settings(server)}
    async with opened(config) as sender:
        lane = Lane("acme", "backend", Signal.TRACES)
        return [await sender.send(lane, [b"something"]) for _ in range(times)]


def shown(backend: Backend) -> list[str]:
    return [headers["authorization"] for headers in backend.headers]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_token_goes_with_every_request(protocol: str) -> None:
    async with token_server() as server, PROTOCOLS[protocol]() as backend:
        assert await outcomes(backend, protocol, server, 2) == [Delivered()] * 2
        assert shown(backend) == ["Bearer token-1"] * 2
        assert backend.bodies == [b"something"] * 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_token_that_is_refused_when_it_is_young_is_not_replaced(protocol: str) -> None:
    async with token_server() as server, PROTOCOLS[protocol](*[REFUSED[protocol]] * 3) as backend:
        found = await outcomes(backend, protocol, server, 3)
        assert found == [Held({"http": "http_401", "grpc": "grpc_unauthenticated"}[protocol])] * 3
        assert len(server.asked) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_token_that_was_revoked_is_replaced_once(
    protocol: str, refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.delivery.senders.credentials.oauth2._YOUNG_S", 0.0)
    held = Held({"http": "http_401", "grpc": "grpc_unauthenticated"}[protocol])
    async with token_server() as server, PROTOCOLS[protocol](*[REFUSED[protocol]] * refusals) as backend:
        assert await outcomes(backend, protocol, server, 1) == [Delivered() if refusals == 1 else held]
        assert shown(backend) == ["Bearer token-1", "Bearer token-2"]


async def test_many_whose_token_was_revoked_get_one_new_one_together() -> None:
    clock = Clock()
    async with token_server() as server, credential(server, clock) as opened:
        old = await opened.headers("", {}, ())
        clock.now += 60
        server.delay_s = 0.05
        assert await asyncio.gather(*(opened.renew(old) for _ in range(20))) == [True] * 20
        assert len(server.asked) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_without_a_token_nothing_is_sent(protocol: str) -> None:
    async with token_server() as server, PROTOCOLS[protocol]() as backend:
        server.script = [lambda: error("invalid_client", 401)]
        assert await outcomes(backend, protocol, server, 1) == [Held("no_credential")]
        assert not backend.bodies


async def test_after_close_nothing_is_fetched() -> None:
    async with token_server() as server, credential(server, Clock()) as opened:
        await opened.close()
        assert isinstance(await refusal(opened), Retry)
        assert not server.asked
