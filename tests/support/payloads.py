"""OTLP requests as tests need them, built with opentelemetry-proto's own classes."""

import time

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.resource.v1.resource_pb2 import Resource


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def resource(service: str = "shop", **attributes: str) -> Resource:
    return Resource(attributes=[text("service.name", service), *(text(k, v) for k, v in attributes.items())])


def traces(spans: int = 1, *, name: str = "GET /", **resource_attributes: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add(resource=resource(**resource_attributes)).scope_spans.add()
    now = time.time_ns()
    for index in range(spans):
        scope.spans.add(
            trace_id=(index + 1).to_bytes(16, "big"),
            span_id=(index + 1).to_bytes(8, "big"),
            name=name,
            kind=2,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 1_000_000,
            attributes=[text("http.route", "/")],
        )
    return request


def logs(records: int = 1, *, body: str = "hello", **resource_attributes: str) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add(resource=resource(**resource_attributes)).scope_logs.add()
    now = time.time_ns()
    for index in range(records):
        scope.log_records.add(
            time_unix_nano=now + index, severity_number=9, severity_text="INFO", body=AnyValue(string_value=body)
        )
    return request


def metrics(points: int = 1, *, name: str = "orders", **resource_attributes: str) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add(resource=resource(**resource_attributes)).scope_metrics.add()
    data = scope.metrics.add(name=name).sum
    data.is_monotonic = True
    data.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    now = time.time_ns()
    for index in range(points):
        data.data_points.add(as_int=index, time_unix_nano=now, attributes=[text("n", str(index))])
    return request


BUILDERS = {"traces": traces, "metrics": metrics, "logs": logs}
