"""A refused request is taken apart; both halves are requests that a backend reads."""

import threading
import time
from collections.abc import Callable
from itertools import chain
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway._engine import Chunk, compress, halve
from gateway.sink.proto.loki_push_pb2 import PushRequest
from gateway.sink.proto.remote_write_1_pb2 import WriteRequest
from tests.support.payloads import logs, metrics, text, traces

Format = Literal["remote_write", "loki", "otlp"]
Signal = Literal["traces", "metrics", "logs"]

KINDS: list[tuple[Format, Signal]] = [
    ("remote_write", "metrics"),
    ("loki", "logs"),
    ("otlp", "traces"),
    ("otlp", "metrics"),
    ("otlp", "logs"),
]
SHAPES = st.lists(st.integers(0, 9), max_size=8)


def write_request(shape: list[int]) -> bytes:
    request = WriteRequest()
    for index, samples in enumerate(shape):
        series = request.timeseries.add()
        series.labels.add(name="__name__", value=f"series_{index}")
        for sample in range(samples):
            series.samples.add(value=sample, timestamp=1000 + sample)
            series.exemplars.add(value=sample, timestamp=1000 + sample).labels.add(name="trace_id", value="ab")
        request.metadata.add(metric_family_name=f"series_{index}")
    return request.SerializeToString()


def push_request(shape: list[int]) -> bytes:
    request = PushRequest()
    for index, lines in enumerate(shape):
        stream = request.streams.add(labels=f'{{service="{index}"}}')
        for line in range(lines):
            stream.entries.add(line=f"line {line}").timestamp.seconds = line
    return request.SerializeToString()


def otlp(build: Callable[..., Any]) -> Callable[[list[int]], bytes]:
    def of(shape: list[int]) -> bytes:
        requests = (build(items, service=f"s{index}") for index, items in enumerate(shape))
        return b"".join(request.SerializeToString() for request in requests)

    return of


REQUESTS: dict[tuple[str, str], Callable[[list[int]], bytes]] = {
    ("remote_write", "metrics"): write_request,
    ("loki", "logs"): push_request,
    ("otlp", "traces"): otlp(traces),
    ("otlp", "metrics"): otlp(metrics),
    ("otlp", "logs"): otlp(logs),
}


def write_items(payload: bytes) -> list[bytes]:
    items = []
    for series in WriteRequest.FromString(payload).timeseries:
        around = b"".join(label.SerializeToString() for label in series.labels)
        items += [around + sample.SerializeToString() for sample in series.samples]
    return items


def push_items(payload: bytes) -> list[bytes]:
    streams = PushRequest.FromString(payload).streams
    return [stream.labels.encode() + entry.SerializeToString() for stream in streams for entry in stream.entries]


def span_items(payload: bytes) -> list[bytes]:
    return [
        outer.resource.SerializeToString() + inner.scope.SerializeToString() + span.SerializeToString()
        for outer in ExportTraceServiceRequest.FromString(payload).resource_spans
        for inner in outer.scope_spans
        for span in inner.spans
    ]


def record_items(payload: bytes) -> list[bytes]:
    return [
        outer.resource.SerializeToString() + inner.scope.SerializeToString() + record.SerializeToString()
        for outer in ExportLogsServiceRequest.FromString(payload).resource_logs
        for inner in outer.scope_logs
        for record in inner.log_records
    ]


def point_items(payload: bytes) -> list[bytes]:
    items = []
    for outer in ExportMetricsServiceRequest.FromString(payload).resource_metrics:
        for inner in outer.scope_metrics:
            for metric in inner.metrics:
                points = [point.SerializeToString() for point in metric.sum.data_points]
                del metric.sum.data_points[:]
                around = outer.resource.SerializeToString() + metric.SerializeToString()
                items += [around + point for point in points]
    return items


