"""An instrumented application of one tenant, made with the OpenTelemetry SDK; a process of the demo.

Run as `python -m gateway.demo.application TENANT KEY GRPC HTTP SECONDS`. Prints one JSON line at the end: how many
secrets it planted.
"""

import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from gateway.demo.secrets import CARDS, planted_email

# A batch of the SDK, and how often it sends one.
_BATCH = {"max_export_batch_size": 256, "schedule_delay_millis": 200.0, "max_queue_size": 2_048}
_TICK_S = 0.05
_STOP_TIMEOUT_S = 2.0


class Application:
    """Telemetry of one service; `planted` counts the secrets in it."""

    def __init__(self, tenant: str, key: str, grpc: str, http: str) -> None:
        self.planted = 0
        resource = Resource.create({"service.name": f"{tenant}-shop", "service.instance.id": "1", "cloud.region": "eu"})
        headers = {"authorization": f"Bearer {key}"}
        pairs = tuple(headers.items())
        self.tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.tracers.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=grpc, insecure=True, headers=pairs), **_BATCH)  # type: ignore[arg-type]
        )
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=grpc, insecure=True, headers=pairs), export_interval_millis=1000
        )
        self.meters = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
        logs: Any = (
            HttpLogExporter(endpoint=f"http://{http}/v1/logs", headers=headers)
            if tenant == "initech"
            else GrpcLogExporter(endpoint=grpc, insecure=True, headers=pairs)
        )
        self.loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self.loggers.add_log_record_processor(BatchLogRecordProcessor(logs, **_BATCH))  # type: ignore[arg-type]
        self.tracer = self.tracers.get_tracer("demo")
        self.logger = self.loggers.get_logger("demo")
        self.orders = self.meters.get_meter("demo").create_counter("shop.orders")

    def plant(self) -> str:
        self.planted += 1
        return planted_email(self.planted)

    def trace(self) -> None:
        with (
            self.tracer.start_as_current_span("checkout", attributes={"enduser.id": self.plant()}),
            self.tracer.start_as_current_span("charge", attributes={"shop.items": 3}),
        ):
            self.orders.add(1, {"route": "/checkout"})

    def log(self, body: str) -> None:
        self.logger.emit(body=body, timestamp=time.time_ns(), severity_number=SeverityNumber.INFO, severity_text="INFO")

    def log_with_secrets(self) -> None:
        self.planted += 1
        self.log(f"{self.plant()} paid with card {random.choice(CARDS)}")  # noqa: S311 - not a secret

    def stop(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()
        self.loggers.shutdown()


def main(tenant: str, key: str, grpc: str, http: str, seconds: float) -> None:
    # Refusals are part of the show; the table counts them.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    app = Application(tenant, key, grpc, http)
    work: list[tuple[Callable[[], None], int]] = {
        "acme": [(app.trace, 15), (lambda: app.log("order accepted"), 10)],
        "globex": [(lambda: app.log("cache miss for key 20481"), 40)],
        "initech": [(app.log_with_secrets, 20)],
    }[tenant]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.monotonic()
        for act, times in work:
            for _ in range(times):
                act()
        time.sleep(max(0.0, _TICK_S - (time.monotonic() - started)))
    # Globex' exporter waits as long as it is told to, again and again; the demo does not.
    stopping = threading.Thread(target=app.stop, daemon=True)
    stopping.start()
    stopping.join(_STOP_TIMEOUT_S)
    print(json.dumps({"planted": app.planted}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _, tenant, key, grpc, http, seconds = sys.argv
    main(tenant, key, grpc, http, float(seconds))
