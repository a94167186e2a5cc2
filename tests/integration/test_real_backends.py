"""The main job, with nothing faked: the OpenTelemetry SDK sends, Prometheus, VictoriaLogs and Jaeger receive.

VictoriaLogs stands for Loki: it speaks Loki's push API, and Loki itself cannot be built from a module proxy.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode, set_span_in_context

from tests.support.backends import Jaeger, Prometheus, VictoriaLogs
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.processes import wait_until
from tests.support.sdk import Application, SeverityNumber, application

EMAIL = "jane.doe@customer.example.com"
CARD = "4111 1111 1111 1111"
SECRETS = (EMAIL, CARD, "hunter2")


@pytest.fixture(scope="module")
def spine(
    tmp_path_factory: pytest.TempPathFactory, prometheus: Prometheus, victoria_logs: VictoriaLogs, jaeger: Jaeger
) -> Iterator[Gateway]:
    """A gateway in front of all three backends, with two tenants that mask."""
    folder: Path = tmp_path_factory.mktemp("spine")
    config: dict[str, Any] = base_config(folder)
    config["destinations"] = {
        "prometheus": {"type": "remote_write", "url": prometheus.write_url},
        "loki": {"type": "loki", "url": victoria_logs.push_url},
        "jaeger": {"type": "otlp", "endpoint": jaeger.grpc, "protocol": "grpc"},
        "jaeger_http": {"type": "otlp", "endpoint": jaeger.http, "protocol": "http"},
    }
    config["defaults"] = {
        "routes": {"traces": ["jaeger"], "metrics": ["prometheus"], "logs": ["loki"]},
        "mask": {"keys": ["password"], "detectors": ["email", "credit_card"]},
        "relabel": {
            "metrics": [
                {"source_labels": ["__name__", "route"], "regex": "shop_orders_total;/debug.*", "action": "drop"},
                {
                    "source_labels": ["route"],
                    "regex": "/orders/(.*)",
                    "target_label": "order_kind",
                    "replacement": "$1",
                },
            ],
            "traces": [{"source_labels": ["deployment.environment.name"], "target_label": "env"}],
        },
    }
    config["tenants"]["globex"]["routes"] = {"traces": ["jaeger_http"]}
    with run_gateway(folder, config) as gateway:
        yield gateway


TENANTS = [
    pytest.param("acme", "acme-key", "grpc", id="acme-grpc"),
    pytest.param("globex", "globex-key", "http", id="globex-http"),
    pytest.param("globex", "globex-key", "http+gzip", id="globex-http-gzip"),
]


@pytest.mark.parametrize(("tenant", "key", "protocol"), TENANTS)
def test_metrics_answer_promql_with_their_values_and_labels(
    spine: Gateway, prometheus: Prometheus, tenant: str, key: str, protocol: str
) -> None:
    service = f"checkout-{protocol.replace('+', '-')}"
    with application(spine, service=service, key=key, protocol=protocol) as app:
        meter = app.meters.get_meter("test")
        orders = meter.create_counter("shop.orders", unit="1", description=f"Orders; ask {EMAIL}")
        orders.add(7, {"route": "/orders/new", "contact": EMAIL, "password": "hunter2"})
        orders.add(5, {"route": "/debug/vars"})
        latency = meter.create_histogram("shop.latency", unit="ms", explicit_bucket_boundaries_advisory=[10, 100])
        for value in (5, 50, 500):
            latency.record(value, {"route": "/orders/new"})
        meter.create_gauge("shop.temperature", unit="Cel").set(21.5, {"card": CARD})
        app.flush()
    spine.wait_delivered()
    labels = f'job="shop/{service}", instance="{service}-0", tenant="{tenant}"'

    def value(promql: str) -> float:
        wait_until(lambda: bool(prometheus.query(promql)), promql)
        return float(prometheus.query(promql)[0]["value"][1])

    assert value(f'shop_orders_total{{{labels}, order_kind="new", route="/orders/new"}}') == 7
    assert value(f'shop_latency_milliseconds_bucket{{{labels}, le="10"}}') == 1
    assert value(f'shop_latency_milliseconds_bucket{{{labels}, le="100"}}') == 2
    assert value(f'shop_latency_milliseconds_bucket{{{labels}, le="+Inf"}}') == 3
    assert value(f"shop_latency_milliseconds_sum{{{labels}}}") == 555
    assert value(f"shop_temperature_celsius{{{labels}}}") == 21.5
    assert value(f"target_info{{{labels}}}") == 1
    assert not prometheus.query(f'shop_orders_total{{{labels}, route="/debug/vars"}}')
    assert prometheus.query(f"shop_orders_total{{{labels}}}")[0]["metric"]["contact"] == "[email]"


@pytest.mark.parametrize(("tenant", "key", "protocol"), TENANTS)
def test_log_lines_come_back_with_their_stream_labels_and_metadata(
    spine: Gateway, victoria_logs: VictoriaLogs, tenant: str, key: str, protocol: str
) -> None:
    service = f"billing-{protocol.replace('+', '-')}"
    with application(spine, service=service, key=key, protocol=protocol, attributes={"cloud.region": "eu"}) as app:
        logger = app.loggers.get_logger("test")
        context = set_span_in_context(app.tracers.get_tracer("test").start_span("charge"))
        logger.emit(
            body=f"charged {EMAIL} on card {CARD}",
            timestamp=time.time_ns(),
            context=context,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            attributes={"order.id": "o-1", "password": "hunter2", "amount": 12},
        )
        app.flush()
    spine.wait_delivered()
    query = f'{{tenant="{tenant}",service="{service}"}}'
    wait_until(lambda: bool(victoria_logs.query(query)), f"the log line of {service}")
    (entry,) = victoria_logs.query(query)
    assert entry["_msg"] == "charged [email] on card [credit_card]"
    assert entry["_stream"] == f'{{instance="{service}-0",region="eu",service="{service}",tenant="{tenant}"}}'
    assert entry["severity_text"] == "WARN"
    assert entry["order_id"] == "o-1"
    assert entry["amount"] == "12"
    assert entry["password"] == "[redacted]"
    assert len(entry["trace_id"]) == 32
    assert len(entry["span_id"]) == 16


@pytest.mark.parametrize(("tenant", "key", "protocol"), TENANTS)
def test_a_trace_comes_back_with_its_spans_and_parent_links(
    spine: Gateway, jaeger: Jaeger, tenant: str, key: str, protocol: str
) -> None:
    service = f"cart-{protocol.replace('+', '-')}"
    attributes = {"deployment.environment.name": "prod", "tenant": "somebody-else"}
    with application(spine, service=service, key=key, protocol=protocol, attributes=attributes) as app:
        send_trace(app)
        app.flush()
    spine.wait_delivered()
    wait_until(lambda: bool(jaeger.traces(service)), f"the trace of {service}")
    (trace,) = jaeger.traces(service)
    spans = {span["operationName"]: span for span in trace["spans"]}
    assert set(spans) == {"GET /cart", "SELECT items"}
    (parent,) = spans["SELECT items"]["references"]
    assert (parent["refType"], parent["spanID"]) == ("CHILD_OF", spans["GET /cart"]["spanID"])
    tags = {tag["key"]: tag["value"] for tag in spans["SELECT items"]["tags"]}
    assert tags["db.user.email"] == "[email]"
    assert tags["db.rows"] == 3
    (process,) = trace["processes"].values()
    process_tags = {tag["key"]: tag["value"] for tag in process["tags"]}
    assert process_tags["tenant"] == tenant
    assert process_tags["env"] == "prod"


def send_trace(app: Application) -> None:
    tracer = app.tracers.get_tracer("test", "1.0")
    with tracer.start_as_current_span("GET /cart") as root:
        root.add_event("paid", {"card": CARD})
        with tracer.start_as_current_span("SELECT items", attributes={"db.user.email": EMAIL, "db.rows": 3}) as span:
            span.set_status(StatusCode.ERROR, f"no cart of {EMAIL}")


def test_no_planted_secret_is_in_any_backend_and_nothing_is_unaccounted(
    spine: Gateway, prometheus: Prometheus, victoria_logs: VictoriaLogs, jaeger: Jaeger
) -> None:
    """Last in the file on purpose: it looks through everything that the tests above sent."""
    for name, kept in (
        ("Prometheus", prometheus.everything()),
        ("VictoriaLogs", victoria_logs.everything()),
        ("Jaeger", jaeger.everything()),
    ):
        assert "[email]" in kept, f"{name} got nothing to look through"
        for secret in SECRETS:
            assert secret not in kept, f"{secret!r} reached {name}"
    assert spine.unaccounted() == 0
    assert spine.total("gateway_dropped_items_total") == 0
    assert spine.total("gateway_tenant_claims_total") == 3
    assert spine.total("gateway_received_items_total") == spine.total("gateway_accepted_items_total") + spine.total(
        "gateway_filtered_items_total"
    )
