"""Backends that answer with what is no answer: each is an outcome in bounded time and memory, never an exception."""

import asyncio
import gzip
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery.senders import loki, otlp_grpc, otlp_http, remote_write
from gateway.delivery.senders.answer import HttpAnswer
from gateway.delivery.senders.detail import MAX_CHARACTERS, fit_for_log
from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Refused, Retry
from gateway.types import Lane, Signal
from tests.support.scripted import Talk, raw, saying, saying_for_ever, scripted, scripted_grpc
from tests.support.sender import opened

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
GONE = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n"
BAD = b"HTTP/1.1 400 Bad Request\r\n"
KINDS = {
    "remote_write": ({"type": "remote_write"}, "url", Signal.METRICS),
    "loki": ({"type": "loki"}, "url", Signal.LOGS),
    "otlp": ({"type": "otlp", "protocol": "http"}, "endpoint", Signal.TRACES),
}


async def outcome_of(url: str, kind: str, **settings: Any) -> tuple[Outcome, float]:
    """What `kind` makes of the backend, and the seconds that it took."""
    fixed, where, signal = KINDS[kind]
    async with opened({**fixed, where: url, "timeout": "500ms", **settings}) as sender:
        started = time.monotonic()
        outcome = await sender.send(Lane("acme", "backend", signal), [b"something"])
        return outcome, time.monotonic() - started


