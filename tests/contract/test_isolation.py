"""Whatever a tenant puts into payload or headers, it reaches nothing of another: quota, metrics, usage, backends."""

import asyncio
import http.client
import json
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio

from gateway.sink.decode import decompress
from gateway.sink.proto.loki_push_pb2 import PushRequest
from gateway.sink.proto.remote_write_1_pb2 import WriteRequest
from tests.support.clients import METHODS, REQUESTS, bearer, send_http
from tests.support.gateway import ADMIN_TOKEN, Gateway, accounted_config, run_gateway
from tests.support.issuer import AUDIENCE, Issuer, run_issuer, signing_key
from tests.support.payloads import BUILDERS, text, traces
from tests.support.scripted import Backend, scripted, scripted_grpc

Pairs = Sequence[tuple[str, str | bytes]]
BURST = 5
ACME_TOKEN = "acme-sees"


@dataclass
class Place:
    """A gateway that believes tokens and keys, with a backend of every kind behind it."""

    gateway: Gateway
    issuer: Issuer
    over_http: Backend
    over_grpc: Backend

    def token(self, **claims: Any) -> str:
        return signing_key().token(self.issuer.claims(**claims))


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with run_issuer() as issuer, scripted() as over_http, scripted_grpc() as over_grpc:
        config = accounted_config(tmp_path)
        config["identity"] = [
            # Whoever comes from this network is believed; nobody here does.
            {"trusted_header": {"header": "X-Scope-OrgID", "networks": ["10.0.0.0/8"]}},
            {"api_key": {"header": "x-api-key"}},
            {"api_key": {"header": "authorization", "scheme": "Bearer"}},
            {"api_key": {"header": "authorization", "scheme": "Basic"}},
            {"oidc": {"issuer": issuer.url, "audience": AUDIENCE}},
        ]
        header = {"tenant_header": "X-Scope-OrgID"}
        config["destinations"] = {
            "prometheus": {"type": "remote_write", "url": f"{over_http.url}/metrics", "version": "1", **header},
            "loki": {"type": "loki", "url": f"{over_http.url}/logs", **header},
            "otlp-http": {"type": "otlp", "protocol": "http", "endpoint": over_http.url, **header},
            "otlp-grpc": {"type": "otlp", "protocol": "grpc", "endpoint": over_grpc.url, **header},
        }
        routes = {"traces": ["otlp-http", "otlp-grpc"], "metrics": ["prometheus"], "logs": ["loki"]}
        config["defaults"] = {"routes": routes}
        quota = {"items_per_second": 0.001, "burst": BURST}
        config["tenants"]["globex"]["quotas"] = dict.fromkeys(BUILDERS, quota)
        config["admin"]["tokens"].append({"name": "acme", "token": ACME_TOKEN, "tenant": "acme"})
        with run_gateway(tmp_path, config) as gateway:
            yield Place(gateway, issuer, over_http, over_grpc)
            # In a thread: the backends live in this loop, and the gateway waits for their answers.
            assert await asyncio.to_thread(gateway.stop) == 0


def over_http(gateway: Gateway, payload: bytes, signal: str, pairs: Pairs, query: str = "") -> int:
    """The status; every pair is a header line of its own, in its own case."""
    host, port = gateway.http.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.putrequest("POST", f"/v1/{signal}{query}")
        for name, value in (("content-type", "application/x-protobuf"), ("content-length", str(len(payload))), *pairs):
            connection.putheader(name, value)
        connection.endheaders(payload)
        return connection.getresponse().status
    finally:
        connection.close()


def over_grpc(gateway: Gateway, payload: bytes, signal: str, pairs: Pairs) -> str:
    """The code; metadata keys may stand there several times."""
    with grpc.insecure_channel(gateway.grpc) as channel:
        call = channel.unary_unary(METHODS[signal])
        try:
            call(payload, metadata=[(name.lower(), value) for name, value in pairs], timeout=20)
        except grpc.RpcError as error:
            name: str = error.code().name
            return name
    return "OK"


# What stands in the headers beside the token of acme.
DISGUISES: dict[str, Pairs] = {
    "nothing": [],
    "the header of a trusted gateway": [("x-scope-orgid", "globex")],
    "in mixed case": [("X-Scope-OrgID", "globex")],
    "in upper case": [("X-SCOPE-ORGID", "globex")],
    "several times": [("X-Scope-OrgID", "globex"), ("x-scope-orgid", "acme"), ("X-Scope-OrgId", "globex")],
    "a list": [("x-scope-orgid", "acme,globex"), ("x-scope-orgid", "acme|globex")],
    "from a trusted network, as it says itself": [
        ("x-scope-orgid", "globex"), ("x-forwarded-for", "10.0.0.1"), ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"), ("x-forwarded-client-cert", "URI=spiffe://example.org/tenant/globex"),
    ],
    "headers of other systems": [
        ("tenant", "globex"), ("x-tenant", "globex"), ("x-tenant-id", "globex"), ("thanos-tenant", "globex"),
        ("accountid", "2"), ("baggage", "tenant=globex"), ("tracestate", "tenant=globex"),
    ],
    "a wrong password of another": [("authorization", "Basic Z2xvYmV4Ondyb25n")],
    "another bearer that is nobody's": [("Authorization", "Bearer globex")],
    "a key that is nobody's": [("x-api-key", "globex")],
}  # fmt: skip