ITEMS: dict[tuple[str, str], Callable[[bytes], list[bytes]]] = {
    ("remote_write", "metrics"): write_items,
    ("loki", "logs"): push_items,
    ("otlp", "traces"): span_items,
    ("otlp", "metrics"): point_items,
    ("otlp", "logs"): record_items,
}


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@settings(max_examples=60, deadline=None)
@given(shape=SHAPES)
def test_halving_ends_with_every_item_by_itself_and_in_order(kind: tuple[Format, Signal], shape: list[int]) -> None:
    whole = REQUESTS[kind](shape)
    items = ITEMS[kind]

    def take_apart(payload: bytes) -> list[bytes]:
        halves = halve(*kind, payload)
        if halves is None:
            return [payload]
        (left, left_items), (right, right_items) = halves
        assert (len(items(left)), len(items(right))) == (left_items, right_items)
        assert items(left) + items(right) == items(payload)
        assert min(left_items, right_items) > 0
        return take_apart(left) + take_apart(right)

    single = [items(payload) for payload in take_apart(whole)]
    assert list(chain.from_iterable(single)) == items(whole)
    assert all(len(inside) == 1 for inside in single) or sum(shape) < 2


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@settings(max_examples=100, deadline=None)
@given(shape=SHAPES, data=st.data())
def test_a_damaged_request_is_a_value_error_or_two_requests(
    kind: tuple[Format, Signal], shape: list[int], data: st.DataObject
) -> None:
    damaged = bytearray(REQUESTS[kind](shape))
    for at in data.draw(st.lists(st.integers(0, max(len(damaged) - 1, 0)), max_size=4)) if damaged else []:
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        halves = halve(*kind, damaged)
    except ValueError:
        return
    assert halves is None or min(items for _, items in halves) > 0


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_a_request_that_ends_inside_a_field_is_refused(kind: tuple[Format, Signal]) -> None:
    with pytest.raises(ValueError, match="cannot be read: the message ends inside a field"):
        halve(*kind, REQUESTS[kind]([2, 2])[:-1])


def test_a_metric_cut_in_two_keeps_what_it_says_of_itself_and_what_nobody_knows() -> None:
    request = metrics(9)
    outer = request.resource_metrics[0]
    outer.schema_url = "https://example.org/resource"
    inner = outer.scope_metrics[0]
    inner.schema_url, inner.scope.name, inner.scope.version = "https://example.org/scope", "meter", "1"
    metric = inner.metrics[0]
    metric.unit, metric.description = "By", "bytes"
    metric.metadata.append(text("owner", "shop"))
    # Field 200, a varint: of the request, the resource's message, the scope's and the metric.
    unknown = b"\xc0\x0c\x07"
    inner.metrics[0].MergeFromString(unknown)
    inner.MergeFromString(unknown)
    outer.MergeFromString(unknown)
    request.MergeFromString(unknown)
    halves = halve("otlp", "metrics", request.SerializeToString())
    assert halves is not None
    points = []
    for payload, items in halves:
        half = ExportMetricsServiceRequest.FromString(payload)
        data = half.resource_metrics[0].scope_metrics[0].metrics[0].sum
        assert len(data.data_points) == items
        points += data.data_points
        del data.data_points[:]
        data.data_points.extend(metric.sum.data_points)
        assert half == request
        assert half.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    assert points == list(metric.sum.data_points)


def test_a_series_cut_in_two_keeps_labels_and_each_exemplar_once() -> None:
    halves = halve("remote_write", "metrics", write_request([5]))
    assert halves is not None
    assert [items for _, items in halves] == [2, 3]
    for series in [WriteRequest.FromString(payload).timeseries[0] for payload, _ in halves]:
        assert [(label.name, label.value) for label in series.labels] == [("__name__", "series_0")]
        assert [exemplar.timestamp for exemplar in series.exemplars] == [sample.timestamp for sample in series.samples]


def test_any_buffer_may_hold_the_request() -> None:
    payload = push_request([2, 2])
    expected = halve("loki", "logs", payload)
    chunk: Chunk = compress("identity", [payload])
    strided = memoryview(bytes(byte for pair in zip(payload, payload, strict=True) for byte in pair))[::2]
    for buffer in (bytearray(payload), memoryview(payload), memoryview(bytearray(payload)), chunk, strided):
        assert halve("loki", "logs", buffer) == expected
    assert halve("loki", "logs", b"") is None


@pytest.mark.parametrize(
    ("format", "signal"), [("remote_write", "logs"), ("loki", "metrics"), ("json", "logs"), ("otlp", "profiles")]
)
def test_what_no_destination_carries_is_a_value_error(format: Any, signal: Any) -> None:  # noqa: A002 - as it is called
    with pytest.raises(ValueError, match="must be"):
        halve(format, signal, b"")


def test_others_run_meanwhile() -> None:
    payload = push_request([200]) * 2000
    turns = 0
    halved = threading.Event()

    def work() -> None:
        halve("loki", "logs", payload)
        halved.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not halved.is_set():
        turns += 1
        time.sleep(0)
    worker.join()
    assert turns > 2
