"""Raw OTLP clients: they send bytes as they are and show all of the answer."""

import base64
import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.gateway import Gateway

REQUESTS = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
RESPONSES = {
    "traces": ExportTraceServiceResponse,
    "metrics": ExportMetricsServiceResponse,
    "logs": ExportLogsServiceResponse,
}
METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
GRPC_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def retry_delay_s(status: status_pb2.Status) -> float | None:
    """The RetryInfo in a status, in seconds."""
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


@dataclass(frozen=True)
class Answer:
    """What a client sees of either transport."""

    code: str
    """gRPC status name; of HTTP the one in the Status body, or OK."""
    message: str
    retry_after_s: float | None
    """From RetryInfo."""
    body: bytes
    http_status: int | None = None
    headers: Mapping[str, str] | None = None


def send_grpc(
    gateway: Gateway,
    payload: bytes,
    *,
    signal: str = "traces",
    headers: Mapping[str, str] | None = None,
    compression: grpc.Compression | None = None,
    method: str | None = None,
    channel: grpc.Channel | None = None,
) -> Answer:
    if channel is None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(gateway.grpc, options=options) as fresh:
            return send_grpc(
                gateway,
                payload,
                signal=signal,
                headers=headers,
                compression=compression,
                method=method,
                channel=fresh,
            )
    call = channel.unary_unary(method or METHODS[signal])
    try:
        body = call(payload, metadata=tuple((headers or {}).items()), compression=compression, timeout=20)
    except grpc.RpcError as error:
        metadata = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(metadata.get("grpc-status-details-bin", b""))
        return Answer(error.code().name, error.details() or "", retry_delay_s(status), b"")
    return Answer("OK", "", None, body)


@contextmanager
def http_connection(gateway: Gateway) -> Iterator[http.client.HTTPConnection]:
    host, port = gateway.http.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        yield connection
    finally:
        connection.close()


def send_http(
    gateway: Gateway,
    payload: bytes,
    *,
    signal: str = "traces",
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/x-protobuf",
    path: str | None = None,
    method: str = "POST",
    connection: http.client.HTTPConnection | None = None,
) -> Answer:
    if connection is None:
        with http_connection(gateway) as fresh:
            return send_http(
                gateway,
                payload,
                signal=signal,
                headers=headers,
                content_type=content_type,
                path=path,
                method=method,
                connection=fresh,
            )
    connection.request(method, path or f"/v1/{signal}", payload, {"content-type": content_type, **(headers or {})})
    response = connection.getresponse()
    body = response.read()
    seen = {name.lower(): value for name, value in response.getheaders()}
    if response.status == 200:
        return Answer("OK", "", None, body, response.status, seen)
    status = status_pb2.Status()
    if seen.get("content-type") == "application/json":
        from google.protobuf import json_format

        json_format.Parse(body, status)
    else:
        status.ParseFromString(body)
    return Answer(GRPC_CODES[status.code], status.message, retry_delay_s(status), body, response.status, seen)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
