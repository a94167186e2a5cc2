"""Requests of the three backends' protocols into arrivals."""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cramjam
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.sink.proto import loki_push_pb2, remote_write_1_pb2, remote_write_2_pb2
from gateway.sink.received import Arrival, Received

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,\s*|$)')
_HEX_IDS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
_ENCODINGS: dict[str, Callable[[bytes], Any]] = {
    "": bytes,
    "identity": bytes,
    "gzip": cramjam.gzip.decompress,
    "zstd": cramjam.zstd.decompress,
    "snappy": cramjam.snappy.decompress_raw,
}


def decompress(encoding: str, body: bytes) -> bytes:
    """Undo a Content-Encoding; `snappy` is its block format. Raises ValueError."""
    if encoding not in _ENCODINGS:
        raise ValueError(f"unknown encoding {encoding}")
    try:
        return bytes(_ENCODINGS[encoding](body))
    except cramjam.DecompressionError as error:
        raise ValueError(str(error)) from error


def otlp_json(body: bytes, message: Message) -> Message:
    """OTLP/JSON, which is ProtoJSON but for its ids, which are hexadecimal. Raises ValueError."""
    value = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - as for every other body that cannot be read
    try:
        return ParseDict(_with_base64_ids(value), message, ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _with_base64_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: b64encode(bytes.fromhex(inner)).decode()
            if name in _HEX_IDS and isinstance(inner, str)
            else _with_base64_ids(inner)
            for name, inner in value.items()
        }
    return [_with_base64_ids(inner) for inner in value] if isinstance(value, list) else value


def remote_write_1(body: bytes, header_tenant: str | None, received: Received) -> None:
    request = remote_write_1_pb2.WriteRequest.FromString(body)
    for metadata in request.metadata:
        if not metadata.metric_family_name:
            received.complain("remote write: metadata without a name")
        line = f"{metadata.metric_family_name} {metadata.help} {metadata.unit}"
        received.keep(Arrival("metadata", header_tenant or "?", line, MessageToDict(metadata)))
    for series in request.timeseries:
        labels = [(label.name, label.value) for label in series.labels]
        exemplars = [[(label.name, label.value) for label in exemplar.labels] for exemplar in series.exemplars]
        _series(series, labels, exemplars, header_tenant, received)


def remote_write_2(body: bytes, header_tenant: str | None, received: Received) -> tuple[int, int, int]:
    """Returns how many samples, native histograms and exemplars were written, for the answer's headers."""
    request = remote_write_2_pb2.Request.FromString(body)
    if not request.symbols or request.symbols[0] != "":
        received.complain("remote write 2: symbols[0] is not empty")
    samples = histograms = exemplar_count = 0
    read: set[int] = {0}

    def pairs(references: Sequence[int]) -> list[tuple[str, str]]:
        if len(references) % 2:
            received.complain("remote write 2: a label's name has no value")
        read.update(references)
        names, values = references[::2], references[1::2]
        return [(request.symbols[name], request.symbols[value]) for name, value in zip(names, values, strict=False)]

    for series in request.timeseries:
        exemplars = [pairs(exemplar.labels_refs) for exemplar in series.exemplars]
        about = series.metadata
        read.update((about.help_ref, about.unit_ref))
        text = (request.symbols[about.help_ref], request.symbols[about.unit_ref]) if request.symbols else ()
        _series(series, pairs(series.labels_refs), [*exemplars, text], header_tenant, received)
        samples += len(series.samples)
        histograms += len(series.histograms)
        exemplar_count += len(series.exemplars)
    if unread := [symbol for number, symbol in enumerate(request.symbols) if number not in read]:
        # Nobody refers to them, but they have left the gateway.
        received.keep(Arrival("metadata", header_tenant or "?", f"unused symbols {unread}", unread))
    return samples, histograms, exemplar_count


