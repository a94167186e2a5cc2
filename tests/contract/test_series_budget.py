"""What a sender is told when its series are over the budget, on both transports, and what the operator sees."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from gateway.sink.server import Sink
from tests.support.clients import RESPONSES, bearer, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.payloads import metrics
from tests.support.series import CountingApplication, gauges

SENDERS = [pytest.param(send_grpc, "grpc", id="grpc"), pytest.param(send_http, "http", id="http")]


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("budget")
    config: dict[str, Any] = base_config(folder)
    for name in ("gauges-grpc", "gauges-http", "gauges-json", "counters-grpc", "counters-http"):
        config["tenants"][name] = {
            "quotas": {"metrics": {"active_series": 3, "folded_series": 4}},
            "api_keys": [{"id": "k1", "sha256": sha256(f"{name}-key")}],
        }
    with run_gateway(folder, config) as gateway:
        yield gateway
        gateway.wait_delivered()
        assert gateway.unaccounted() == 0


def key(tenant: str) -> dict[str, str]:
    return bearer(f"{tenant}-key")


@pytest.mark.parametrize(("send", "name"), SENDERS)
def test_gauges_over_the_budget_are_rejected_by_partial_success(budget: Gateway, send: Any, name: str) -> None:
    tenant = f"gauges-{name}"
    queues = {f"q{index}": 1.0 for index in range(8)}
    answer = send(budget, gauges(queues).SerializeToString(), signal="metrics", headers=key(tenant))
    assert answer.code == "OK"
    partial = RESPONSES["metrics"].FromString(answer.body).partial_success
    assert partial.rejected_data_points == 5
    # The count of values is an estimate: two of five may look like one.
    assert re.fullmatch(
        f"series_limit: 5 points of new series were not taken, tenant {tenant} is over its quota of active_series 3; "
        r"label queue has grown to about [3-6] values",
        partial.error_message,
    )
    known = {f"q{index}": 2.0 for index in range(3)}
    again = send(budget, gauges(known).SerializeToString(), signal="metrics", headers=key(tenant))
    assert not RESPONSES["metrics"].FromString(again.body).HasField("partial_success"), "known series keep flowing"
    assert budget.total("gateway_rejected_items_total", tenant=tenant, reason="series_limit") == 5
    assert budget.total("gateway_rejected_requests_total", tenant=tenant) == 0
    assert budget.total("gateway_accepted_items_total", tenant=tenant) == 6
    assert budget.total("gateway_active_series", tenant=tenant) == 3
    assert 3 <= budget.total("gateway_series_limit_offending_label", tenant=tenant, label="queue") <= 6


def test_json_says_the_same(budget: Gateway) -> None:
    queues = {f"q{index}": 1.0 for index in range(8)}
    body = json_format.MessageToJson(gauges(queues)).encode()
    headers = key("gauges-json")
    answer = send_http(budget, body, signal="metrics", headers=headers, content_type="application/json")
    partial = json.loads(answer.body)["partialSuccess"]
    assert partial["rejectedDataPoints"] == "5"
    assert partial["errorMessage"].startswith("series_limit: 5 points")


@pytest.mark.parametrize(("send", "name"), SENDERS)
def test_counters_over_the_budget_are_folded_until_their_own_bound(budget: Gateway, send: Any, name: str) -> None:
    tenant = f"counters-{name}"
    app = CountingApplication()
    app.count({f"u{index}": 10 for index in range(9)})
    answer = send(budget, app.request().SerializeToString(), signal="metrics", headers=key(tenant))
    partial = RESPONSES["metrics"].FromString(answer.body).partial_success
    assert partial.rejected_data_points == 2, "three are kept, four folded"
    assert budget.total("gateway_folded_series", tenant=tenant) == 4
    assert budget.total("gateway_folded_points_total", tenant=tenant) == 4
    assert budget.total("gateway_overflow_series", tenant=tenant) == 1
    assert budget.total("gateway_accepted_items_total", tenant=tenant) == 7
    assert budget.total("gateway_encoded_items_total", tenant=tenant) == 5, "three, and the overflow's zero and total"


async def test_every_destination_gets_what_is_within_the_budget_and_nothing_else(tmp_path: Path) -> None:
    sink = Sink()
    await sink.start()
    config = base_config(tmp_path)
    # Series are counted while the payload of `prometheus` is written; the other destinations come before and after it.
    remote_write = {"type": "remote_write", "url": f"{sink.http_url}/api/v1/write"}
    config["destinations"] |= {
        "early": {"type": "file", "path": str(tmp_path / "early" / "{tenant}.jsonl")},
        "prometheus": remote_write | {"promote_resource_attributes": ["service.version", "deployment"]},
        "promoting": remote_write | {"promote_resource_attributes": ["deployment"]},
    }
    everywhere = ["early", "prometheus", "promoting", "disk"]
    config["defaults"]["routes"]["metrics"] = everywhere
    config["tenants"]["acme"]["quotas"] = {"metrics": {"active_series": 3}}

    def send_and_count() -> list[dict[str, float]]:
        with run_gateway(tmp_path, config) as gateway:
            app = CountingApplication()
            app.count({f"u{index}": 10 for index in range(9)})
            requests = [gauges({f"q{index}": 1.0 for index in range(8)}), app.request()]
            for request in requests:
                answer = send_http(gateway, request.SerializeToString(), signal="metrics", headers=bearer("acme-key"))
                assert answer.code == "OK"
            gateway.wait_delivered()
            assert gateway.unaccounted() == 0
            assert gateway.total("gateway_accepted_items_total", tenant="acme") == 12
            names = ("gateway_encoded_items_total", "gateway_delivered_items_total")
            return [{each: gateway.total(name, destination=each) for each in everywhere} for name in names]

    encoded, delivered = await asyncio.to_thread(send_and_count)
    await sink.stop()
    assert encoded == dict.fromkeys(everywhere, 5), "three gauges, and the overflow series' zero and total"
    assert delivered == encoded


def test_without_a_budget_nothing_is_tracked(budget: Gateway) -> None:
    answer = send_http(budget, metrics(50).SerializeToString(), signal="metrics", headers=bearer("acme-key"))
    assert not RESPONSES["metrics"].FromString(answer.body).HasField("partial_success")
    assert not [name for name, labels in budget.metrics() if name == "gateway_active_series" and "acme" in str(labels)]
