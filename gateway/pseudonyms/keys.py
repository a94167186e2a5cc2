"""Keys in memory: held in buffers that can be wiped, shown nowhere."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SHARED = ""
"""The owner of a key that every tenant's key is derived from; no tenant has this name."""
_DERIVED_BYTES = 32

OwnedVersion = tuple[str, int]
"""Whose key, a tenant's or SHARED, and which version."""


@dataclass(frozen=True, slots=True)
class TenantKey:
    """One version of one tenant's key. Whoever is given one copies what it needs: it is wiped afterwards."""

    name: str
    tenant: str
    version: int
    key: bytearray = field(repr=False)

    def wipe(self) -> None:
        wipe(self.key)


def wipe(key: bytearray) -> None:
    """Overwrite the bytes where they stand."""
    key[:] = bytes(len(key))


def derive(key: bytearray, tenant: str) -> bytearray:
    """The tenant's own key (HKDF-SHA256, RFC 5869), so that pseudonyms of two tenants cannot be joined."""
    derived = bytearray(_DERIVED_BYTES)
    info = f"telemetry-gateway pseudonym {tenant}".encode()
    HKDF(algorithm=SHA256(), length=_DERIVED_BYTES, salt=None, info=info).derive_into(key, derived)
    return derived


class HeldKeys:
    """The keys of one source that are known now."""

    def __init__(self) -> None:
        self._keys: dict[OwnedVersion, bytearray] = {}

    def __contains__(self, owned: OwnedVersion) -> bool:
        return owned in self._keys

    def versions(self, owner: str) -> list[int]:
        """Oldest first."""
        return sorted(version for held, version in self._keys if held == owner)

    def differs(self, owned: OwnedVersion, key: bytearray) -> bool:
        held = self._keys.get(owned)
        return held is None or not hmac.compare_digest(held, key)

    def take(self, found: Mapping[OwnedVersion, bytearray], owners: Iterable[str]) -> tuple[bool, list[OwnedVersion]]:
        """Hold what was found for `owners`, and wipe all else of it.

        Returns whether anything is new, and which versions have another key than before.
        """
        wanted = set(owners)
        changed, replaced = False, []
        for owned, key in found.items():
            if owned[0] not in wanted or not self.differs(owned, key):
                wipe(key)
                continue
            if owned in self._keys:
                replaced.append(owned)
                wipe(self._keys[owned])
            self._keys[owned] = key
            changed = True
        return changed, replaced

    def keep_only(self, owners: Iterable[str]) -> None:
        wanted = set(owners)
        for owned in [owned for owned in self._keys if owned[0] not in wanted]:
            wipe(self._keys.pop(owned))

    def of_tenant(self, name: str, tenant: str, *, shared: bool) -> list[TenantKey]:
        """Copies of the tenant's keys, oldest version first."""
        owner = SHARED if shared else tenant
        return [
            TenantKey(name, tenant, version, derive(key, tenant) if shared else bytearray(key))
            for (held, version), key in sorted(self._keys.items(), key=lambda item: item[0])
            if held == owner
        ]

    def wipe(self) -> None:
        self.keep_only(())