def _series(
    series: Any,
    labels: list[tuple[str, str]],
    beside: Sequence[Any],
    header_tenant: str | None,
    received: Received,
) -> None:
    """A series of either version; `beside` is the text of its exemplars and metadata."""
    names = [name for name, _ in labels]
    if names != sorted(set(names)):
        received.complain(f"remote write: labels are not sorted and unique: {names}")
    if "__name__" not in names:
        received.complain("remote write: a series has no __name__")
    if not all(value for _, value in labels):
        received.complain("remote write: a label is empty")
    by_name = dict(labels)
    tenant = header_tenant or by_name.get("tenant", "?")
    shown = ", ".join(f"{name}={value!r}" for name, value in labels if name != "__name__")
    metric, everything = f"{by_name.get('__name__', '?')}{{{shown}}}", (labels, beside)
    for sample in series.samples:
        _require_time(sample, received)
        received.add(Arrival("sample", tenant, f"{metric} {sample.value:g} @{sample.timestamp}", everything))
    for histogram in series.histograms:
        _require_time(histogram, received)
        count = histogram.count_float or histogram.count_int
        line = f"{metric} count={count:g} sum={histogram.sum:g} schema={histogram.schema} @{histogram.timestamp}"
        received.add(Arrival("histogram", tenant, line, everything))
    if not series.samples and not series.histograms:
        received.keep(Arrival("metadata", tenant, f"{metric} exemplars and metadata only", everything))


def _require_time(point: Any, received: Received) -> None:
    if point.timestamp <= 0:
        received.complain("remote write: a sample has no timestamp")


def loki_push(body: bytes, header_tenant: str | None, received: Received) -> None:
    for stream in loki_push_pb2.PushRequest.FromString(body).streams:
        inner = stream.labels.strip()[1:-1]
        labels = dict(_LABEL.findall(inner))
        if not labels or _LABEL.sub("", inner).strip():
            received.complain(f"loki: stream labels do not parse: {stream.labels}")
        tenant = header_tenant or labels.get("tenant", "?")
        last = 0
        for entry in stream.entries:
            nanos = entry.timestamp.seconds * 10**9 + entry.timestamp.nanos
            if nanos < last:
                received.complain("loki: entries of a stream are out of order")
            last = nanos
            metadata = [(pair.name, pair.value) for pair in entry.structuredMetadata]
            line = f"{stream.labels} {entry.line}"
            received.add(Arrival("log", tenant, line, (stream.labels, entry.line, metadata)))


def otlp_traces(request: ExportTraceServiceRequest, header_tenant: str | None, received: Received) -> None:
    for resource_spans in request.resource_spans:
        tenant, resource = _resource(resource_spans.resource, header_tenant)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if len(span.trace_id) != 16 or len(span.span_id) != 8:
                    received.complain("otlp: an id has the wrong length")
                line = f"{span.name} trace={span.trace_id.hex()} {_attributes(span.attributes)}"
                everything = (resource, MessageToDict(scope_spans.scope), MessageToDict(span))
                received.add(Arrival("span", tenant, line, everything))


def otlp_logs(request: ExportLogsServiceRequest, header_tenant: str | None, received: Received) -> None:
    for resource_logs in request.resource_logs:
        tenant, resource = _resource(resource_logs.resource, header_tenant)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                line = f"{record.severity_text} {_value(record.body)}"
                received.add(Arrival("log", tenant, line, (resource, MessageToDict(record))))


def otlp_metrics(request: ExportMetricsServiceRequest, header_tenant: str | None, received: Received) -> None:
    for resource_metrics in request.resource_metrics:
        tenant, resource = _resource(resource_metrics.resource, header_tenant)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                for point in _points(metric):
                    everything = (resource, metric.name, metric.description, metric.unit, MessageToDict(point))
                    received.add(
                        Arrival("sample", tenant, f"{metric.name} {_attributes(point.attributes)}", everything)
                    )


def _points(metric: Any) -> Iterator[Any]:
    kind = metric.WhichOneof("data")
    if kind is not None:
        yield from getattr(metric, kind).data_points


def _resource(resource: Any, header_tenant: str | None) -> tuple[str, Any]:
    attributes = {attribute.key: _value(attribute.value) for attribute in resource.attributes}
    return header_tenant or str(attributes.get("tenant", "?")), MessageToDict(resource)


def _attributes(attributes: Any) -> str:
    return " ".join(f"{attribute.key}={_value(attribute.value)!r}" for attribute in attributes)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
