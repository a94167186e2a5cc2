"""What the engine saw, brought to the trail: refused senders, keys in use, limits passed, tenants claimed."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from gateway.audit.audit import Audit
from gateway.types import Lane, LaneCounters, Signal

# A tenant at its limit is over and within it many times a second; it is within again after this long without a refusal.
_QUIET_S = 60.0
# Reject reasons that are limits, and the limits' names in the configuration.
_LIMITS = {
    "rate_limited_requests": "requests_per_second",
    "rate_limited_items": "items_per_second",
    "rate_limited_bytes": "bytes_per_second",
    "inflight_bytes": "max_inflight_bytes",
    "daily_volume": "daily_bytes",
    "monthly_volume": "monthly_bytes",
    "label_limit": "labels",
}
_SERIES = "series_limit"


class Witnessed(Protocol):
    """What the watch needs of `gateway._engine.Engine`."""

    def refused_peers(self) -> Sequence[tuple[str, str, Literal["grpc", "http"]]]: ...
    def newly_used_keys(self) -> Sequence[tuple[str, str]]: ...


class Watch:
    """Compares the engine's counters with those of the last look. One a daemon; `look` never waits."""

    def __init__(self, engine: Witnessed, audit: Audit, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._audit = audit
        self._clock = clock
        self._counts: dict[tuple[str, str, str], int] = {}
        self._dropped: dict[tuple[Lane, str], int] = {}
        self._over_since: dict[tuple[str, Signal, str], float] = {}

    def look(self, snapshot: Mapping[str, Any], claims: Callable[[str], Literal["overwrite", "refuse"]]) -> None:
        """`snapshot`: docs/engine-snapshot.md. `claims` tells what a tenant's policy does with claims."""
        for reason, address, transport in self._engine.refused_peers():
            self._audit.identity_refused(reason, address=address, transport=transport)
        for tenant, key_id in self._engine.newly_used_keys():
            self._audit.key_first_used(tenant, key_id)
        now = self._clock()
        rejected_series: dict[str, int] = {}
        for intake in snapshot["intake"]:
            tenant, signal = intake["tenant"], Signal(intake["signal"])
            if self._grew(tenant, signal, "tenant_claims", intake["tenant_claims"]):
                self._audit.tenant_claims(tenant, signal, claims(tenant))
            refused = {**intake["rejected"]}
            for reason, requests in intake["rejected_requests"].items():
                refused[reason] = refused.get(reason, 0) + requests
            if signal is Signal.METRICS:
                rejected_series[tenant] = refused.get(_SERIES, 0)
            for reason, limit in _LIMITS.items():
                if self._grew(tenant, signal, reason, refused.get(reason, 0)):
                    self._over(tenant, signal, limit, now)
        for active in snapshot["active"]:
            # What is over this budget is folded rather than refused, as far as it can be.
            tenant = active["tenant"]
            over = active["folded_points"] + rejected_series.get(tenant, 0)
            if self._grew(tenant, Signal.METRICS, _SERIES, over):
                labels = [name for name, _ in active["offending_labels"]]
                self._over(tenant, Signal.METRICS, "active_series", now, labels)
            if self._grew(tenant, Signal.LOGS, "overflow_entries", active["overflow_entries"]):
                self._over(tenant, Signal.LOGS, "active_streams", now)
        for (tenant, signal, limit), since in list(self._over_since.items()):
            if now - since >= _QUIET_S:
                del self._over_since[tenant, signal, limit]
                self._audit.quota_verdict(tenant, signal, limit, "within")

    def look_at_delivery(self, lanes: Mapping[Lane, LaneCounters]) -> None:
        """What was dropped since the last look, one event a lane and reason."""
        for lane, counters in lanes.items():
            for reason, items in counters.dropped.items():
                before = self._dropped.get((lane, reason), 0)
                if items > before:
                    self._dropped[lane, reason] = items
                    self._audit.items_dropped(lane, reason, items - before)

    def _over(self, tenant: str, signal: Signal, limit: str, now: float, labels: Sequence[str] = ()) -> None:
        self._over_since[tenant, signal, limit] = now
        self._audit.quota_verdict(tenant, signal, limit, "over", labels=labels)

    def _grew(self, tenant: str, signal: Signal, name: str, count: int) -> bool:
        key = (tenant, signal.value, name)
        before, self._counts[key] = self._counts.get(key, 0), count
        return count > before
