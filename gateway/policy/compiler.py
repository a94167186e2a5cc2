"""Configuration to policy table: all that the engine decides by, in one versioned piece (`engine/src/policy.rs`)."""

from typing import Any, assert_never

import orjson

from gateway.config.models import (
    Config,
    Destination,
    FileDestination,
    IdentityProvider,
    LokiDestination,
    OtlpDestination,
    Quota,
    RemoteWriteDestination,
)
from gateway.policy.inheritance import Effective, effective
from gateway.policy.masking import compile_mask
from gateway.policy.relabelling import compile_relabel
from gateway.types import Signal


def compile_table(config: Config, generation: int) -> bytes:
    """The table as JSON. `config` has passed `check`: its routes name destinations that exist."""
    destinations = {name: index for index, name in enumerate(config.destinations)}
    policies: dict[bytes, int] = {}
    tenants = []
    for tenant_id, tenant in config.tenants.items():
        # Tenants with equal settings share one policy: two thousand tenants compile their regexes once.
        policy = orjson.dumps(_policy(effective(config, tenant), destinations))
        index = policies.setdefault(policy, len(policies))
        keys = [{"id": key.id, "sha256": key.sha256.lower()} for key in tenant.api_keys]
        tenants.append({"id": tenant_id, "disabled": tenant.disabled, "api_keys": keys, "policy": index})
    return orjson.dumps(
        {
            "generation": generation,
            "ack": config.queue.ack,
            "batch": {
                "max_bytes": config.batch.max_bytes,
                "max_items": config.batch.max_items,
                "max_age_ms": max(1, round(config.batch.max_age * 1000)),
            },
            "identity": [_identity(provider) for provider in config.identity],
            "destinations": [
                {"name": name, "encoding": _encoding(destination)} for name, destination in config.destinations.items()
            ],
            "policies": [orjson.Fragment(policy) for policy in policies],
            "tenants": tenants,
        }
    )


def _policy(settings: Effective, destinations: dict[str, int]) -> dict[str, Any]:
    policy: dict[str, Any] = {"claims": settings.claims}
    for signal in Signal:
        routes = settings.routes.get(signal, ())
        sampled = signal is Signal.TRACES and settings.trace_ratio < 1
        policy[signal.value] = {
            "routes": [destinations[name] for name in routes],
            "quota": _quota(settings.quotas.get(signal, Quota())),
            "mask": compile_mask(settings.mask),
            "relabel": compile_relabel(settings.relabel, signal),
            "sample": {"ratio": settings.trace_ratio} if sampled else None,
            "series": _series(settings.quotas.get(signal, Quota())),
            "streams": _streams(settings.quotas.get(signal, Quota())),
        } if routes else None  # fmt: skip
    return policy


def _quota(quota: Quota) -> dict[str, Any]:
    def rate(per_second: float | None, burst: float | None) -> dict[str, float] | None:
        return None if per_second is None else {"per_second": per_second, "burst": burst or per_second}

    return {
        "items": rate(quota.items_per_second, quota.burst),
        "bytes": rate(quota.bytes_per_second, quota.burst_bytes),
    }


def _series(quota: Quota) -> dict[str, Any] | None:
    if quota.active_series is None and quota.new_series_per_minute is None:
        return None
    return {
        "max_active": quota.active_series,
        "new_per_minute": quota.new_series_per_minute,
        "window_s": round(quota.active_window),
        "max_folded": quota.folded_series,
    }


def _streams(quota: Quota) -> dict[str, Any] | None:
    if quota.active_streams is None:
        return None
    return {"max_active": quota.active_streams, "window_s": round(quota.active_window)}


def _identity(provider: IdentityProvider) -> dict[str, Any]:
    if provider.api_key is not None:
        return {"type": "api_key", "header": provider.api_key.header.lower(), "scheme": provider.api_key.scheme}
    if provider.mtls is not None:
        return {"type": "mtls", "tenant_from": provider.mtls.tenant_from, "pattern": provider.mtls.pattern}
    assert provider.anonymous is not None, "the model requires exactly one"  # noqa: S101
    return {"type": "anonymous", "tenant": provider.anonymous.tenant}


def _encoding(destination: Destination) -> dict[str, Any]:
    match destination:
        case RemoteWriteDestination():
            return {"type": "remote_write1", "promote": list(destination.promote_resource_attributes)}
        case LokiDestination():
            return {"type": "loki", "stream_labels": [label.model_dump() for label in destination.stream_labels]}
        case OtlpDestination():
            return {"type": "otlp"}
        case FileDestination():
            return {"type": "otlp_json"}
        case _:
            assert_never(destination)
