"""Over the budget against real backends: Prometheus counts the same as without, VictoriaLogs has every line."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import Prometheus, VictoriaLogs
from tests.support.clients import bearer, http_connection, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.payloads import logs
from tests.support.processes import wait_until
from tests.support.series import CountingApplication

ROUNDS = 6
USERS = [f"u{index}" for index in range(20)]
ROUTES = [f"/r{index}" for index in range(4)]
# Three histograms of five series, and three counters; one histogram and 17 counters are over it.
ACTIVE_SERIES = 18


def config_for(folder: Path, prometheus: Prometheus) -> dict[str, Any]:
    config = base_config(folder)
    config["destinations"] = {"prometheus": {"type": "remote_write", "url": prometheus.write_url}}
    config["defaults"] = {"routes": {"metrics": ["prometheus"]}}
    config["tenants"]["acme"]["quotas"] = {"metrics": {"active_series": ACTIVE_SERIES}}
    return config


def send(gateway: Gateway, app: CountingApplication, tenant: str) -> None:
    answer = send_grpc(gateway, app.request().SerializeToString(), signal="metrics", headers=bearer(f"{tenant}-key"))
    assert (answer.code, answer.body) == ("OK", b""), "everything is taken"


def vector(prometheus: Prometheus, promql: str) -> dict[str, float]:
    return {str(sorted(row["metric"].items())): float(row["value"][1]) for row in prometheus.query(promql)}


def test_prometheus_counts_the_same_with_and_without_a_budget(tmp_path: Path, prometheus: Prometheus) -> None:
    app = CountingApplication(service="paired")
    app.count(dict.fromkeys(USERS, 0), {route: [0, 0, 0] for route in ROUTES})
    with run_gateway(tmp_path, config_for(tmp_path, prometheus)) as gateway:
        for number in range(ROUNDS):
            for tenant in ("acme", "globex"):
                send(gateway, app, tenant)
            time.sleep(0.5)
            app.count(
                {user: index + number for index, user in enumerate(USERS)}, {route: [1, 2, 1] for route in ROUTES}
            )
            if number == 3:
                # One that is folded starts over: Prometheus sees a smaller value, and so must the overflow.
                app.orders["u19"] = 1
        gateway.wait_delivered()
        assert gateway.total("gateway_folded_series", tenant="acme") == 18
        assert gateway.total("gateway_active_series", tenant="acme") == ACTIVE_SERIES
        assert gateway.total("gateway_delivered_items_total") == gateway.total("gateway_encoded_items_total")
        assert gateway.total("gateway_dropped_items_total") == 0
        assert gateway.unaccounted() == 0

    time.sleep(1)
    names = ("orders_total", "latency_bucket", "latency_sum", "latency_count")

    def increases(tenant: str, name: str) -> dict[str, float]:
        return vector(prometheus, f'sum by (le) (increase({name}{{job="paired", tenant="{tenant}"}}[1m]))')

    for name in names:
        without = increases("globex", name)
        assert len(without) == (3 if name == "latency_bucket" else 1)
        assert increases("acme", name) == pytest.approx(without, rel=0.03), f"{name}: the same, but for extrapolation"
    overflow = prometheus.query('orders_total{job="paired", otel_metric_overflow="true"}')
    assert [row["metric"]["tenant"] for row in overflow] == ["acme"]
    assert overflow[0]["metric"]["instance"].startswith("overflow-")


def test_the_count_goes_on_over_a_restart(tmp_path: Path, prometheus: Prometheus) -> None:
    app = CountingApplication(service="restarted")
    config = config_for(tmp_path, prometheus)
    config["tenants"]["acme"]["quotas"] = {"metrics": {"active_series": 3}}
    for run in range(3):
        with run_gateway(tmp_path, config) as gateway:
            if run == 0:
                # Started in view of the gateway: all that it counts is counted.
                app.started_ns = time.time_ns()
            for _ in range(2):
                app.count({user: 1 + index for index, user in enumerate(USERS)})
                send(gateway, app, "acme")
                time.sleep(0.1)
            gateway.wait_delivered()
            assert gateway.total("gateway_active_series", tenant="acme") == 3
            assert gateway.total("gateway_folded_series", tenant="acme") == 17
            assert gateway.stop() == 0
    query = 'sum(last_over_time(orders_total{job="restarted"}[5m]))'
    assert vector(prometheus, query) == {"[]": sum(app.orders.values())}
    assert len(prometheus.query('orders_total{job="restarted"}')) == 4


def test_many_senders_at_once_share_an_overflow_series_in_order(tmp_path: Path, prometheus: Prometheus) -> None:
    config = config_for(tmp_path, prometheus)
    config["listen"]["threads"] = 4
    config["tenants"]["acme"]["quotas"] = {"metrics": {"active_series": 0}}
    with run_gateway(tmp_path, config) as gateway:
        apps = [CountingApplication(service="crowd") for _ in range(8)]

        def count(number: int) -> None:
            with http_connection(gateway) as connection:
                for _ in range(40):
                    apps[number].count({f"{number}-{user}": 1 for user in USERS})
                    payload = apps[number].request().SerializeToString()
                    headers = bearer("acme-key")
                    answer = send_http(gateway, payload, signal="metrics", headers=headers, connection=connection)
                    assert (answer.code, answer.body) == ("OK", b"")

        with ThreadPoolExecutor(len(apps)) as pool:
            list(pool.map(count, range(len(apps))))
        gateway.wait_delivered()
        assert gateway.total("gateway_dropped_items_total") == 0, "Prometheus refuses samples out of order"
        assert gateway.unaccounted() == 0
    query = 'last_over_time(orders_total{job="crowd"}[5m])'
    (series,) = prometheus.query(query)
    assert float(series["value"][1]) == 8 * 40 * len(USERS)


def test_a_damaged_state_is_a_warning_and_a_fresh_start(tmp_path: Path, prometheus: Prometheus) -> None:
    config = config_for(tmp_path, prometheus)
    app = CountingApplication(service="damaged")
    app.count({"u1": 1})
    with run_gateway(tmp_path, config) as gateway:
        send(gateway, app, "acme")
        assert gateway.stop() == 0
    path = tmp_path / "queue" / "series" / "acme.state"
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\x00" + content[21:])
    with run_gateway(tmp_path, config) as gateway:
        assert "this tenant starts afresh" in gateway.process.output()
        assert gateway.total("gateway_active_series", tenant="acme") == 0
        send(gateway, app, "acme")
        assert gateway.total("gateway_active_series", tenant="acme") == 1


def test_log_lines_over_the_budget_of_streams_are_kept_in_one_stream(
    tmp_path: Path, victoria_logs: VictoriaLogs
) -> None:
    config = base_config(tmp_path)
    config["destinations"] = {"loki": {"type": "loki", "url": victoria_logs.push_url}}
    config["defaults"] = {"routes": {"logs": ["loki"]}}
    config["tenants"]["acme"]["quotas"] = {"logs": {"active_streams": 2}}
    with run_gateway(tmp_path, config) as gateway:
        for index in range(5):
            payload = logs(2, body=f"line of {index}", service=f"job{index}")
            assert (
                send_http(gateway, payload.SerializeToString(), signal="logs", headers=bearer("acme-key")).body == b""
            )
        gateway.wait_delivered()
        assert gateway.total("gateway_active_streams", tenant="acme") == 2
        assert gateway.total("gateway_overflow_log_entries_total", tenant="acme") == 6
        assert gateway.unaccounted() == 0
    overflow = '{otel_overflow="true"}'
    wait_until(lambda: len(victoria_logs.query(overflow)) == 6, "the overflow stream")
    lines = victoria_logs.query(overflow)
    assert {line["_stream"] for line in lines} == {'{otel_overflow="true",tenant="acme"}'}
    assert {line["service"] for line in lines} == {"job2", "job3", "job4"}, "what would have been a label is kept"
    assert len(victoria_logs.query('{service="job1"}')) == 2
