"""With shards, what has an order keeps it: on disk, over a restart, and on the way to a backend that fails."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.delivery.queue import DurableQueue
from gateway.sink.decode import decompress
from gateway.sink.proto.loki_push_pb2 import PushRequest
from gateway.sink.proto.remote_write_1_pb2 import WriteRequest
from tests.support.clients import REQUESTS, bearer, send_http
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.payloads import logs, metrics, traces
from tests.support.scripted import Backend, scripted

SHARDS = 4
SOURCES = 24
ACME = bearer("acme-key")
FAILS = [attempt % 3 == 0 for attempt in range(30)]
"""Of each attempt, whether the backend refuses it for now."""

Kept = list[tuple[str, int]]
"""What must keep its order, and the number of the item in it."""


def series(payload: bytes) -> Kept:
    found = []
    for one in WriteRequest.FromString(payload).timeseries:
        labels = {label.name: label.value for label in one.labels}
        if labels["__name__"] != "target_info":
            found += [(str(sorted(labels.items())), int(sample.value)) for sample in one.samples]
    return found


def streams(payload: bytes) -> Kept:
    request = PushRequest.FromString(payload)
    return [(stream.labels, int(entry.line)) for stream in request.streams for entry in stream.entries]


def resources(payload: bytes) -> Kept:
    request = REQUESTS["traces"].FromString(payload)
    return [
        (str(outer.resource), int(span.name))
        for outer in request.resource_spans
        for inner in outer.scope_spans
        for span in inner.spans
    ]


def payload(signal: str, turn: int) -> bytes:
    """One item of every source; its number is the turn's."""
    request = REQUESTS[signal]()
    for source in range(SOURCES):
        name = f"service-{source}"
        match signal:
            case "traces":
                request.MergeFrom(traces(1, name=str(turn), service=name))
            case "logs":
                request.MergeFrom(logs(1, body=str(turn), service=name))
            case _:
                one = metrics(1, service=name)
                point = one.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
                point.as_int = turn
                point.time_unix_nano = (1_700_000_000 + turn) * 1_000_000_000
                request.MergeFrom(one)
    return bytes(request.SerializeToString())


KINDS: dict[str, tuple[dict[str, str], Callable[[bytes], Kept], str]] = {
    "metrics": ({"type": "remote_write", "version": "1"}, series, "url"),
    "logs": ({"type": "loki"}, streams, "url"),
    "traces": ({"type": "otlp", "protocol": "http"}, resources, "endpoint"),
}


def config(folder: Path, signal: str, url: str, **more: Any) -> dict[str, Any]:
    kind, _, where = KINDS[signal]
    made = base_config(folder)
    made["destinations"] = {"backend": {**kind, where: url, "shards": SHARDS, **more}}
    made["defaults"] = {"routes": {signal: ["backend"]}}
    made["drain_timeout"] = "200ms"
    return made


def send(gateway: Gateway, signal: str, turns: range) -> None:
    for turn in turns:
        assert send_http(gateway, payload(signal, turn), signal=signal, headers=ACME).code == "OK"


@pytest.mark.parametrize("signal", KINDS)
def test_on_disk_a_series_stream_or_resource_is_in_one_shard_in_order_in_every_run(signal: str, tmp_path: Path) -> None:
    nowhere = config(tmp_path, signal, "http://127.0.0.1:9/push")
    for run in range(2):
        with run_gateway(tmp_path, nowhere) as gateway:
            send(gateway, signal, range(run * 10, run * 10 + 10))
            assert gateway.unaccounted() == 0
            queued = gateway.total("gateway_queued_items", tenant="acme", destination="backend")
            gateway.stop()

    queue = DurableQueue(tmp_path / "queue", 256 << 20)
    found: dict[str, set[int]] = {}
    numbers: dict[str, list[int]] = {}
    items = 0
    for shard in queue.backlog():
        for stored in queue.read(shard, 0, 1 << 30):
            assert not isinstance(stored, Exception)
            items += stored.record.items
            for what, number in KINDS[signal][1](b"".join(bytes(part) for part in stored.record.parts)):
                found.setdefault(what, set()).add(shard.number)
                numbers.setdefault(what, []).append(number)
    queue.close()
    assert items == queued
    assert len(found) == SOURCES
    assert all(len(shards) == 1 for shards in found.values())
    assert {shard for shards in found.values() for shard in shards} == set(range(SHARDS))
    assert all(in_order == list(range(20)) for in_order in numbers.values())


@pytest.mark.parametrize("signal", KINDS)
async def test_a_backend_that_fails_now_and_then_gets_each_series_stream_or_resource_in_order(
    signal: str, tmp_path: Path
) -> None:
    _, kept, _ = KINDS[signal]
    async with scripted(*(503 if fails else 200 for fails in FAILS)) as backend:
        quick = config(tmp_path, signal, backend.url, retry={"initial": "10ms", "max": "20ms"})
        with run_gateway(tmp_path, quick) as gateway:
            await asyncio.to_thread(send, gateway, signal, range(30))
            await asyncio.to_thread(gateway.wait_delivered)
            encoded = gateway.total("gateway_encoded_items_total", tenant="acme", destination="backend")
            delivered = gateway.total("gateway_delivered_items_total", tenant="acme", destination="backend")
            assert gateway.unaccounted() == 0
    assert encoded == delivered >= 30 * SOURCES
    numbers: dict[str, list[int]] = {}
    for body in taken(backend, signal):
        for what, number in kept(body):
            numbers.setdefault(what, []).append(number)
    assert len(numbers) == SOURCES
    assert all(in_order == list(range(30)) for in_order in numbers.values())


async def test_another_number_of_shards_by_reload_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async with scripted() as backend:
        made = config(tmp_path, "logs", backend.url)
        with run_gateway(tmp_path, made) as gateway:
            for number, shards in enumerate((4, 1, 7)):
                made["destinations"]["backend"]["shards"] = shards
                gateway.config_path.write_text(yaml.safe_dump(made))
                await asyncio.to_thread(gateway.reload)
                await asyncio.to_thread(send, gateway, "logs", range(number * 5, number * 5 + 5))
            await asyncio.to_thread(gateway.wait_delivered)
            lane = {"tenant": "acme", "destination": "backend"}
            assert gateway.total("gateway_encoded_items_total", **lane) == 15 * SOURCES
            assert gateway.total("gateway_delivered_items_total", **lane) == 15 * SOURCES
            assert gateway.unaccounted() == 0
    came = [item for body in backend.bodies for item in streams(decompress("snappy", body))]
    assert len(came) == len(set(came)) == 15 * SOURCES


def taken(backend: Backend, signal: str) -> list[bytes]:
    """Bodies that the backend took."""
    bodies = []
    for index, body in enumerate(backend.bodies):
        if index >= len(FAILS) or not FAILS[index]:
            bodies.append(decompress("" if signal == "traces" else "snappy", body))
    return bodies
