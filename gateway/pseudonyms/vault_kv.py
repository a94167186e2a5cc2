"""Keys in Vault's KV store, version 2: the secret's versions are the key's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.config.pseudonyms import TENANT_PLACE, VaultKv, parse_key
from gateway.pseudonyms.keys import SHARED, HeldKeys, OwnedVersion
from gateway.pseudonyms.source import Reading, SourceProblem
from gateway.pseudonyms.vault import Vault
from gateway.pseudonyms.vault_problems import Asked, VaultMissing, VaultUnreachable

# As many as Vault keeps by default.
_MAX_VERSIONS = 10


class VaultKvKeys:
    """One secret for all tenants, or one for each."""

    def __init__(self, settings: VaultKv, vault: Vault) -> None:
        self._settings = settings
        self._vault = vault
        # A secret that was deleted with its metadata begins anew at version 1; when it was made tells it from the old.
        self._made_at: dict[OwnedVersion, str] = {}

    @property
    def interval_s(self) -> float:
        return self._settings.refresh

    async def read(self, owners: Sequence[str], held: HeldKeys) -> Reading:
        reading = Reading()
        for owner in owners:
            try:
                await self._read_secret(owner, held, reading)
            except VaultUnreachable as problem:
                # It will not answer about the others either, and each would wait for the timeout.
                reading.problems.append(str(problem))
                break
            except SourceProblem as problem:
                reading.problems.append(str(problem))
        return reading

    async def _read_secret(self, owner: str, held: HeldKeys, reading: Reading) -> None:
        versions = await self._versions(owner, held)
        readable = sorted((number for number, entry in versions.items() if _readable(entry)), reverse=True)
        for number in readable[:_MAX_VERSIONS]:
            owned, made_at = (owner, number), str(versions[number].get("created_time"))
            if owned in held and self._made_at.get(owned) == made_at:
                continue
            try:
                reading.found[owned] = await self._key(owner, number)
                self._made_at[owned] = made_at
            except VaultUnreachable:
                raise
            except VaultMissing:
                continue  # deleted since its metadata was read
            except SourceProblem as problem:
                reading.problems.append(str(problem))
        gone = [number for number in held.versions(owner) if number not in readable]
        where = f"{self._settings.mount}/{self._path(owner)}"
        for number in gone:
            reading.notes.append(
                f"vault: version {number} of {where} was deleted; its key stays in use until a restart"
            )
        if not readable and not gone:
            raise SourceProblem(f"vault: every version of {where} is deleted; write a new one with `vault kv put`")

    async def _versions(self, owner: str, held: HeldKeys) -> dict[int, dict[str, Any]]:
        mount, path = self._settings.mount, self._path(owner)
        asked = Asked(f"{mount}/metadata/{path}", "read")
        try:
            answer = await self._vault.ask(
                asked, lambda client: client.secrets.kv.v2.read_secret_metadata(path, mount_point=mount)
            )
        except VaultMissing:
            todo = f"write one with `vault kv put -mount={mount} {path} {self._settings.field}=@FILE`"
            if held.versions(owner):
                todo = "the keys that were read before stay in use until a restart"
            raise SourceProblem(f"vault: there is no secret {path} in the KV version 2 store {mount}; {todo}") from None
        versions = (answer.get("data") or {}).get("versions")
        if not isinstance(versions, dict):
            raise SourceProblem(f"vault: {asked.path} names no versions; {mount} must be a KV store of version 2")
        return {int(number): entry for number, entry in versions.items() if isinstance(entry, dict)}

    async def _key(self, owner: str, number: int) -> bytearray:
        mount, path, field = self._settings.mount, self._path(owner), self._settings.field
        answer = await self._vault.ask(
            Asked(f"{mount}/data/{path}", "read"),
            lambda client: client.secrets.kv.v2.read_secret_version(
                path, version=number, mount_point=mount, raise_on_deleted_version=True
            ),
        )
        where = f"vault: version {number} of {mount}/{path}"
        secret = (answer.get("data") or {}).get("data")
        if not isinstance(secret, dict) or not isinstance(secret.get(field), str):
            raise SourceProblem(f"{where} has no text field {field}; put the key there, or set field")
        try:
            return parse_key(secret[field].encode())
        except ValueError as error:
            raise SourceProblem(f"{where}, field {field}: {error}") from None

    def _path(self, owner: str) -> str:
        return self._settings.path if owner == SHARED else self._settings.path.replace(TENANT_PLACE, owner)


def _readable(entry: dict[str, Any]) -> bool:
    """Neither destroyed nor deleted; a deletion may be set for later."""
    deleted_at = entry.get("deletion_time")
    if entry.get("destroyed") or not isinstance(deleted_at, str):
        return not entry.get("destroyed") and not deleted_at
    try:
        return not deleted_at or datetime.fromisoformat(deleted_at) > datetime.now(UTC)
    except (ValueError, TypeError):
        return False
