"""What the daemon records with: one method a kind of event, none of which waits, fails or takes a secret."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, Self

from gateway.audit.changes import changes
from gateway.audit.edges import Changes, FirstSeen
from gateway.audit.event import Event, EventType
from gateway.audit.trail import AuditError, Trail, lock
from gateway.audit.writer import AuditStats, Writer
from gateway.config.models import Audit as AuditConfig
from gateway.config.models import Config
from gateway.config.signing_key import read_signing_key
from gateway.types import Lane, Signal

__all__ = ["Audit", "AuditError"]

_HOUR_S, _MINUTE_S = 3600.0, 60.0
_CLOSE_TIMEOUT_S = 5.0
DAEMON = "gateway"
Now = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Audit:
    """The trail of one daemon. Without an `audit` section it takes every event and keeps none."""

    def __init__(
        self,
        writer: Writer | None,
        generation: Callable[[], int],
        *,
        lock_descriptor: int | None = None,
        now: Now = _utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._lock = lock_descriptor
        self._generation = generation
        self._now = now
        self._viewers = FirstSeen(_HOUR_S, most=1000, clock=clock)
        self._denials = FirstSeen(_MINUTE_S, most=60, clock=clock)
        self._refusals = FirstSeen(_MINUTE_S, most=60, clock=clock)
        self._keys = FirstSeen(float("inf"), most=100_000, max_keys=100_000, clock=clock)
        self._claims = FirstSeen(_HOUR_S, most=10_000, max_keys=10_000, clock=clock)
        self._verdicts = Changes("within")
        self._pseudonym_keys: dict[str, tuple[int, int]] = {}

    @classmethod
    def open(cls, config: AuditConfig | None, generation: Callable[[], int]) -> Self:
        """Start the trail's thread. `generation` tells the policy generation in force. Raises AuditError."""
        if config is None:
            return cls(None, generation)
        try:
            key = read_signing_key(config.key_file)
        except ValueError as error:
            raise AuditError(f"audit.key_file: {error}") from None
        descriptor = lock(config.dir)
        trail = Trail(config.dir, key, max_bytes=config.max_bytes, keep=config.keep, now=_utc_now)
        writer = Writer(trail, now=_utc_now)
        writer.start()
        return cls(writer, generation, lock_descriptor=descriptor)

    async def close(self) -> None:
        """Put everything and a last anchor on disk."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close, _CLOSE_TIMEOUT_S)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stats(self) -> AuditStats | None:
        return self._writer.stats() if self._writer is not None else None

    # What the daemon itself does.

    def started(self, version: str, config: Config) -> None:
        """The ports are open."""
        details = {"version": version, "pid": os.getpid(), "tenants": len(config.tenants)}
        self._record(EventType.START, DAEMON, details)

    def stopped(self, actor: str) -> None:
        """Everything is drained. `actor`: the signal that asked for it."""
        self._record(EventType.STOP, actor, {"denials_not_shown": self._denials.take_held_back()})

    def reloaded(self, actor: str, old: Config, new: Config) -> None:
        """`actor`: the admin viewer, or SIGHUP."""
        found = changes(old, new)
        # The paths of a large change fit into a line; its values might not.
        shown = found if len(found) <= 50 else [f"{change['path']}: {change['change']}" for change in found]
        self._record(EventType.RELOAD, actor, {"changes": shown})

    def reload_refused(self, actor: str, problems: Sequence[str]) -> None:
        """`problems` as the operator was told: they name places and keys, never values that were substituted."""
        self._record(EventType.RELOAD_REFUSED, actor, {"problems": list(problems)})

    def pseudonym_keys(self, keys: Iterable[tuple[str, str, int]]) -> None:
        """All keys in use: name, tenant, version. A line for each with another version or number of tenants."""
        versions: dict[str, dict[str, int]] = {}
        for name, tenant, version in keys:
            of_tenants = versions.setdefault(name, {})
            of_tenants[tenant] = max(version, of_tenants.get(tenant, 0))
        for name, of_tenants in versions.items():
            state = (len(of_tenants), max(of_tenants.values()))
            if self._pseudonym_keys.get(name) != state:
                self._pseudonym_keys[name] = state
                details = {"key": name, "tenants": state[0], "newest_version": state[1]}
                self._record(EventType.PSEUDONYM_KEY, DAEMON, details)

    # The admin port.

    def admin_access(self, viewer: str, tenant: str | None, address: str, path: str) -> None:
        """Somebody proved who they are: a line for each viewer and hour. `tenant` None: an operator."""
        if self._viewers.passes((viewer, tenant)):
            self._record(EventType.ADMIN_ACCESS, viewer, {"address": address, "path": path}, tenant)

    def admin_denied(self, address: str, path: str, *, limited: bool) -> None:
        """Somebody did not. `limited`: the address had tried too often to be listened to at all."""
        if self._denials.passes((address, limited)):
            details = {"path": path, "limited": limited, "not_shown": self._denials.take_held_back()}
            self._record(EventType.ADMIN_DENIED, address, details)

    # What the engine sees. Each may be called as often as it happens: only edges are written.

    def identity_refused(self, reason: str, *, address: str, transport: Literal["grpc", "http"]) -> None:
        """A request whose credential is missing, unknown, expired or in conflict with another."""
        if self._refusals.passes((reason, address)):
            details = {"reason": reason, "transport": transport, "not_shown": self._refusals.take_held_back()}
            self._record(EventType.IDENTITY_REFUSED, address, details)

    def key_first_used(self, tenant: str, key_id: str) -> None:
        """A key, by its id, opened the door for the first time since the start."""
        if self._keys.passes((tenant, key_id)):
            self._record(EventType.KEY_FIRST_USED, f"key {key_id}", {"key_id": key_id}, tenant)

    def quota_verdict(
        self,
        tenant: str,
        signal: Signal,
        limit: str,
        verdict: Literal["within", "over"],
        *,
        labels: Sequence[str] = (),
    ) -> None:
        """A tenant passed a limit such as `items_per_second`, or is back within it. `labels`: what grew most."""
        if self._verdicts.passes((tenant, signal, limit), verdict):
            details: dict[str, object] = {"signal": signal.value, "limit": limit, "verdict": verdict}
            if labels:
                details["labels"] = list(labels)
            self._record(EventType.QUOTA_VERDICT, DAEMON, details, tenant)

    def tenant_claims(self, tenant: str, signal: Signal, action: Literal["overwrite", "refuse"]) -> None:
        """A payload of `tenant` claimed to be another's: a line for each tenant, signal and hour."""
        if self._claims.passes((tenant, signal, action)):
            details = {"signal": signal.value, "action": action, "not_shown": self._claims.take_held_back()}
            self._record(EventType.TENANT_CLAIMS, f"tenant {tenant}", details, tenant)

    def items_dropped(self, lane: Lane, reason: str, items: int) -> None:
        """Items that were answered OK and will not arrive: a backend refused them, or they grew too old."""
        details = {"destination": lane.destination, "signal": lane.signal.value, "reason": reason, "items": items}
        self._record(EventType.ITEMS_DROPPED, "gateway", details, lane.tenant)

    def _record(self, kind: EventType, actor: str, details: Mapping[str, object], tenant: str | None = None) -> None:
        if self._writer is not None:
            self._writer.submit(Event(kind, self._now(), actor, tenant, self._generation(), details))
