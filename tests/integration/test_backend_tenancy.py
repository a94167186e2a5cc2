"""Backends that keep tenants apart by a header find what the gateway sends under its tenant, and under no other."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_real_backends import send_trace
from tests.support.backends import VictoriaLogs
from tests.support.clients import bearer, send_http
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.jaeger_tenants import HEADER, TenantedJaeger, run_tenanted_jaeger
from tests.support.payloads import logs
from tests.support.processes import wait_until
from tests.support.sdk import application

PROTOCOL_OF = {"acme": "grpc", "globex": "grpc", "initech": "http", "umbrella": "http"}
ACCOUNTS = ("7", "8")
"""Tenants as VictoriaLogs names them: by number."""
RESOURCE = {
    "deployment.environment.name": "prod",
    "host.name": "node-7",
    "k8s.pod.label.app.kubernetes.io/part-of": "shop",
    "with space": "kept",
    "ünïcode": "ö",
}


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TenantedJaeger]:
    with run_tenanted_jaeger(tmp_path_factory.mktemp("jaeger"), tuple(PROTOCOL_OF)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, jaeger: TenantedJaeger, victoria_logs: VictoriaLogs
) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    config: dict[str, Any] = base_config(folder)
    config["destinations"] = {
        "grpc": {"type": "otlp", "endpoint": jaeger.grpc, "protocol": "grpc", "tenant_header": HEADER},
        "http": {"type": "otlp", "endpoint": jaeger.http, "protocol": "http", "tenant_header": HEADER},
        "loki": {"type": "loki", "url": victoria_logs.push_url, "tenant_header": "AccountID"},
    }
    routes = {tenant: {"traces": [protocol]} for tenant, protocol in PROTOCOL_OF.items()}
    routes |= {tenant: {"logs": ["loki"]} for tenant in ACCOUNTS}
    config["defaults"] = {}
    config["tenants"] = {
        tenant: {"api_keys": [{"id": "k1", "sha256": sha256(f"{tenant}-key")}], "routes": to}
        for tenant, to in routes.items()
    }
    with run_gateway(folder, config) as running:
        yield running


@pytest.mark.parametrize("tenant", PROTOCOL_OF)
def test_jaeger_finds_a_trace_under_its_tenant_only_and_its_resource_whole(
    gateway: Gateway, jaeger: TenantedJaeger, tenant: str
) -> None:
    with application(gateway, service="cart", key=f"{tenant}-key", protocol="grpc", attributes=RESOURCE) as app:
        resource = {key: value for key, value in app.tracers.resource.attributes.items() if key != "service.name"}
        send_trace(app)
        app.flush()
    gateway.wait_delivered()
    wait_until(lambda: bool(jaeger.traces(tenant, "cart")), f"the trace of {tenant}")
    (trace,) = jaeger.traces(tenant, "cart")
    assert {span["operationName"] for span in trace["spans"]} == {"GET /cart", "SELECT items"}
    (process,) = trace["processes"].values()
    tags = {tag["key"]: tag["value"] for tag in process["tags"]}
    assert process["serviceName"] == "cart"
    assert tags == {**resource, "tenant": tenant}
    for other in PROTOCOL_OF.keys() - {tenant}:
        found = {span["traceID"] for seen in jaeger.traces(other, "cart") for span in seen["spans"]}
        assert trace["traceID"] not in found, f"{other} sees the trace of {tenant}"


def test_loki_push_names_the_tenant_in_the_header_that_the_backend_wants(
    gateway: Gateway, victoria_logs: VictoriaLogs
) -> None:
    def lines(tenant: str) -> list[str]:
        query = urllib.request.Request(
            f"{victoria_logs.url}/select/logsql/query?query=*", headers={"AccountID": tenant}
        )
        with urllib.request.urlopen(query, timeout=10) as response:
            return [json.loads(line)["_msg"] for line in response.read().splitlines()]

    for tenant in ACCOUNTS:
        request = logs(body=f"a line of {tenant}").SerializeToString()
        assert send_http(gateway, request, signal="logs", headers=bearer(f"{tenant}-key")).code == "OK"
    gateway.wait_delivered()
    for tenant in ACCOUNTS:
        wait_until(lambda tenant=tenant: bool(lines(tenant)), f"the line of {tenant}")
        assert lines(tenant) == [f"a line of {tenant}"]