ODD: dict[str, tuple[Talk, Outcome]] = {
    "nothing": (saying(b""), Retry("connection_error")),
    "garbage": (saying(b"\x00\xff\x16\x03\x01 who is there?\r\n\r\n"), Retry("bad_answer")),
    "another protocol": (saying(b"SSH-2.0-OpenSSH_9.9\r\n"), Retry("bad_answer")),
    "TLS, where we speak without": (saying(bytes.fromhex("15030100020228")), Retry("bad_answer")),
    "a status line cut off": (saying(b"HTTP/1.1 20"), Retry("connection_error")),
    "headers cut off": (saying(OK + b"Content-Le"), Retry("connection_error")),
    "a status that is none": (saying(b"HTTP/1.1 abc OK\r\n\r\n"), Retry("bad_answer")),
    "two lengths": (saying(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), Retry("bad_answer")),
    "one endless header": (saying_for_ever(OK + b"X-More: ", b"x" * 4096), Retry("bad_answer")),
    "endless headers": (saying_for_ever(OK, b"X-More: and more\r\n" * 64), Retry("bad_answer")),
    "headers that drip": (saying_for_ever(OK, b"X-More: 1\r\n", every_s=0.1), Retry("timeout")),
    "only promises": (saying_for_ever(b"", b"HTTP/1.1 102 Processing\r\n\r\n", every_s=0.01), Retry("timeout")),
    "HTTP/1.0": (saying(b"HTTP/1.0 200 OK\r\n\r\nfine"), Delivered()),
    "HTTP/0.9": (saying(b"fine"), Retry("bad_answer")),
    "a body cut off": (saying(OK + b"Content-Length: 1000\r\n\r\nfi"), Delivered()),
    "chunks cut off": (saying(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nfi"), Delivered()),
    "chunks that are none": (saying(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nfi\r\n"), Retry("bad_answer")),
    "a body that drips": (
        saying_for_ever(OK + b"Content-Length: 1000000\r\n\r\n", b"x", every_s=0.05),
        Delivered(),
    ),
    "an endless body": (saying_for_ever(OK + b"\r\n", b"x" * 65536), Delivered()),
    "a refusal cut off": (saying(GONE + b"Content-Length: 1000\r\n\r\ngo aw"), Retry("http_503", 7.0)),
    "an endless refusal": (saying_for_ever(GONE + b"\r\n", b"x" * 65536), Retry("http_503", 7.0)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ODD)
async def test_whatever_comes_is_an_outcome_within_the_timeout(kind: str, odd: str) -> None:
    talk, expected = ODD[odd]
    async with raw(talk) as backend:
        outcome, seconds = await outcome_of(backend.url, kind)
        assert outcome == expected, outcome.detail
        assert seconds < 3, "the timeout is 0.5 s"
        assert backend.connections == 1, "a sender makes one attempt"


async def test_an_endless_answer_takes_no_memory() -> None:
    async with raw(saying_for_ever(BAD + b"\r\n", b"x" * (1 << 20))) as backend:
        await outcome_of(backend.url, "remote_write")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes = await asyncio.gather(*(outcome_of(backend.url, "remote_write") for _ in range(16)))
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert {outcome for outcome, _ in outcomes} == {Refused("http_400")}
    assert grown_kib < 64 << 10, "both ends are in this process, and 16 answers are under way"


async def test_a_body_that_expands_takes_no_memory() -> None:
    bomb = gzip.compress(bytes(256 << 20), 9)
    head = BAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with raw(saying(head + bomb)) as backend:
        assert (await outcome_of(backend.url, "remote_write", timeout="5s"))[0] == Refused("http_400")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


ANSWERED_EARLY = {
    "kept": b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n",
    "without end": b"HTTP/1.1 503 Later\r\n\r\n",
    "closed": b"HTTP/1.1 503 Later\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", ANSWERED_EARLY)
async def test_a_backend_that_answers_and_never_reads_holds_no_connection_and_no_body(answer: str) -> None:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWERED_EARLY[answer])
        await asyncio.sleep(60)

    body = os.urandom(8 << 20)
    config = {"type": "otlp", "protocol": "http", "timeout": "500ms"}
    async with raw(talk) as backend, opened({**config, "endpoint": backend.url}) as sender:
        for _ in range(5):
            assert await sender.send(Lane("acme", "backend", Signal.TRACES), [body]) == Retry("http_503")
        await asyncio.sleep(0.1)
        port = int(backend.url.rpartition(":")[2].partition("/")[0])
        ends = psutil.Process().net_connections("tcp4")
        assert not [end for end in ends if end.raddr and end.raddr.port == port], "our ends are closed"
        assert backend.connections == 5


async def test_a_grpc_sender_survives_what_is_not_grpc() -> None:
    for talk in (saying(b"garbage\r\n\r\n"), saying(BAD + b"\r\n"), saying_for_ever(OK, b"X: y\r\n")):
        async with raw(talk) as backend:
            url = backend.url.removesuffix("/push")
            outcome, _ = await outcome_of(url, "otlp", protocol="grpc")
            assert isinstance(outcome, Retry), outcome


SAID = [
    ({"type": "remote_write"}, (400, {}, b"out of order\n\x1b[31m sample\x00"), "out of order [31m sample"),
    ({"type": "remote_write"}, (401, {}, b"bad: Bearer hush-hush"), "bad: ***"),
    ({"type": "loki"}, (400, {}, b"2 errors like: hush-hush"), "2 errors like: ***"),
    ({"type": "loki"}, (500, {}, b"\xff" + b"x" * 1000), "\ufffd" + "x" * (MAX_CHARACTERS - 2) + "…"),
    ({"type": "otlp", "protocol": "http"}, (400, {}, b"\x12\x0ewrong trace id"), "wrong trace id"),
    ({"type": "otlp", "protocol": "http"}, (200, {}, b"\x0a\x09\x08\x02\x12\x05stale"), "stale"),
    ({"type": "otlp", "protocol": "http"}, (307, {"Location": "https://else.where/"}), "307 to https://else.where/"),
]


@pytest.mark.parametrize(("settings", "answer", "said"), SAID)
async def test_what_a_backend_says_is_there_for_the_log_but_no_secret(
    settings: dict[str, Any], answer: Any, said: str
) -> None:
    async with scripted(answer) as backend:
        outcome, _ = await outcome_of(backend.url, settings["type"], bearer_token="hush-hush")
        assert outcome.detail == said
        assert "hush" not in repr(outcome)


async def test_what_a_grpc_backend_says_is_there_for_the_log_but_no_secret() -> None:
    async with scripted_grpc((grpc.StatusCode.UNAUTHENTICATED, b"", "who is\nhush-hush?")) as backend:
        outcome, _ = await outcome_of(backend.url, "otlp", protocol="grpc", bearer_token="hush-hush")
        assert (outcome, outcome.detail) == (Held("grpc_unauthenticated"), "who is ***?")


def test_a_secret_is_hidden_though_the_answer_breaks_off_in_it_or_the_line_is_cut_in_it() -> None:
    assert fit_for_log("no: hush-hush", ["hush-hush-hush"]) == "no: ***"
    long = "x" * (MAX_CHARACTERS - 5) + "hush-hush-hush"
    assert "hush" not in fit_for_log(long, ["hush-hush-hush"])


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_one_after_another_use_one_connection(kind: str) -> None:
    answers = [204, 500, (429, {}, b"slow down"), (400, {}, b"x" * 1000), 401, 302] * 5
    fixed, where, signal = KINDS[kind]
    async with scripted(*answers) as backend, opened({**fixed, where: backend.url}) as sender:
        for _ in answers:
            await sender.send(Lane("acme", "backend", signal), [b"something"])
    assert len(backend.bodies) == len(answers)
    assert len(backend.peers) == 1


@pytest.mark.parametrize(("settings", "reason"), [({"protocol": "http"}, "timeout"), ({"protocol": "grpc"}, "grpc_")])
async def test_the_timeout_is_also_of_connecting(settings: dict[str, Any], reason: str) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        # Linux keeps one connection for later, and answers to no more.
        with socket.create_connection(address):
            outcome, seconds = await outcome_of(f"http://127.0.0.1:{address[1]}", "otlp", **settings)
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith(reason)
    assert seconds < 3, "the timeout is 0.5 s"


async def test_a_machine_without_a_thread_left_sends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with scripted() as backend, opened({"type": "remote_write", "url": backend.url}) as sender:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        monkeypatch.setattr(threading.Thread, "start", none_left)
        assert await sender.send(Lane("acme", "backend", Signal.METRICS), [os.urandom(200_000)]) == Delivered()
        monkeypatch.undo()


@given(status=st.integers(100, 999), value=st.text(max_size=40), body=st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_answer_is_an_outcome(status: int, value: str, body: bytes) -> None:
    answer = HttpAnswer(status, {"Retry-After": value, "Location": value}, body)
    outcomes = [remote_write.judge(answer), loki.judge(answer, [body]), otlp_http.judge(answer)]
    outcomes += [otlp_grpc.judge(code, body.decode("latin-1"), body) for code in grpc.StatusCode]
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        shown = fit_for_log(outcome.detail, [value])
        assert len(shown) <= MAX_CHARACTERS
        assert shown.isprintable()
        if isinstance(outcome, Retry) and outcome.after_s is not None:
            assert 0 <= outcome.after_s < float("inf")
