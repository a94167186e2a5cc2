"""Every quota, on both transports: what a client sees at its limit, and that the ledger closes in every case."""

import copy
import http.client
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.clients import RESPONSES, Answer, bearer, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.payloads import BUILDERS, logs, metrics, text, traces

TRANSPORTS = {"grpc": send_grpc, "http": send_http}
SIGNALS = ["traces", "metrics", "logs"]

QUOTAS: dict[str, dict[str, Any]] = {
    "requests": {signal: {"requests_per_second": 0.5, "burst_requests": 2} for signal in SIGNALS},
    "bytes": {signal: {"bytes_per_second": 1000, "burst_bytes": 1000} for signal in SIGNALS},
    "large": {signal: {"max_request_bytes": 600} for signal in SIGNALS},
    "inflight": {signal: {"max_inflight_bytes": 1000} for signal in SIGNALS},
    "trim": {signal: {"items_per_second": 10, "burst": 20, "over_limit": "trim"} for signal in SIGNALS},
    "daily": {signal: {"daily_bytes": 300} for signal in SIGNALS},
    "monthly": {"monthly_bytes": 300},
    "labels": {"max_attributes": 2, "max_attribute_key_bytes": 40, "max_attribute_value_bytes": 50},
    "sampled": {signal: {"items_per_second": 200, "over_limit": "downsample"} for signal in ("traces", "logs")},
    "reloaded": {"traces": {"items_per_second": 0.1, "burst": 20}},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A tenant a quota and transport; the key is the tenant's name."""
    folder: Path = tmp_path_factory.mktemp("quotas")
    config = base_config(folder)
    for name, quotas in QUOTAS.items():
        for transport in TRANSPORTS:
            tenant = f"{name}-{transport}"
            config["tenants"][tenant] = {
                "quotas": copy.deepcopy(quotas),
                "api_keys": [{"id": "k", "sha256": sha256(tenant)}],
            }
    with run_gateway(folder, config) as running:
        yield running
        assert running.unaccounted() == 0


def send(gateway: Gateway, transport: str, tenant: str, payload: Any, signal: str = "traces") -> Answer:
    body = payload if isinstance(payload, bytes) else payload.SerializeToString()
    return TRANSPORTS[transport](gateway, body, signal=signal, headers=bearer(f"{tenant}-{transport}"))


def assert_over_quota(answer: Answer, limit: str, low_s: float, high_s: float) -> None:
    assert answer.code == "RESOURCE_EXHAUSTED", answer
    assert limit in answer.message
    assert answer.retry_after_s is not None
    assert low_s <= answer.retry_after_s <= high_s
    if answer.headers is not None:
        assert answer.http_status == 429
        assert int(answer.headers["retry-after"]) == max(1, math.ceil(answer.retry_after_s))


def ledger(gateway: Gateway, tenant: str, signal: str) -> dict[str, float]:
    names = ("received", "rejected", "filtered", "sampled_out", "accepted")
    return {name: gateway.total(f"gateway_{name}_items_total", tenant=tenant, signal=signal) for name in names}


def rejected(gateway: Gateway, tenant: str, signal: str, reason: str) -> float:
    return gateway.total("gateway_rejected_items_total", tenant=tenant, signal=signal, reason=reason)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_requests_over_their_rate_wait_for_the_next_token(gateway: Gateway, transport: str, signal: str) -> None:
    answers = [send(gateway, transport, "requests", BUILDERS[signal](3), signal) for _ in range(3)]
    assert [answer.code for answer in answers[:2]] == ["OK", "OK"]
    assert_over_quota(answers[2], f"{signal} requests_per_second", 1.0, 2.0)
    assert rejected(gateway, f"requests-{transport}", signal, "rate_limited_requests") == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_after_the_delay_the_same_request_is_taken(gateway: Gateway, transport: str) -> None:
    payload = logs(1, body="x" * 900)
    assert send(gateway, transport, "bytes", payload, "logs").code == "OK"
    refused = send(gateway, transport, "bytes", payload, "logs")
    assert_over_quota(refused, "logs bytes_per_second", 0.5, 1.0)
    assert refused.retry_after_s is not None
    time.sleep(refused.retry_after_s)
    assert send(gateway, transport, "bytes", payload, "logs").code == "OK"


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_request_over_the_tenants_largest_is_never_worth_a_retry(
    gateway: Gateway, transport: str, signal: str
) -> None:
    assert send(gateway, transport, "large", BUILDERS[signal](1), signal).code == "OK"
    refused = send(gateway, transport, "large", BUILDERS[signal](50), signal)
    assert (refused.code, refused.retry_after_s) == ("RESOURCE_EXHAUSTED", None)
    assert "600 bytes" in refused.message
    assert refused.http_status in (None, 413)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_bytes_in_flight_over_the_quota_are_the_tenants_own_problem(gateway: Gateway, transport: str) -> None:
    tenant = f"inflight-{transport}"
    host, port = gateway.http.rsplit(":", 1)
    slow = http.client.HTTPConnection(host, int(port), timeout=20)
    slow.putrequest("POST", "/v1/traces")
    slow.putheader("authorization", f"Bearer {tenant}")
    slow.putheader("content-type", "application/x-protobuf")
    slow.putheader("content-length", "990")
    slow.endheaders()
    slow.send(b"\0" * 980)
    deadline = time.monotonic() + 10
    while gateway.total("gateway_quota_used", tenant=tenant, limit="max_inflight_bytes") < 980:
        assert time.monotonic() < deadline
    assert_over_quota(send(gateway, transport, "inflight", traces()), "max_inflight_bytes", 1.0, 1.0)
    assert send(gateway, transport, "inflight", logs(), "logs").code == "OK", "another signal has its own"
    assert send_http(gateway, traces().SerializeToString(), headers=bearer("acme-key")).code == "OK"
    slow.close()
    while (answer := send(gateway, transport, "inflight", traces(100))).code != "OK":
        assert time.monotonic() < deadline, answer
    assert gateway.total("gateway_rejected_requests_total", tenant=tenant, reason="inflight_bytes") >= 1


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_trim_takes_the_first_that_fit_and_says_how_many_it_refused(
    gateway: Gateway, transport: str, signal: str
) -> None:
    answer = send(gateway, transport, "trim", BUILDERS[signal](30), signal)
    assert answer.code == "OK"
    partial = RESPONSES[signal].FromString(answer.body).partial_success
    counts = [value for field, value in partial.ListFields() if field.name.startswith("rejected")]
    assert counts == [10]
    why = f"rate_limited_items: 10 of 30 items are over the quota of {signal} items_per_second"
    assert partial.error_message == why
    refused = send(gateway, transport, "trim", BUILDERS[signal](30), signal)
    if refused.code == "OK":  # a slow machine has refilled a token
        refused = send(gateway, transport, "trim", BUILDERS[signal](30), signal)
    assert_over_quota(refused, f"{signal} items_per_second", 1.5, 2.0)
    sums = ledger(gateway, f"trim-{transport}", signal)
    assert sums["received"] == sums["rejected"] + sums["accepted"]
    assert rejected(gateway, f"trim-{transport}", signal, "rate_limited_items") == sums["rejected"]


def test_trim_answers_json_in_json(gateway: Gateway) -> None:
    time.sleep(0.3)
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "s"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span] * 30}]}]}).encode()
    answer = send_http(gateway, body, headers=bearer("trim-http"), content_type="application/json")
    assert answer.http_status == 200
    assert int(json.loads(answer.body)["partialSuccess"]["rejectedSpans"]) > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("tenant", "reason"), [("daily", "daily_volume"), ("monthly", "monthly_volume")])
