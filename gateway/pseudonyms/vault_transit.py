"""Data keys that Vault's transit engine makes, one a tenant, and wraps: only Vault opens what is kept here."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Any

from gateway.config.pseudonyms import MIN_KEY_BYTES, VaultTransit
from gateway.pseudonyms.keys import HeldKeys, OwnedVersion, wipe
from gateway.pseudonyms.source import Reading, SourceProblem
from gateway.pseudonyms.vault import Vault
from gateway.pseudonyms.vault_problems import Asked, VaultMissing, VaultUnreachable
from gateway.pseudonyms.wrapped_keys import WrappedKey, WrappedKeys, alone_with, load, save


class VaultTransitKeys:
    """Each tenant's own keys. A key is used only once its wrapped form is safely on disk."""

    def __init__(self, settings: VaultTransit, vault: Vault, *, may_create: bool = True) -> None:
        self._settings = settings
        self._vault = vault
        self._may_create = may_create
        self._file = settings.wrapped_keys_file
        self._transit_key = f"{settings.mount}/keys/{settings.key}"

    @property
    def interval_s(self) -> float:
        return self._settings.refresh

    async def read(self, owners: Sequence[str], held: HeldKeys) -> Reading:
        reading = Reading()
        if not owners:
            return reading
        try:
            wrapped = await asyncio.to_thread(load, self._file, self._transit_key)
            latest = await self._latest_version()
            self._refuse_a_lost_file(wrapped, owners, held)
            if self._may_create and _to_do(wrapped, owners, latest):
                with alone_with(self._file):
                    # Read again: another gateway may have made the keys meanwhile.
                    wrapped = await asyncio.to_thread(load, self._file, self._transit_key)
                    wrapped = await self._renew(wrapped, owners, latest, reading)
            await self._unwrap(wrapped, owners, held, reading)
        except SourceProblem as problem:
            reading.problems.append(str(problem))
        return reading

    def _refuse_a_lost_file(self, wrapped: WrappedKeys, owners: Sequence[str], held: HeldKeys) -> None:
        """New keys in its place would have the old versions' numbers. Raises SourceProblem."""
        lost = [owner for owner in owners if held.versions(owner) and owner not in wrapped.tenants]
        if lost:
            raise SourceProblem(
                f"{self._file} no longer holds the keys of {', '.join(lost)}; put it back before a restart"
            )

    async def _latest_version(self) -> int:
        mount, key = self._settings.mount, self._settings.key
        asked = Asked(self._transit_key, "read")
        try:
            answer = await self._vault.ask(
                asked, lambda client: client.secrets.transit.read_key(key, mount_point=mount)
            )
        except VaultMissing:
            todo = f"make it with `vault write -f {self._transit_key}`"
            raise SourceProblem(f"vault: there is no transit key {self._transit_key}; {todo}") from None
        versions = (answer.get("data") or {}).get("keys")
        if not isinstance(versions, dict) or not versions:
            raise SourceProblem(f"vault: {self._transit_key} has no versions; {mount} must be a transit engine")
        return max(int(number) for number in versions)

    async def _renew(self, wrapped: WrappedKeys, owners: Sequence[str], latest: int, reading: Reading) -> WrappedKeys:
        """`wrapped` with new keys for those who need one and all others wrapped anew, as it then stands on disk."""
        made: dict[OwnedVersion, bytearray] = {}
        tenants = {tenant: list(keys) for tenant, keys in wrapped.tenants.items()}
        try:
            for tenant in owners:
                keys = tenants.setdefault(tenant, [])
                if not keys or keys[-1].made_under < latest:
                    version = keys[-1].version + 1 if keys else 1
                    made[tenant, version], ciphertext = await self._make()
                    keys.append(WrappedKey(version=version, made_under=latest, ciphertext=ciphertext))
            for keys in tenants.values():
                for place, key in enumerate(keys):
                    if key.wrapped_under < latest:
                        keys[place] = key.model_copy(update={"ciphertext": await self._rewrap(key.ciphertext)})
        except SourceProblem as problem:
            # What was done until here is kept.
            reading.problems.append(str(problem))
        renewed = wrapped.model_copy(update={"tenants": {tenant: keys for tenant, keys in tenants.items() if keys}})
        try:
            await asyncio.to_thread(save, self._file, renewed)
        except SourceProblem:
            for unkept in made.values():
                wipe(unkept)
            raise
        reading.found |= made
        return renewed

    async def _unwrap(self, wrapped: WrappedKeys, owners: Sequence[str], held: HeldKeys, reading: Reading) -> None:
        for tenant in owners:
            for key in wrapped.tenants.get(tenant, []):
                owned = (tenant, key.version)
                if owned in held or owned in reading.found:
                    continue
                try:
                    reading.found[owned] = await self._decrypt(key.ciphertext)
                except VaultUnreachable:
                    raise
                except SourceProblem as problem:
                    reading.problems.append(f"version {key.version} of {tenant}: {problem}")

    async def _make(self) -> tuple[bytearray, str]:
        mount, key = self._settings.mount, self._settings.key
        asked = Asked(f"{mount}/datakey/plaintext/{key}", "update")
        answer = await self._vault.ask(
            asked,
            lambda client: client.secrets.transit.generate_data_key(
                key, key_type="plaintext", bits=256, mount_point=mount
            ),
        )
        return _plaintext(asked, answer), _text(asked, answer, "ciphertext")

    async def _decrypt(self, ciphertext: str) -> bytearray:
        mount, key = self._settings.mount, self._settings.key
        asked = Asked(f"{mount}/decrypt/{key}", "update")
        answer = await self._vault.ask(
            asked, lambda client: client.secrets.transit.decrypt_data(key, ciphertext=ciphertext, mount_point=mount)
        )
        return _plaintext(asked, answer)

    async def _rewrap(self, ciphertext: str) -> str:
        mount, key = self._settings.mount, self._settings.key
        asked = Asked(f"{mount}/rewrap/{key}", "update")
        answer = await self._vault.ask(
            asked, lambda client: client.secrets.transit.rewrap_data(key, ciphertext=ciphertext, mount_point=mount)
        )
        return _text(asked, answer, "ciphertext")


def _to_do(wrapped: WrappedKeys, owners: Sequence[str], latest: int) -> bool:
    """Whether somebody needs a new key, or a key a new wrapping."""
    newest = [wrapped.tenants.get(tenant, [])[-1:] for tenant in owners]
    if any(not key or key[0].made_under < latest for key in newest):
        return True
    return any(key.wrapped_under < latest for keys in wrapped.tenants.values() for key in keys)


def _text(asked: Asked, answer: dict[str, Any], name: str) -> str:
    """Raises SourceProblem."""
    text = (answer.get("data") or {}).get(name)
    if not isinstance(text, str) or not text:
        raise SourceProblem(f"vault: the answer of {asked.path} has no {name}; is it a transit engine?")
    return text


def _plaintext(asked: Asked, answer: dict[str, Any]) -> bytearray:
    """Raises SourceProblem."""
    try:
        key = bytearray(base64.b64decode(_text(asked, answer, "plaintext"), validate=True))
    except binascii.Error:
        key = bytearray()
    if len(key) < MIN_KEY_BYTES:
        raise SourceProblem(f"vault: {asked.path} gives no key of {MIN_KEY_BYTES} bytes")
    return key
