"""Applications that send with the real OpenTelemetry SDK."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.support.gateway import Gateway

logging.getLogger("opentelemetry").setLevel(logging.ERROR)

__all__ = ["Application", "SeverityNumber", "application"]


@dataclass
class Application:
    """The SDK's providers of one service of one tenant."""

    tracers: TracerProvider
    meters: MeterProvider
    loggers: LoggerProvider

    def flush(self) -> None:
        """Send everything now; fails if an exporter gives up."""
        assert self.tracers.force_flush()
        assert self.meters.force_flush()
        assert self.loggers.force_flush()


@contextmanager
def application(
    gateway: Gateway, *, service: str, key: str, protocol: str, attributes: Mapping[str, str] | None = None
) -> Iterator[Application]:
    """An instrumented service that exports to the gateway over `protocol` ("grpc", "http" or "http+gzip")."""
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": "shop",
            "service.instance.id": f"{service}-0",
            **(attributes or {}),
        }
    )
    headers = {"authorization": f"Bearer {key}"}
    if protocol == "grpc":
        options = {"endpoint": gateway.grpc, "insecure": True, "headers": tuple(headers.items())}
        spans, metrics, logs = GrpcSpanExporter(**options), GrpcMetricExporter(**options), GrpcLogExporter(**options)
    else:
        compression = Compression.Gzip if protocol == "http+gzip" else Compression.NoCompression

        def http(signal: str) -> dict[str, object]:
            return {"endpoint": f"{gateway.http_url}/v1/{signal}", "headers": headers, "compression": compression}

        spans = HttpSpanExporter(**http("traces"))
        metrics = HttpMetricExporter(**http("metrics"))
        logs = HttpLogExporter(**http("logs"))
    app = Application(
        TracerProvider(resource=resource, shutdown_on_exit=False),
        MeterProvider(
            resource=resource,
            metric_readers=[PeriodicExportingMetricReader(metrics, export_interval_millis=float("inf"))],
            shutdown_on_exit=False,
        ),
        LoggerProvider(resource=resource, shutdown_on_exit=False),
    )
    app.tracers.add_span_processor(BatchSpanProcessor(spans))
    app.loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    try:
        yield app
    finally:
        app.tracers.shutdown()
        app.meters.shutdown()
        app.loggers.shutdown()
