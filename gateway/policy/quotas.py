"""The quotas' part of the policy table."""

from typing import Any

from gateway.config.quotas import Quota, Quotas
from gateway.types import Signal

_LABEL_LIMITS = ("max_attributes", "max_attribute_key_bytes", "max_attribute_value_bytes")
_VOLUMES = ("daily_bytes", "monthly_bytes")


def compile_quota(quotas: Quotas, signal: Signal) -> dict[str, Any]:
    """`engine/src/policy.rs: Quota`."""
    quota = quotas.of(signal)
    requests = _rate(quota.requests_per_second, quota.burst_requests)
    if requests is not None:
        # A bucket that cannot hold one request would make every request a debt.
        requests["burst"] = max(1.0, requests["burst"])
    return {
        "requests": requests,
        "items": _rate(quota.items_per_second, quota.burst),
        "bytes": _rate(quota.bytes_per_second, quota.burst_bytes),
        "max_request_bytes": quota.max_request_bytes,
        "max_inflight_bytes": quota.max_inflight_bytes,
        "volume": {name: getattr(quota, name) for name in _VOLUMES},
        "labels": {name: getattr(quotas, name) for name in _LABEL_LIMITS},
        "over_limit": quota.over_limit or "reject",
    }


def compile_volume(quotas: Quotas) -> dict[str, Any]:
    """`engine/src/policy.rs: VolumeLimits`, of all signals together."""
    return {name: getattr(quotas, name) for name in _VOLUMES}


def compile_series(quota: Quota) -> dict[str, Any] | None:
    """`engine/src/policy.rs: SeriesQuota`."""
    if quota.active_series is None and quota.new_series_per_minute is None:
        return None
    return {
        "max_active": quota.active_series,
        "new_per_minute": quota.new_series_per_minute,
        "window_s": round(quota.active_window),
        "max_folded": quota.folded_series,
    }


def compile_streams(quota: Quota) -> dict[str, Any] | None:
    """`engine/src/policy.rs: StreamQuota`."""
    if quota.active_streams is None:
        return None
    return {"max_active": quota.active_streams, "window_s": round(quota.active_window)}


def _rate(per_second: float | None, burst: float | None) -> dict[str, float] | None:
    return None if per_second is None else {"per_second": per_second, "burst": burst or per_second}
