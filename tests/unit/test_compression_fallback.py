"""A destination that does not take the compression gets the next simpler one, and is not asked again."""

import asyncio
from itertools import pairwise
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Refused
from gateway.types import Lane, Signal
from tests.support.scripted import scripted, scripted_grpc
from tests.support.sender import opened

CASES: list[tuple[str, list[Any], list[Outcome], list[str]]] = [
    ("zstd", [], [Delivered()] * 2, ["zstd", "zstd"]),
    ("zstd", [415], [Delivered()] * 2, ["zstd", "gzip", "gzip"]),
    ("zstd", [415, 415], [Delivered()] * 2, ["zstd", "gzip", "", ""]),
    ("gzip", [415], [Delivered()] * 2, ["gzip", "", ""]),
    ("none", [415], [Held("http_415"), Delivered()], ["", ""]),
    ("gzip", [415, 415], [Held("http_415"), Delivered()], ["gzip", "", "gzip"]),
    ("gzip", [415, 415, 415, 415], [Held("http_415")] * 2, ["gzip", "", "gzip", ""]),
    # As the Collector and Prometheus have it.
    ("zstd", [(400, {}, b'unsupported compression: zstd. Only "gzip"')], [Delivered()] * 2, ["zstd", "gzip", "gzip"]),
    ("zstd", [(400, {}, b"unsupported Content-Encoding: zstd")], [Delivered()] * 2, ["zstd", "gzip", "gzip"]),
    ("zstd", [(400, {}, b"bad trace id")], [Refused("http_400"), Delivered()], ["zstd", "zstd"]),
    ("none", [(400, {}, b"unsupported Content-Encoding: none")], [Refused("http_400"), Delivered()], ["", ""]),
]


@pytest.mark.parametrize(("configured", "answers", "outcomes", "encodings"), CASES)
async def test_an_unknown_compression_is_replaced_by_a_simpler_one_that_is_remembered(
    configured: str, answers: list[Any], outcomes: list[Outcome], encodings: list[str]
) -> None:
    settings = {"type": "otlp", "protocol": "http", "compression": configured}
    async with scripted(*answers, decompress=False) as backend, opened({**settings, "endpoint": backend.url}) as sender:
        with capture_logs() as logs:
            lane = Lane("acme", "backend", Signal.TRACES)
            found = [await sender.send(lane, [b"something"]) for _ in outcomes]
    assert found == outcomes
    assert [headers.get("content-encoding", "") for headers in backend.headers] == encodings
    steps = {before for before, after in pairwise(encodings) if before and after != before}
    assert [entry["refused"] for entry in logs] == sorted(steps, reverse=True), "each is told once"


async def test_requests_that_are_under_way_together_step_down_together() -> None:
    settings = {"type": "otlp", "protocol": "http", "compression": "zstd"}
    async with (
        scripted(415, 415, 415, decompress=False) as backend,
        opened({**settings, "endpoint": backend.url}) as sender,
    ):
        lane = Lane("acme", "backend", Signal.TRACES)
        found = await asyncio.gather(*(sender.send(lane, [b"something"]) for _ in range(3)))
    assert found == [Delivered()] * 3
    encodings = [headers.get("content-encoding", "") for headers in backend.headers]
    assert encodings == ["zstd"] * 3 + ["gzip"] * 3


# grpc-go, tonic, grpc-java.
UNKNOWN = [
    (grpc.StatusCode.UNIMPLEMENTED, b"", 'grpc: Decompressor is not installed for grpc-encoding "gzip"'),
    (grpc.StatusCode.UNIMPLEMENTED, b"", "Content is compressed with `gzip` which isn't supported"),
    (grpc.StatusCode.INTERNAL, b"", "Can't find decompressor for gzip"),
]


@pytest.mark.parametrize("answer", UNKNOWN, ids=["Go", "Rust", "Java"])
async def test_over_grpc_a_backend_that_does_not_know_gzip_gets_none(answer: Any) -> None:
    answer = (*answer[:2], answer[2] + " said Bearer hush-hush")
    other = (grpc.StatusCode.UNIMPLEMENTED, b"", "unknown service")
    settings = {"type": "otlp", "compression": "gzip", "bearer_token": "hush-hush"}
    async with scripted_grpc(answer, b"", other) as backend, opened({**settings, "endpoint": backend.url}) as sender:
        lane = Lane("acme", "backend", Signal.TRACES)
        with capture_logs() as logs:
            found = [await sender.send(lane, [b"something"]) for _ in range(2)]
    assert found == [Delivered(), Held("grpc_unimplemented")]
    assert (len(backend.bodies), len(logs)) == (3, 1)
    assert "hush" not in str(logs)
