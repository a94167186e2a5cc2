"""What a tenant's settings come to, and how they reach the engine."""

import hashlib
from typing import Any

import orjson
import pytest

from gateway.config.models import Config
from gateway.daemon import try_policy
from gateway.policy.compiler import compile_table

DESTINATIONS = {
    "prometheus": {
        "type": "remote_write",
        "url": "http://p/w",
        "promote_resource_attributes": ["k8s.pod.name"],
        "shards": 4,
    },
    "loki": {"type": "loki", "url": "http://l/push", "stream_labels": ["service", "k8s.pod.name"]},
    "jaeger": {"type": "otlp", "endpoint": "http://j:4317"},
    "disk": {"type": "file", "path": "out.jsonl"},
}
ROUTES = {"traces": ["jaeger"], "metrics": ["prometheus"], "logs": ["loki"]}


def table(tenants: dict[str, Any], defaults: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The table of a configuration, which the engine takes as well."""
    config = Config.model_validate(
        {"destinations": DESTINATIONS, "defaults": {"routes": ROUTES, **(defaults or {})}, "tenants": tenants, **more}
    )
    try_policy(config)
    compiled: dict[str, Any] = orjson.loads(compile_table(config, 7))
    return compiled


def policy(tenant: dict[str, Any], defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    compiled = table({"acme": tenant}, defaults)
    found: dict[str, Any] = compiled["policies"][compiled["tenants"][0]["policy"]]
    return found


def test_routes_are_inherited_signal_by_signal_and_an_empty_list_forbids() -> None:
    merged = policy({"routes": {"traces": ["disk", "jaeger"], "logs": []}})
    assert merged["traces"]["routes"] == [{"to": 3, "when": {}, "unless": {}}, {"to": 2, "when": {}, "unless": {}}]
    assert merged["metrics"]["routes"] == [{"to": 0, "when": {}, "unless": {}}]
    assert merged["logs"] is None


def test_a_route_has_its_conditions_and_the_engine_says_where_a_regex_is_wrong() -> None:
    conditional = {"to": "jaeger", "when": {"team": "shop"}, "unless": {"env": "test.*"}}
    merged = policy({"routes": {"traces": ["disk", conditional]}})
    assert merged["traces"]["routes"][1] == {"to": 2, "when": {"team": "shop"}, "unless": {"env": "test.*"}}
    with pytest.raises(ValueError, match=r"policies\[0\]\.traces\.routes\[0\]\.when\.team: look-around"):
        policy({"routes": {"traces": [{"to": "disk", "when": {"team": "(?=shop)"}}]}})


def test_a_signal_without_any_route_is_forbidden() -> None:
    config = Config.model_validate({"destinations": DESTINATIONS, "tenants": {"acme": {}}})
    assert orjson.loads(compile_table(config, 1))["policies"] == [
        {
            "claims": "overwrite",
            "volume": {"daily_bytes": None, "monthly_bytes": None},
            "traces": None,
            "metrics": None,
            "logs": None,
        }
    ]


NO_QUOTA: dict[str, Any] = {
    "requests": None,
    "items": None,
    "bytes": None,
    "max_request_bytes": None,
    "max_inflight_bytes": None,
    "volume": {"daily_bytes": None, "monthly_bytes": None},
    "labels": {"max_attributes": None, "max_attribute_key_bytes": None, "max_attribute_value_bytes": None},
    "over_limit": "reject",
}


def test_quotas_are_inherited_key_by_key() -> None:
    defaults = {"quotas": {"traces": {"items_per_second": 10}, "logs": {"items_per_second": 5, "over_limit": "trim"}}}
    merged = policy({"quotas": {"logs": {"bytes_per_second": "1KiB", "burst_bytes": "2KiB"}}}, defaults)
    assert merged["traces"]["quota"] == {**NO_QUOTA, "items": {"per_second": 10, "burst": 10}}
    assert merged["metrics"]["quota"] == NO_QUOTA
    assert merged["logs"]["quota"] == {
        **NO_QUOTA,
        "items": {"per_second": 5, "burst": 5},
        "bytes": {"per_second": 1024, "burst": 2048},
        "over_limit": "trim",
    }


def test_a_rate_comes_with_its_own_burst_and_null_takes_a_limit_away() -> None:
    defaults = {
        "quotas": {
            "traces": {"items_per_second": 10, "burst": 5, "max_request_bytes": 100, "daily_bytes": "1KB"},
            "max_attributes": 7,
            "daily_bytes": "1MB",
        }
    }
    own = {"traces": {"items_per_second": 1000, "daily_bytes": None}, "daily_bytes": None, "monthly_bytes": "1GB"}
    merged = policy({"quotas": own}, defaults)
    assert merged["traces"]["quota"]["items"] == {"per_second": 1000, "burst": 1000}
    assert merged["traces"]["quota"]["max_request_bytes"] == 100
    assert merged["traces"]["quota"]["volume"]["daily_bytes"] is None
    assert merged["logs"]["quota"]["labels"]["max_attributes"] == 7
    assert merged["volume"] == {"daily_bytes": None, "monthly_bytes": 10**9}


def test_a_bucket_holds_at_least_one_request() -> None:
    merged = policy({"quotas": {"logs": {"requests_per_second": 0.1}}})
    assert merged["logs"]["quota"]["requests"] == {"per_second": 0.1, "burst": 1}


def rule(target: str) -> dict[str, Any]:
    return {"source_labels": ["a"], "target_label": target}


def test_relabelling_is_inherited_list_by_list_and_each_signal_gets_its_own() -> None:
    defaults = {"relabel": {"resource": [rule("r")], "traces": [rule("t")], "metrics": [rule("m")]}}
    merged = policy({"relabel": {"traces": [], "logs": [rule("l")]}}, defaults)

    def targets(signal: str, stage: str) -> list[str]:
        return [compiled["target_label"] for compiled in merged[signal]["relabel"][stage]]

    assert [targets(signal, "resource") for signal in ROUTES] == [["r"], ["r"], ["r", "l"]]
    assert [targets(signal, "series") for signal in ROUTES] == [[], ["m"], []]


def test_sampling_and_claims_are_inherited_whole() -> None:
    defaults = {"sample": {"traces": {"ratio": 0.25}}, "claims": "refuse"}
    inherited = policy({}, defaults)
    assert (inherited["traces"]["sample"], inherited["claims"]) == ({"ratio": 0.25}, "refuse")
    assert inherited["logs"]["sample"] is None
    own = policy({"sample": {"traces": {"ratio": 1}}, "claims": "overwrite"}, defaults)
    assert (own["traces"]["sample"], own["claims"]) == (None, "overwrite")


def test_tenants_with_equal_settings_share_one_policy() -> None:
    ratio = {"sample": {"traces": {"ratio": 0.5}}}
    compiled = table({"a": {}, "b": ratio, "c": {"disabled": True}, "d": ratio, "e": {"claims": "overwrite"}})
    assert [tenant["policy"] for tenant in compiled["tenants"]] == [0, 1, 0, 1, 0]
    assert len(compiled["policies"]) == 2
    assert [tenant["disabled"] for tenant in compiled["tenants"]] == [False, False, True, False, False]


def test_two_thousand_tenants_compile_to_one_policy() -> None:
    keys = {f"t{n}": {"api_keys": [{"id": "k", "sha256": hashlib.sha256(b"%d" % n).hexdigest()}]} for n in range(2000)}
    compiled = table(keys, {"mask": {"keys": ["password"]}})
    assert len(compiled["policies"]) == 1
    assert len({tenant["api_keys"][0]["sha256"] for tenant in compiled["tenants"]}) == 2000


def test_each_destination_gets_its_encoding_and_shards() -> None:
    compiled = table({"acme": {}})
    assert compiled["destinations"] == [
        {"name": "prometheus", "encoding": {"type": "remote_write1", "promote": ["k8s.pod.name"]}, "shards": 4},
        {
            "name": "loki",
            "encoding": {
                "type": "loki",
                "stream_labels": [
                    {"label": "service", "attribute": "service.name"},
                    {"label": "k8s_pod_name", "attribute": "k8s.pod.name"},
                ],
                "entries": {
                    "max_line_bytes": 262144,
                    "long_lines": "cut",
                    "max_metadata_bytes": 65536,
                    "max_metadata_pairs": 128,
                    "log_form": "keep",
                },
            },
            "shards": 1,
        },
        {"name": "jaeger", "encoding": {"type": "otlp"}, "shards": 1},
        {"name": "disk", "encoding": {"type": "otlp_json"}, "shards": 1},
    ]


def test_the_rest_of_the_table_is_as_configured() -> None:
    by_uri = {"tenant_from": "san_uri", "pattern": "spiffe://([^/]+)"}
    identity = [{"api_key": {"header": "X-Key"}}, {"mtls": by_uri}, {"anonymous": {"tenant": "acme"}}]
    tenants = {"acme": {"api_keys": [{"id": "k", "sha256": "AB" * 32}]}}
    compiled = table(tenants, identity=identity, batch={"max_age": "1ms", "max_items": 5}, queue={"ack": "memory"})
    assert (compiled["generation"], compiled["ack"]) == (7, "memory")
    assert compiled["batch"] == {"max_bytes": 4 << 20, "max_items": 5, "max_age_ms": 1}
    assert compiled["identity"] == [
        {"type": "api_key", "header": "x-key", "scheme": None},
        {"type": "mtls", **by_uri},
        {"type": "anonymous", "tenant": "acme"},
    ]
    key = {"id": "k", "sha256": "ab" * 32, "signals": None, "expires_at": None}
    assert compiled["tenants"][0]["api_keys"] == [key]


def test_a_budget_of_series_is_for_metrics_and_one_of_streams_for_logs() -> None:
    quotas = {
        "metrics": {"active_series": 10, "new_series_per_minute": 6, "active_window": "2h"},
        "logs": {"active_streams": 5},
        "traces": {"items_per_second": 1},
    }
    compiled = policy({"quotas": quotas})
    assert compiled["metrics"]["series"] == {
        "max_active": 10,
        "new_per_minute": 6.0,
        "window_s": 7200,
        "max_folded": 100_000,
    }
    assert compiled["logs"]["streams"] == {"max_active": 5, "window_s": 3600}
    assert compiled["traces"]["series"] is None
    assert compiled["metrics"]["streams"] is None


def test_the_series_budget_is_inherited_key_by_key_and_null_lifts_it() -> None:
    defaults = {"quotas": {"metrics": {"active_series": 10, "active_window": "2h"}, "logs": {"active_streams": 5}}}
    own = {"metrics": {"active_series": 20, "items_per_second": 1}, "logs": {"active_streams": None}}
    merged = policy({"quotas": own}, defaults)
    assert (merged["metrics"]["series"]["max_active"], merged["metrics"]["series"]["window_s"]) == (20, 7200)
    assert merged["logs"]["streams"] is None