def test_volume_over_its_limit_is_refused_until_the_period_ends(
    gateway: Gateway, transport: str, tenant: str, reason: str
) -> None:
    payload = traces(5)
    assert send(gateway, transport, tenant, payload).code == "OK"
    refused = send(gateway, transport, tenant, payload)
    limit = "traces daily_bytes" if tenant == "daily" else "quota of monthly_bytes"
    # At most an hour; less if these tests run shortly before midnight.
    assert_over_quota(refused, limit, 0.0, 3600.0)
    assert rejected(gateway, f"{tenant}-{transport}", "traces", reason) == 5
    other = send(gateway, transport, tenant, logs(), "logs")
    assert other.code == ("OK" if tenant == "daily" else "RESOURCE_EXHAUSTED"), "monthly_bytes is the whole tenant's"
    used = gateway.total("gateway_quota_used", tenant=f"{tenant}-{transport}", limit=f"{tenant}_bytes", signal="all")
    assert used == (len(payload.SerializeToString()) if tenant == "monthly" else 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_items_over_the_label_limits_are_refused_and_the_others_taken(gateway: Gateway, transport: str) -> None:
    tenant = f"labels-{transport}"
    request = traces(5)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].attributes.extend([text("second", "v"), text("third", "v")])
    spans[1].attributes.append(text("k" * 41, "v"))
    spans[2].events.add(attributes=[text("k", "v" * 51)])
    spans[3].attributes.append(text("k" * 40, "v" * 50))
    answer = send(gateway, transport, "labels", request)
    assert answer.code == "OK"
    partial = RESPONSES["traces"].FromString(answer.body).partial_success
    assert partial.rejected_spans == 3
    assert "label_limit: 3 of 5 items have more than 2 attributes" in partial.error_message
    assert rejected(gateway, tenant, "traces", "label_limit") == 3
    # A resource over the limits takes its items along.
    answer = send(gateway, transport, "labels", logs(4, a="1", b="2"), "logs")
    assert RESPONSES["logs"].FromString(answer.body).partial_success.rejected_log_records == 4
    assert ledger(gateway, tenant, "logs") == {
        "received": 4, "rejected": 4, "filtered": 0, "sampled_out": 0, "accepted": 0,
    }  # fmt: skip


