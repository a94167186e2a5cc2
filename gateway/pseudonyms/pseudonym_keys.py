"""All pseudonym keys of a gateway: fetched, renewed and handed over whole whenever any of them changes."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gateway.config.pseudonyms import PseudonymKeySource, VaultConfig
from gateway.pseudonyms.key_files import KeyFiles
from gateway.pseudonyms.keys import HeldKeys, TenantKey
from gateway.pseudonyms.pace import Pace
from gateway.pseudonyms.source import Source
from gateway.pseudonyms.vault import Vault
from gateway.pseudonyms.vault_kv import VaultKvKeys
from gateway.pseudonyms.vault_transit import VaultTransitKeys
from gateway.pseudonyms.watch import KeyStatus, KeyWatch

Apply = Callable[[Sequence[TenantKey]], None]


def open_source(
    name: str, settings: PseudonymKeySource, vault: Vault | None, *, pace: Pace, may_create: bool = True
) -> Source:
    """The source that `settings` names. `may_create`: whether it may make keys that nobody has yet."""
    if settings.versions is not None:
        return KeyFiles(name, settings.versions, poll_s=pace.file_poll_s)
    if vault is None:
        raise ValueError(f"pseudonym_keys.{name} needs the section vault")
    if settings.vault_kv is not None:
        return VaultKvKeys(settings.vault_kv, vault)
    if settings.vault_transit is not None:
        return VaultTransitKeys(settings.vault_transit, vault, may_create=may_create)
    raise ValueError(f"pseudonym_keys.{name} names no source")


class PseudonymKeys:
    """Keeps the engine's keys the same as their sources'. What is missing is tried for until it comes."""

    def __init__(
        self,
        *,
        sources: Mapping[str, PseudonymKeySource],
        vault: VaultConfig | None,
        wanted: Iterable[tuple[str, str]],
        apply: Apply,
        log: Any,
        pace: Pace = Pace(),  # noqa: B008 - immutable
    ) -> None:
        """`wanted`: pairs of key name and tenant that policies use.

        `apply` is called in the event loop with all keys that are known, all versions, at the start and after each
        change. The buffers are wiped when it returns.
        """
        self._sources = dict(sources)
        self._vault_settings = vault
        self._wanted = frozenset(wanted)
        self._apply = apply
        self._log = log
        self._pace = pace
        self._vault: Vault | None = None
        self._watches: dict[str, KeyWatch] = {}
        self._settled = False
        self._handed_over = True

    async def start(self) -> None:
        """Try every source once, within `pace.start_limit_s`, and hand over what there is."""
        await self._settle()

    def want(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Policies use other pairs now. What is known of them is handed over at once, the rest when it comes."""
        self._wanted = frozenset(wanted)
        if self._share_out() and self._settled:
            self._hand_over()

    async def reconfigure(
        self,
        *,
        sources: Mapping[str, PseudonymKeySource],
        vault: VaultConfig | None,
        wanted: Iterable[tuple[str, str]],
    ) -> None:
        """A reload. Keys whose source is the same stay in use; of a source that is another one, none do."""
        self._settled = False
        another_vault = vault != self._vault_settings
        carried: dict[str, HeldKeys] = {}
        for name, watch in list(self._watches.items()):
            if sources.get(name) == watch.settings and not (another_vault and watch.settings.kind != "versions"):
                continue
            await watch.stop()
            del self._watches[name]
            if name in sources and _same_keys(watch.settings, sources[name]):
                carried[name] = watch.held
            else:
                watch.held.wipe()
        if another_vault:
            await self._close_vault()
        self._sources, self._vault_settings, self._wanted = dict(sources), vault, frozenset(wanted)
        await self._settle(carried)

    async def stop(self) -> None:
        """Stop looking, and wipe what is held."""
        self._settled = False
        for watch in self._watches.values():
            await watch.stop()
            watch.held.wipe()
        self._watches.clear()
        await self._close_vault()

    def status(self) -> list[KeyStatus]:
        """Of every configured key, by name."""
        return [watch.status() for _, watch in sorted(self._watches.items())]

    async def _settle(self, carried: Mapping[str, HeldKeys] | None = None) -> None:
        new = [name for name in self._sources if name not in self._watches]
        for name in new:
            held = (carried or {}).get(name) or HeldKeys()
            self._watches[name] = self._watch(name, self._sources[name], held)
        self._share_out()
        for name in new:
            self._watches[name].start()
        looks = [asyncio.create_task(watch.tried.wait()) for watch in self._watches.values()]
        if looks:
            _, late = await asyncio.wait(looks, timeout=self._pace.start_limit_s)
            for look in late:
                look.cancel()
        self._settled = True
        self._hand_over()

    def _watch(self, name: str, settings: PseudonymKeySource, held: HeldKeys) -> KeyWatch:
        if settings.kind != "versions" and self._vault is None and self._vault_settings is not None:
            self._vault = Vault(self._vault_settings, pace=self._pace, log=self._log)
        source = open_source(name, settings, self._vault, pace=self._pace)
        return KeyWatch(name, settings, source, held=held, pace=self._pace, log=self._log, looked=self._looked)

    def _share_out(self) -> bool:
        """Tell each watch its tenants. Returns whether that is news to any."""
        news = [
            watch.want([tenant for key, tenant in self._wanted if key == name]) for name, watch in self._watches.items()
        ]
        return any(news)

    def _looked(self, changed: bool) -> None:
        # While a start or a reload is under way, it hands over at its end.
        if self._settled and (changed or not self._handed_over):
            self._hand_over()

    def _hand_over(self) -> None:
        keys = [key for _, watch in sorted(self._watches.items()) for key in watch.tenant_keys()]
        self._handed_over = False
        try:
            self._apply(keys)
        finally:
            for key in keys:
                key.wipe()
        self._handed_over = True

    async def _close_vault(self) -> None:
        if self._vault is not None:
            await self._vault.close()
            self._vault = None


def _same_keys(old: PseudonymKeySource, new: PseudonymKeySource) -> bool:
    """Whether both name the same keys: nothing differs but how often they are looked at."""
    leave = {"vault_kv": {"refresh"}, "vault_transit": {"refresh"}}
    return old.model_dump(exclude=leave) == new.model_dump(exclude=leave)
