"""Items with a name of their own, which is found again in whatever the gateway makes of them."""

import re
import time
from dataclasses import dataclass

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.support.payloads import resource, text

SIGNALS = ("traces", "metrics", "logs")
NAME = re.compile(rb"item-([a-z0-9]+)-(traces|metrics|logs)-(\d{9})")
"""An item's name, as it lies in a span's name, a label or a log line; its groups are tenant, signal and number."""


@dataclass(frozen=True, slots=True)
class Items:
    """What one request holds: `count` items of a tenant and signal, numbered from `first`."""

    tenant: str
    signal: str
    first: int
    count: int

    @property
    def names(self) -> list[str]:
        return [
            f"item-{self.tenant}-{self.signal}-{number:09d}" for number in range(self.first, self.first + self.count)
        ]

    def payload(self, *, padding: int = 0) -> bytes:
        """The OTLP request, protobuf. `padding` bytes are added to each item."""
        build = {"traces": _traces, "metrics": _metrics, "logs": _logs}[self.signal]
        return build(self.names, "x" * padding)


def _traces(names: list[str], padding: str) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add(resource=resource()).scope_spans.add()
    now = time.time_ns()
    for index, name in enumerate(names):
        scope.spans.add(
            trace_id=(now + index).to_bytes(16, "big"),
            span_id=(index + 1).to_bytes(8, "big"),
            name=name,
            kind=2,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 1_000_000,
            attributes=[text("padding", padding)],
        )
    return request.SerializeToString()


def _metrics(names: list[str], padding: str) -> bytes:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add(resource=resource()).scope_metrics.add()
    gauge = scope.metrics.add(name="stock").gauge
    now = time.time_ns()
    for index, name in enumerate(names):
        attributes = [text("item", name)] + ([text("padding", padding)] if padding else [])
        gauge.data_points.add(as_int=index, time_unix_nano=now, attributes=attributes)
    return request.SerializeToString()


def _logs(names: list[str], padding: str) -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add(resource=resource()).scope_logs.add()
    now = time.time_ns()
    for index, name in enumerate(names):
        scope.log_records.add(
            time_unix_nano=now + index,
            severity_number=9,
            severity_text="INFO",
            body=AnyValue(string_value=f"{name} {padding}"),
        )
    return request.SerializeToString()
