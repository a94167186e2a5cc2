"""What the engine's counters and lists become in the audit trail: edges, not counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.audit.watch import Watch
from gateway.types import Signal


@dataclass
class Recording:
    """The audit's methods that the watch calls."""

    told: list[tuple[Any, ...]] = field(default_factory=list)

    def identity_refused(self, reason: str, *, address: str, transport: str) -> None:
        self.told.append(("refused", reason, address, transport))

    def key_first_used(self, tenant: str, key_id: str) -> None:
        self.told.append(("key", tenant, key_id))

    def quota_verdict(
        self, tenant: str, signal: Signal, limit: str, verdict: str, *, labels: Sequence[str] = ()
    ) -> None:
        self.told.append(("quota", tenant, signal, limit, verdict, *labels))

    def tenant_claims(self, tenant: str, signal: Signal, action: str) -> None:
        self.told.append(("claims", tenant, signal, action))

    def take(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told


class Seen:
    refused: list[tuple[str, str, Literal["grpc", "http"]]] = []  # noqa: RUF012
    keys: list[tuple[str, str]] = []  # noqa: RUF012

    def refused_peers(self) -> list[tuple[str, str, Literal["grpc", "http"]]]:
        return self.refused

    def newly_used_keys(self) -> list[tuple[str, str]]:
        return self.keys


def intake(claims: int = 0, rejected: int = 0, requests: int = 0) -> dict[str, Any]:
    entry = {
        "tenant": "acme",
        "signal": "logs",
        "tenant_claims": claims,
        "rejected": {"rate_limited_items": rejected},
        "rejected_requests": {"rate_limited_items": requests, "malformed": 3},
    }
    return {"intake": [entry], "active": []}


def test_a_limit_is_told_when_it_is_passed_and_when_there_has_been_peace() -> None:
    audit, now = Recording(), [0.0]
    watch = Watch(Seen(), audit, lambda: now[0])  # type: ignore[arg-type]

    def look(at: float, **counts: int) -> list[tuple[Any, ...]]:
        now[0] = at
        watch.look(intake(**counts), lambda _: "overwrite")
        return audit.take()

    over = ("quota", "acme", Signal.LOGS, "items_per_second", "over")
    within = (*over[:-1], "within")
    assert look(0) == []
    assert look(2, rejected=5) == [over]
    assert look(4, rejected=5) == []
    assert look(6, rejected=5, requests=1) == [over]
    assert look(60, rejected=5, requests=1) == []
    assert look(66, rejected=5, requests=1) == [within]
    assert look(200, rejected=5, requests=1) == []


def test_a_budget_of_series_is_told_with_the_labels_that_grew() -> None:
    audit = Recording()
    watch = Watch(Seen(), audit, lambda: 0.0)  # type: ignore[arg-type]
    active = {"tenant": "acme", "folded_points": 0, "offending_labels": [], "overflow_entries": 0}
    for change in ({}, {"folded_points": 9, "offending_labels": [["user_id", 9], ["pod", 2]]}, {"overflow_entries": 1}):
        active.update(change)
        watch.look({"intake": [], "active": [active]}, lambda _: "overwrite")
    assert audit.take() == [
        ("quota", "acme", Signal.METRICS, "active_series", "over", "user_id", "pod"),
        ("quota", "acme", Signal.LOGS, "active_streams", "over"),
    ]


def test_claims_are_told_with_what_the_policy_does() -> None:
    audit = Recording()
    watch = Watch(Seen(), audit, lambda: 0.0)  # type: ignore[arg-type]
    for claims in (0, 2, 2):
        watch.look(intake(claims=claims), lambda _: "refuse")
    assert audit.take() == [("claims", "acme", Signal.LOGS, "refuse")]


def test_refused_senders_and_new_keys_are_passed_on() -> None:
    audit, seen = Recording(), Seen()
    seen.refused, seen.keys = [("expired_key", "192.0.2.1", "grpc")], [("acme", "k1")]
    Watch(seen, audit).look({"intake": [], "active": []}, lambda _: "overwrite")  # type: ignore[arg-type]
    assert audit.take() == [("refused", "expired_key", "192.0.2.1", "grpc"), ("key", "acme", "k1")]
