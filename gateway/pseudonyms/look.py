"""One look at the keys of one tenant, for commands. The daemon holds them and looks again: `pseudonym_keys.py`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from gateway.config.models import Config
from gateway.pseudonyms.keys import SHARED, HeldKeys, TenantKey
from gateway.pseudonyms.pace import Pace
from gateway.pseudonyms.pseudonym_keys import open_source
from gateway.pseudonyms.vault import Vault


@dataclass(frozen=True, slots=True)
class Looked:
    """What there is of one named key. Whoever is given it wipes the keys."""

    keys: list[TenantKey]
    """Oldest version first."""
    problems: list[str]
    """Why some or all could not be had, in sentences without secrets."""


async def look_up(config: Config, names: Sequence[str], tenant: str, pace: Pace = Pace()) -> list[Looked]:  # noqa: B008
    """The tenant's keys of these names, in that order; each within `pace.start_limit_s`. No key is made by asking.

    `config` has a section `vault` if a source needs one.
    """
    vault = Vault(config.vault, pace=pace, log=structlog.get_logger(__name__)) if config.vault is not None else None
    try:
        return [await _look_up(config, name, tenant, vault, pace) for name in names]
    finally:
        if vault is not None:
            await vault.close()


async def _look_up(config: Config, name: str, tenant: str, vault: Vault | None, pace: Pace) -> Looked:
    settings = config.pseudonym_keys[name]
    source = open_source(name, settings, vault, pace=pace, may_create=False)
    owner = SHARED if settings.shared else tenant
    held = HeldKeys()
    try:
        async with asyncio.timeout(pace.start_limit_s):
            reading = await source.read([owner], held)
    except TimeoutError:
        return Looked([], [f"pseudonym_keys.{name}: no answer within {pace.start_limit_s:g} s"])
    held.take(reading.found, [owner])
    try:
        return Looked(held.of_tenant(name, tenant, shared=settings.shared), reading.problems)
    finally:
        held.wipe()
