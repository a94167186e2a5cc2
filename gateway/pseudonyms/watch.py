"""One named key: its source is looked at again and again, and what it gave is held."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from gateway.config.pseudonyms import PseudonymKeySource
from gateway.pseudonyms.keys import SHARED, HeldKeys, TenantKey
from gateway.pseudonyms.pace import Pace
from gateway.pseudonyms.source import Reading, Source


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """How it stands with one named key; no secret is in it."""

    name: str
    source: Literal["versions", "vault_kv", "vault_transit"]
    tenants: tuple[str, ...]
    """That policies name and that have a key."""
    missing: tuple[str, ...]
    """That policies name and that have none yet."""
    newest_version: int | None
    """Over all tenants; it is the one that writes."""
    last_success_at: float | None
    """Unix seconds of the last look at the source that found nothing amiss."""
    last_error: str | None
    """What is amiss now, in a sentence."""


class KeyWatch:
    """Holds the keys of the tenants that want them; looks for new ones until it is stopped."""

    def __init__(
        self,
        name: str,
        settings: PseudonymKeySource,
        source: Source,
        *,
        held: HeldKeys,
        pace: Pace,
        log: Any,
        looked: Callable[[bool], None],
    ) -> None:
        """`looked` is called after each look at the source; it is told whether keys came or changed."""
        self.name = name
        self.settings = settings
        self.held = held
        self.tried = asyncio.Event()
        """Set once the source has been looked at for all tenants, with or without success."""
        self._source = source
        self._pace = pace
        self._log = log
        self._looked = looked
        self._tenants: tuple[str, ...] = ()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._success_at: float | None = None
        self._error: str | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"pseudonym key {self.name}")

    async def stop(self) -> None:
        """What is held stays so; see `HeldKeys.wipe`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def want(self, tenants: Sequence[str]) -> bool:
        """Hold keys for these tenants and no others. Returns whether that is news."""
        wanted = tuple(sorted(tenants))
        if wanted == self._tenants:
            return False
        self._tenants = wanted
        self.held.keep_only(self._owners())
        self.tried.clear()
        self._wake.set()
        return True

    def tenant_keys(self) -> list[TenantKey]:
        """Copies of all keys, for whoever wipes them."""
        shared = self.settings.shared
        return [key for tenant in self._tenants for key in self.held.of_tenant(self.name, tenant, shared=shared)]

    def status(self) -> KeyStatus:
        versions = {tenant: self.held.versions(SHARED if self.settings.shared else tenant) for tenant in self._tenants}
        return KeyStatus(
            name=self.name,
            source=self.settings.kind,
            tenants=tuple(tenant for tenant in self._tenants if versions[tenant]),
            missing=tuple(tenant for tenant in self._tenants if not versions[tenant]),
            newest_version=max((newest for held in versions.values() for newest in held), default=None),
            last_success_at=self._success_at,
            last_error=self._error,
        )

    def _owners(self) -> tuple[str, ...]:
        if self.settings.shared:
            return (SHARED,) if self._tenants else ()
        return self._tenants

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            failures = 0 if await self._look() else failures + 1
            if not self._wake.is_set():
                self.tried.set()
            interval_s = self._source.interval_s
            wait_s = min(interval_s, self._pace.retry_s(failures)) if failures else interval_s
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _look(self) -> bool:
        """Whether nothing was amiss."""
        try:
            reading = await self._source.read(self._owners(), self.held)
            self._take(reading)
        except Exception as error:  # noqa: BLE001
            # A bug here, or in whoever takes the keys, must not end the watch; what failed may quote a key.
            reading = Reading(problems=[f"internal error: {type(error).__name__}"])
        self._note(reading)
        return not reading.problems

    def _take(self, reading: Reading) -> None:
        changed, replaced = self.held.take(reading.found, self._owners())
        for owner, version in replaced:
            whose = {} if owner == SHARED else {"tenant_id": owner}
            message = f"version {version} of pseudonym key {self.name} is another key now; h{version}: has two meanings"
            self._log.warning(f"{message}; a new key needs a new version", **whose)
        if changed:
            self._log.info("pseudonym keys came", pseudonym_key=self.name, newest=self.status().newest_version)
        self._looked(changed)

    def _note(self, reading: Reading) -> None:
        if not reading.problems:
            self._success_at = time.time()
        error = "; ".join([*reading.problems, *reading.notes]) or None
        if error is not None and error != self._error:
            missing = self.status().missing
            so = "requests of tenants without a key are refused" if missing else "keys that are known stay in use"
            self._log.warning(f"pseudonym keys: {so}", pseudonym_key=self.name, cause=error, missing=len(missing))
        elif error is None and self._error is not None:
            self._log.info("pseudonym keys are read again", pseudonym_key=self.name)
        self._error = error
