"""What leaves is what came in: properties of the wire, through the running gateway, decoded by opentelemetry-proto."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from gateway.sink.server import Sink
from tests.support.clients import bearer, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.payloads import traces

ACME, GLOBEX = bearer("acme-key"), bearer("globex-key")
MASKED = ("jane.doe@customer.example.com", "4111 1111 1111 1111")


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Tenant acme's policy does nothing, globex masks; both go to files."""
    folder: Path = tmp_path_factory.mktemp("wire")
    config: dict[str, Any] = base_config(folder)
    config["tenants"]["globex"]["mask"] = {"keys": ["password"]}
    with run_gateway(folder, config) as gateway:
        gateway.extra["folder"] = folder
        yield gateway
        assert gateway.unaccounted() == 0


def delivered(gateway: Gateway, tenant: str) -> list[dict[str, Any]]:
    gateway.wait_delivered()
    path = gateway.extra["folder"] / "out" / f"{tenant}.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


def as_message(line: dict[str, Any]) -> ExportTraceServiceRequest:
    """OTLP/JSON by Python's own ProtoJSON, which wants ids in base64."""
    import base64

    def ids(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: base64.b64encode(bytes.fromhex(inner)).decode()
                if name in ("traceId", "spanId", "parentSpanId")
                else ids(inner)
                for name, inner in value.items()
            }
        return [ids(inner) for inner in value] if isinstance(value, list) else value

    return json_format.ParseDict(ids(line), ExportTraceServiceRequest())


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
leaf = st.one_of(
    text.map(lambda value: AnyValue(string_value=value)),
    st.booleans().map(lambda value: AnyValue(bool_value=value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: AnyValue(int_value=value)),
    st.floats(allow_nan=False).map(lambda value: AnyValue(double_value=value)),
    st.binary(max_size=20).map(lambda value: AnyValue(bytes_value=value)),
)


def nest(inner: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    def array(values: list[AnyValue]) -> AnyValue:
        value = AnyValue()
        value.array_value.values.extend(values)
        return value

    def mapping(pairs: list[tuple[str, AnyValue]]) -> AnyValue:
        value = AnyValue()
        value.kvlist_value.values.extend(KeyValue(key=key, value=inner) for key, inner in pairs)
        return value

    return st.one_of(st.lists(inner, max_size=3).map(array), st.lists(st.tuples(text, inner), max_size=3).map(mapping))


values = st.recursive(leaf, nest, max_leaves=6)


@given(st.lists(st.tuples(text, values), max_size=4), text)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_without_a_policy_what_leaves_equals_what_came_in(
    wire: Gateway, attributes: list[tuple[str, AnyValue]], name: str
) -> None:
    request = traces(name=name, tenant="acme")
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.extend(KeyValue(key=key, value=value) for key, value in attributes)
    before = len(delivered(wire, "acme"))
    assert send_grpc(wire, request.SerializeToString(), headers=ACME).code == "OK"
    (line,) = delivered(wire, "acme")[before:]
    assert as_message(line) == request


@given(st.lists(st.sampled_from([*MASKED, "plain", "größe"]), min_size=1, max_size=5), text)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_with_masking_only_the_masked_values_differ(wire: Gateway, words: list[str], password: str) -> None:
    request = traces(name="n", tenant="globex")
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="words", value=AnyValue(string_value=" | ".join(words)))
    span.attributes.add(key="password", value=AnyValue(string_value=password))
    before = len(delivered(wire, "globex"))
    assert send_grpc(wire, request.SerializeToString(), headers=GLOBEX).code == "OK"
    (line,) = delivered(wire, "globex")[before:]
    replaced = {MASKED[0]: "[email]", MASKED[1]: "[credit_card]"}
    span.attributes[-2].value.string_value = " | ".join(replaced.get(word, word) for word in words)
    span.attributes[-1].value.string_value = "[redacted]"
    assert as_message(line) == request


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_random_and_truncated_bytes_are_always_answered(wire: Gateway, noise: bytes, cut: int) -> None:
    truncated = traces(3).SerializeToString()[:cut]
    for payload in (noise, truncated):
        for signal in ("traces", "metrics", "logs"):
            assert send_http(wire, payload, signal=signal, headers=ACME).http_status in (200, 400)
        answer = send_http(wire, payload, headers=ACME, content_type="application/json")
        assert answer.http_status in (200, 400)


async def test_json_and_protobuf_leave_as_equal_bytes(tmp_path: Path) -> None:
    """To an OTLP destination, whose requests are compared as they arrive."""
    import asyncio

    sink = Sink()
    await sink.start()
    config = base_config(tmp_path)
    config["destinations"] = {"sink": {"type": "otlp", "endpoint": sink.http_url, "protocol": "http"}}
    config["defaults"]["routes"] = {"traces": ["sink"]}
    request = traces(3)

    def send_both() -> None:
        with run_gateway(tmp_path, config) as gateway:
            assert send_http(gateway, request.SerializeToString(), headers=ACME).code == "OK"
            gateway.wait_delivered()
            as_json = otlp_json(request)
            answer = send_http(gateway, as_json, headers=ACME, content_type="application/json")
            assert answer.code == "OK", answer
            gateway.wait_delivered()

    await asyncio.to_thread(send_both)
    await sink.stop()
    first, second = list(sink.received.kept)[:3], list(sink.received.kept)[3:]
    assert len(first) == 3
    assert [arrival.everything for arrival in first] == [arrival.everything for arrival in second]


def otlp_json(request: ExportTraceServiceRequest) -> bytes:
    """OTLP/JSON: ProtoJSON, but ids in hexadecimal and enums as numbers."""
    import base64

    document = json_format.MessageToDict(request, use_integers_for_enums=True)
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId"):
                    span[name] = base64.b64decode(span[name]).hex()
    return json.dumps(document).encode()