def disguised(signal: str) -> bytes:
    """Three items that name another tenant wherever there is room for a name."""
    claims = dict.fromkeys(("tenant", "tenant.id", "tenant_id", "X-Scope-OrgID", "__tenant_id__"), "globex")
    request = BUILDERS[signal](3, **claims)
    groups: Any = getattr(request, f"resource_{'spans' if signal == 'traces' else signal}")
    for group in groups:
        group.resource.attributes.append(text("tenant", "globex"))
        scopes = getattr(group, {"traces": "scope_spans", "metrics": "scope_metrics", "logs": "scope_logs"}[signal])
        for scope in scopes:
            scope.scope.attributes.append(text("tenant", "globex"))
            items: Any = {
                "traces": lambda scope=scope: scope.spans,
                "metrics": lambda scope=scope: scope.metrics[0].sum.data_points,
                "logs": lambda scope=scope: scope.log_records,
            }[signal]()
            for item in items:
                item.attributes.append(text("tenant", "globex"))
    return bytes(request.SerializeToString())


async def test_another_tenant_is_not_reached_by_anything_in_payload_or_headers(place: Place) -> None:
    gateway = place.gateway
    shown = ("authorization", f"Bearer {place.token()}")
    requests = 0
    for name, pairs in DISGUISES.items():
        for signal in BUILDERS:
            payload = disguised(signal)
            # Before the token and after it.
            for order in ((shown, *pairs), (*pairs, shown)):
                status = await asyncio.to_thread(over_http, gateway, payload, signal, order, "?tenant=globex")
                code = await asyncio.to_thread(over_grpc, gateway, payload, signal, order)
                assert (status, code) == (200, "OK"), (name, signal)
                requests += 2
    await asyncio.to_thread(gateway.wait_delivered)

    received = {tenant: gateway.total("gateway_received_items_total", tenant=tenant) for tenant in ("acme", "globex")}
    assert received == {"acme": 3 * requests, "globex": 0}
    assert gateway.total("gateway_delivered_items_total", tenant="globex") == 0
    assert gateway.total("gateway_quota_used", tenant="globex") == 0
    assert gateway.total("gateway_tenant_claims_total", tenant="acme") > 0
    await told_to_be_of_acme(place)
    for path in ("/_metrics", "/-/usage"):
        assert "globex" not in await asyncio.to_thread(page, gateway, path, ACME_TOKEN)
    usage = json.loads(await asyncio.to_thread(page, gateway, "/-/usage", ADMIN_TOKEN))
    assert {row["tenant"]: row["items"] for row in usage["tenants"]} == {"acme": 3 * requests}
    # All of its burst is there for the other.
    for signal, build in BUILDERS.items():
        whole = build(BURST).SerializeToString()
        answer = await asyncio.to_thread(send_http, gateway, whole, signal=signal, headers=bearer("globex-key"))
        assert answer.code == "OK", signal
    assert gateway.unaccounted() == 0


async def told_to_be_of_acme(place: Place) -> None:
    """Every request to a backend, in its header and in its own labels."""
    for backend in (place.over_http, place.over_grpc):
        assert backend.bodies
        assert {headers["x-scope-orgid"] for headers in backend.headers} == {"acme"}
    kinds = set()
    requests = zip(place.over_http.paths, place.over_http.headers, place.over_http.bodies, strict=True)
    for path, headers, body in requests:
        kinds.add(path.rpartition("/")[2])
        match path.rpartition("/")[2]:
            case "metrics":
                for series in WriteRequest.FromString(decompress("snappy", body)).timeseries:
                    assert [label.value for label in series.labels if label.name == "tenant"] == ["acme"], series
            case "logs":
                for stream in PushRequest.FromString(decompress("snappy", body)).streams:
                    assert 'tenant="acme"' in stream.labels
                    assert "globex" not in stream.labels
            case _:
                of_resources(decompress(headers.get("content-encoding", ""), body))
    for body in place.over_grpc.bodies:
        of_resources(body)
    assert kinds == set(BUILDERS)


def of_resources(content: bytes) -> None:
    for group in REQUESTS["traces"].FromString(content).resource_spans:
        named = [pair.value.string_value for pair in group.resource.attributes if pair.key == "tenant"]
        assert named == ["acme"]


def page(gateway: Gateway, path: str, token: str) -> str:
    request = urllib.request.Request(gateway.admin_url + path, headers=bearer(token))
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())


# Beside the token of acme, what is good for the other tenant: nobody can tell whose the request is.
CONFLICTS: dict[str, Pairs] = {
    "a key": [("x-api-key", "globex-key")],
    "a key in mixed case": [("X-Api-Key", "globex-key")],
    "a key after one of its own": [("x-api-key", "acme-key"), ("x-api-key", "globex-key")],
    "a second bearer": [("Authorization", "Bearer globex-key")],
    "a password": [("authorization", "Basic Z2xvYmV4Omdsb2JleC1rZXk=")],
}


async def test_credentials_of_two_tenants_are_a_refusal_on_both_transports(place: Place) -> None:
    gateway = place.gateway
    payload = traces().SerializeToString()
    conflicts: dict[str, Pairs] = {
        **CONFLICTS,
        "a token": [("authorization", f"Bearer {place.token(tenant_id='globex')}")],
    }
    refused = 0
    for name, pairs in conflicts.items():
        for shown in (("authorization", f"Bearer {place.token()}"), ("x-api-key", "acme-key")):
            for order in ((shown, *pairs), (*pairs, shown)):
                assert await asyncio.to_thread(over_http, gateway, payload, "traces", order) == 401, name
                assert await asyncio.to_thread(over_grpc, gateway, payload, "traces", order) == "UNAUTHENTICATED", name
                refused += 2
    counted = gateway.total("gateway_unauthenticated_requests_total", reason="conflicting_credentials")
    assert counted == refused
    assert gateway.total("gateway_received_items_total") == 0
