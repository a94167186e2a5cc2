"""Generated OTLP requests of a realistic shape: eight resource attributes, ten a span, four a point."""

import time

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

EMAIL = "jane.doe@customer.example.com"
CARD = "4111 1111 1111 1111"
_SCOPE = InstrumentationScope(name="gateway.send", version="1")


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _int(key: str, value: int) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(int_value=value))


def _resource() -> Resource:
    names = {
        "service.name": "checkout",
        "service.namespace": "shop",
        "service.instance.id": "checkout-7d9f-1",
        "service.version": "1.42.0",
        "deployment.environment.name": "production",
        "cloud.region": "eu-central-1",
        "host.name": "node-17",
        "k8s.pod.name": "checkout-7d9f8c6b5-x2x4z",
    }
    return Resource(attributes=[_text(key, value) for key, value in names.items()])


def traces(items: int, *, pii: bool = True, seed: int = 0) -> ExportTraceServiceRequest:
    """`items` spans, four a trace; with `pii` an e-mail in one attribute of each."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add(resource=_resource()).scope_spans.add(scope=_SCOPE)
    now = time.time_ns()
    for index in range(items):
        trace = ((seed << 32) + index // 4 + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)
        scope.spans.add(
            trace_id=trace.to_bytes(16, "big"),
            span_id=((seed << 32) + index + 1).to_bytes(8, "big"),
            name="POST /api/checkout",
            kind=2,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 12_345_678,
            attributes=[
                _text("http.request.method", "POST"),
                _text("url.path", "/api/checkout"),
                _text("url.scheme", "https"),
                _text("server.address", "checkout.shop.svc.cluster.local"),
                _int("http.response.status_code", 200),
                _text("network.protocol.version", "1.1"),
                _text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
                _text("enduser.id", EMAIL if pii else "user-20481"),
                _text("shop.cart.id", "c-7f3a9d"),
                _int("shop.cart.items", index % 9),
            ],
        )
    return request


def logs(items: int, *, pii: bool = True) -> ExportLogsServiceRequest:
    """`items` log lines; with `pii` an e-mail and a card number in each."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add(resource=_resource()).scope_logs.add(scope=_SCOPE)
    now = time.time_ns()
    who = f"of {EMAIL} paid with card {CARD}" if pii else "of user-20481 paid by invoice"
    for index in range(items):
        scope.log_records.add(
            time_unix_nano=now + index,
            observed_time_unix_nano=now + index,
            severity_number=9,
            severity_text="INFO",
            body=AnyValue(string_value=f"order {index} {who}, took 12 ms"),
            attributes=[
                _text("http.route", "/api/checkout"),
                _text("logger", "shop.payment"),
                _int("thread", index % 8),
            ],
        )
    return request


def metrics(items: int) -> ExportMetricsServiceRequest:
    """`items` points of one cumulative sum, four attributes each."""
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add(resource=_resource()).scope_metrics.add(scope=_SCOPE)
    metric = scope.metrics.add(name="http.server.requests", unit="{request}", description="Requests served")
    metric.sum.is_monotonic = True
    metric.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    now = time.time_ns()
    for index in range(items):
        metric.sum.data_points.add(
            start_time_unix_nano=now - 60_000_000_000,
            time_unix_nano=now,
            as_int=1000 + index,
            attributes=[
                _text("http.request.method", ("GET", "POST")[index % 2]),
                _text("http.route", f"/api/v1/things/{index // 8}"),
                _text("http.response.status_code", ("200", "404", "500", "503")[index // 2 % 4]),
                _text("server.address", "checkout.shop.svc.cluster.local"),
            ],
        )
    return request
