"""What a Vault holds: tokens, roles, versions of secrets, transit keys; and its answers other than success."""

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def now() -> str:
    """RFC 3339 with nanoseconds, as Vault writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of ours
    """An answer other than success."""

    def __init__(self, status: int, *errors: str, data: Any = None) -> None:
        super().__init__(status, errors)
        self.status = status
        self.body: dict[str, Any] = {"errors": list(errors)} if data is None else {"data": data}


@dataclass
class Token:
    """Somebody's token; times are of the server's clock."""

    policies: tuple[str, ...]
    ttl_s: int
    max_ttl_s: int
    renewable: bool
    made_at: float
    ends_at: float
    uses: int = 0


@dataclass
class Role:
    """Who may log in, and what the tokens are like."""

    secret: str
    policies: tuple[str, ...]
    ttl_s: int = 1200
    max_ttl_s: int = 0
    renewable: bool = True
    logins: int = 0


@dataclass
class KvVersion:
    data: dict[str, Any]
    created_time: str
    deletion_time: str = ""
    destroyed: bool = False


@dataclass
class TransitKey:
    versions: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    min_decryption_version: int = 1
    derived: bool = False

    def wrap(self, plaintext: bytes) -> str:
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(self.versions[-1]).encrypt(nonce, plaintext, None)
        return f"vault:v{len(self.versions)}:{base64.b64encode(sealed).decode()}"

    def unwrap(self, ciphertext: str) -> bytes:
        match = re.fullmatch(r"vault:v([0-9]+):([A-Za-z0-9+/=]+)", ciphertext)
        if match is None:
            raise Refusal(400, "invalid ciphertext: no prefix")
        version = int(match[1])
        if version > len(self.versions):
            raise Refusal(400, "invalid ciphertext: version is too new")
        if version < self.min_decryption_version:
            raise Refusal(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            sealed = base64.b64decode(match[2], validate=True)
            return AESGCM(self.versions[version - 1]).decrypt(sealed[:12], sealed[12:], None)
        except (binascii.Error, InvalidTag, ValueError):
            raise Refusal(400, "invalid ciphertext: unable to decrypt") from None