@pytest.mark.parametrize("tenant", ["labels-http", "acme-key"])
def test_enormous_numbers_of_labels_are_answered_in_time(gateway: Gateway, tenant: str) -> None:
    request = metrics(1)
    point = request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
    point.attributes.extend(text(f"label{index}", "value") for index in range(100_000))
    started = time.monotonic()
    answer = send_http(gateway, request.SerializeToString(), signal="metrics", headers=bearer(tenant))
    assert answer.code == "OK"
    assert time.monotonic() - started < 5
    partial = RESPONSES["metrics"].FromString(answer.body).partial_success
    assert partial.rejected_data_points == (1 if tenant == "labels-http" else 0)


def random_traces(rng: random.Random, count: int) -> ExportTraceServiceRequest:
    """Two spans a trace."""
    request = traces(2 * count)
    spans = request.resource_spans[0].scope_spans[0].spans
    for index in range(count):
        spans[2 * index].trace_id = spans[2 * index + 1].trace_id = rng.randbytes(16)
    return request


def delivered(gateway: Gateway, tenant: str, resources: str, scopes: str, items: str) -> list[dict[str, Any]]:
    gateway.wait_delivered()
    lines = (gateway.config_path.parent / "out" / f"{tenant}.jsonl").read_text().splitlines()
    return [
        item
        for line in lines
        for resource in json.loads(line).get(resources, [])
        for scope in resource[scopes]
        for item in scope[items]
    ]


def scale(threshold: str) -> float:
    """How many items one stands for that passed this threshold."""
    return 1 / (1 - int(threshold.ljust(14, "0"), 16) / (1 << 56))


def test_downsampled_spans_stay_whole_traces_and_their_scaled_count_is_what_was_sent(gateway: Gateway) -> None:
    rng = random.Random(7)
    started = time.monotonic()
    answers = [send(gateway, "http", "sampled", random_traces(rng, 100)).code for _ in range(100)]
    seconds = time.monotonic() - started
    assert set(answers) == {"OK"}, "a sample fits, so nothing is refused"
    spans = delivered(gateway, "sampled-http", "resourceSpans", "scopeSpans", "spans")
    sums = ledger(gateway, "sampled-http", "traces")
    assert sums["received"] == 20_000 == sums["sampled_out"] + sums["accepted"]
    assert len(spans) == sums["accepted"]
    assert len(spans) <= 200 * (seconds + 1) * 1.25, "burst and rate, and the luck of the draw"
    by_trace: dict[str, int] = {}
    estimate, variance = 0.0, 0.0
    for span in spans:
        by_trace[span["traceId"]] = by_trace.get(span["traceId"], 0) + 1
        state = span.get("traceState", "")
        weight = scale(state.removeprefix("ot=th:")) if state else 1.0
        estimate += weight
        variance += 2 * weight * (weight - 1)
    assert set(by_trace.values()) == {2}
    assert abs(estimate - 20_000) < 5 * math.sqrt(variance), (estimate, variance)


def test_downsampled_logs_publish_their_threshold_in_an_attribute(gateway: Gateway) -> None:
    for _ in range(50):
        assert send(gateway, "grpc", "sampled", logs(200), "logs").code == "OK"
    records = delivered(gateway, "sampled-grpc", "resourceLogs", "scopeLogs", "logRecords")
    sums = ledger(gateway, "sampled-grpc", "logs")
    assert sums["received"] == 10_000 == sums["sampled_out"] + sums["accepted"]
    estimate, variance = 0.0, 0.0
    for record in records:
        published = [
            attribute["value"]["stringValue"]
            for attribute in record.get("attributes", [])
            if attribute["key"] == "sampling.threshold"
        ]
        weight = scale(published[0]) if published else 1.0
        estimate += weight
        variance += weight * (weight - 1)
    assert abs(estimate - 10_000) < 5 * math.sqrt(variance), (estimate, variance)
    ratio = gateway.total("gateway_downsampling_ratio", tenant="sampled-grpc", signal="logs")
    assert 0 < ratio <= 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_reload_that_changes_the_rate_fills_no_bucket(gateway: Gateway, transport: str) -> None:
    assert send(gateway, transport, "reloaded", traces(20)).code == "OK"
    assert_over_quota(send(gateway, transport, "reloaded", traces(1)), "items_per_second", 5, 10)
    config = yaml.safe_load(gateway.config_path.read_text())
    quota = config["tenants"][f"reloaded-{transport}"]["quotas"]["traces"]
    quota |= {"items_per_second": 0.2, "burst": 100}
    gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    gateway.reload()
    assert_over_quota(send(gateway, transport, "reloaded", traces(1)), "items_per_second", 0.1, 5)
