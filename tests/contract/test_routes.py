"""Routes by attribute: an item goes where the attributes of its resource say, and one that nobody takes is named."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.sink.decode import decompress
from gateway.sink.proto.remote_write_1_pb2 import WriteRequest
from tests.support.clients import REQUESTS, RESPONSES, bearer, send_http
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.payloads import BUILDERS, metrics
from tests.support.scripted import Backend, scripted

ACME = bearer("acme-key")
SIGNALS = list(BUILDERS)
EUROPE = {"cloud.region": "eu-.*"}


def config(folder: Path, *routes: Any, **defaults: Any) -> dict[str, Any]:
    """Every signal takes these routes, to files of these names."""
    made = base_config(folder)
    names = {route["to"] if isinstance(route, dict) else route for route in routes}
    made["destinations"] = {name: {"type": "file", "path": str(folder / f"{name}-{{signal}}.jsonl")} for name in names}
    made["defaults"] = {"routes": {signal: list(routes) for signal in SIGNALS}, **defaults}
    return made


def payload(signal: str, *resources: tuple[int, dict[str, str]]) -> bytes:
    """So many items of each of these resources, by their attributes."""
    request = REQUESTS[signal]()
    for number, (items, attributes) in enumerate(resources):
        request.MergeFrom(BUILDERS[signal](items, **{"number": str(number), **attributes}))
    return bytes(request.SerializeToString())


def numbers(folder: Path, name: str, signal: str) -> list[int]:
    """The numbers of the resources in a file, in order."""
    path = folder / f"{name}-{signal}.jsonl"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        (groups,) = json.loads(line).values()
        for group in groups:
            values = {pair["key"]: pair["value"]["stringValue"] for pair in group["resource"]["attributes"]}
            found.append(int(values["number"]))
    return found


def settle(gateway: Gateway) -> None:
    gateway.wait_delivered()
    assert gateway.unaccounted() == 0


def test_each_item_goes_where_its_resource_says_and_everywhere_without_a_condition(tmp_path: Path) -> None:
    routes = ["all", {"to": "europe", "when": EUROPE}, {"to": "rest", "unless": EUROPE}]
    sent = [
        (2, {"cloud.region": "eu-north"}),
        (1, {"cloud.region": "us-east"}),
        (3, {}),
        (1, {"cloud.region": "eu-south"}),
        (1, {"cloud.region": "not eu-south"}),
    ]
    with run_gateway(tmp_path, config(tmp_path, *routes)) as gateway:
        for signal in SIGNALS:
            answer = send_http(gateway, payload(signal, *sent), signal=signal, headers=ACME)
            assert not RESPONSES[signal].FromString(answer.body).HasField("partial_success")
        settle(gateway)
        for signal in SIGNALS:
            assert numbers(tmp_path, "all", signal) == [0, 1, 2, 3, 4]
            assert numbers(tmp_path, "europe", signal) == [0, 3]
            assert numbers(tmp_path, "rest", signal) == [1, 2, 4]
            assert gateway.total("gateway_accepted_items_total", signal=signal) == 8
            for name, items in (("all", 8), ("europe", 3), ("rest", 5)):
                assert gateway.total("gateway_encoded_items_total", signal=signal, destination=name) == items
                assert gateway.total("gateway_delivered_items_total", signal=signal, destination=name) == items


def test_what_is_shared_out_over_routes_is_accepted_and_not_filtered(tmp_path: Path) -> None:
    """No route takes all of it, and each leaves something out."""
    routes = [{"to": "europe", "when": EUROPE}, {"to": "rest", "unless": EUROPE}]
    sent = [(2, {"cloud.region": "eu-north"}), (3, {"cloud.region": "us-east"})]
    with run_gateway(tmp_path, config(tmp_path, *routes)) as gateway:
        for signal in SIGNALS:
            assert send_http(gateway, payload(signal, *sent), signal=signal, headers=ACME).code == "OK"
        settle(gateway)
        for signal in SIGNALS:
            assert gateway.total("gateway_accepted_items_total", signal=signal) == 5
            assert gateway.total("gateway_filtered_items_total", signal=signal) == 0
            assert gateway.total("gateway_delivered_items_total", signal=signal) == 5


def test_conditions_see_attributes_after_masking_and_relabelling(tmp_path: Path) -> None:
    routes = [
        {"to": "people", "when": {"owner": r"\[email\]"}},
        {"to": "shops", "when": {"team": "shop", "owner": ""}},
    ]
    relabel = {"resource": [{"source_labels": ["service.name"], "regex": "shop-.*", "target_label": "team",
                             "replacement": "shop"}]}  # fmt: skip
    masked = config(tmp_path, *routes, mask={"detectors": ["email"]}, relabel=relabel)
    with run_gateway(tmp_path, masked) as gateway:
        sent = payload("logs", (1, {"owner": "jane@example.com"}), (1, {"service": "shop-7"}))
        send_http(gateway, sent, signal="logs", headers=ACME)
        settle(gateway)
        assert (numbers(tmp_path, "people", "logs"), numbers(tmp_path, "shops", "logs")) == ([0], [1])


def test_what_no_route_takes_is_refused_by_name_and_the_rest_is_taken(tmp_path: Path) -> None:
    routes = [{"to": "europe", "when": EUROPE}, {"to": "asia", "when": {"cloud.region": "ap-.*"}}]
    sent = [(2, {"cloud.region": "us-east"}), (1, {"cloud.region": "eu-north"}), (3, {})]
    with run_gateway(tmp_path, config(tmp_path, *routes)) as gateway:
        for signal, field in (
            ("traces", "rejected_spans"), ("metrics", "rejected_data_points"), ("logs", "rejected_log_records")
        ):  # fmt: skip
            answer = send_http(gateway, payload(signal, *sent), signal=signal, headers=ACME)
            assert answer.code == "OK"
            partial = RESPONSES[signal].FromString(answer.body).partial_success
            assert getattr(partial, field) == 5
            assert partial.error_message == "no_route: 5 of 6 items are of resources that no route takes"
        none = send_http(gateway, payload("logs", (4, {})), signal="logs", headers=ACME)
        assert RESPONSES["logs"].FromString(none.body).partial_success.rejected_log_records == 4
        settle(gateway)
        for signal in SIGNALS:
            assert numbers(tmp_path, "europe", signal) == [1]
            assert gateway.total("gateway_accepted_items_total", signal=signal) == 1
            rejected = gateway.total("gateway_rejected_items_total", signal=signal, reason="no_route")
            assert rejected == (9 if signal == "logs" else 5)
        assert gateway.total("gateway_rejected_requests_total") == 0


def points(backend: Backend) -> dict[str, int]:
    """How many samples came, by job; overflow series under their own name."""
    counts: dict[str, int] = {}
    for body in backend.bodies:
        for series in WriteRequest.FromString(decompress("snappy", body)).timeseries:
            labels = {label.name: label.value for label in series.labels}
            if labels["__name__"] == "target_info":
                continue
            job = "overflow" if "otel_metric_overflow" in labels else labels["job"]
            counts[job] = counts.get(job, 0) + len(series.samples)
    return counts


@pytest.mark.parametrize("shards", [1, 3])
async def test_the_series_of_all_routes_count_against_one_budget(tmp_path: Path, shards: int) -> None:
    async with scripted() as one, scripted() as other:
        made = base_config(tmp_path)
        made["destinations"] = {
            name: {"type": "remote_write", "version": "1", "url": backend.url, "shards": shards}
            for name, backend in (("one", one), ("other", other))
        }
        when = {"service.name": "a"}
        made["defaults"] = {"routes": {"metrics": [{"to": "one", "when": when}, {"to": "other", "unless": when}]}}
        made["tenants"]["acme"]["quotas"] = {"metrics": {"active_series": 10, "folded_series": 100}}
        with run_gateway(tmp_path, made) as gateway:
            for service in ("a", "b"):
                sent = metrics(7, service=service).SerializeToString()
                answer = await asyncio.to_thread(send_http, gateway, sent, signal="metrics", headers=ACME)
                assert answer.code == "OK"
            await asyncio.to_thread(settle, gateway)
            assert gateway.total("gateway_active_series", tenant="acme") == 10
            assert gateway.total("gateway_folded_points_total", tenant="acme") == 4
            assert gateway.total("gateway_accepted_items_total", tenant="acme") == 14
        # An overflow series is preceded by a zero. It keeps its service, and goes where that goes.
        assert points(one) == {"a": 7}
        assert points(other) == {"b": 3, "overflow": 2}
