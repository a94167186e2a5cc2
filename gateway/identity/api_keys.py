"""API keys: long random strings, of which the configuration knows the SHA-256 only."""

import hashlib
import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NewKey:
    """A key just made. The key itself is shown once, to whoever asked for it, and never in a `repr`."""

    id: str
    key: str = field(repr=False)
    sha256: str


def new_key() -> NewKey:
    """256 random bits behind a prefix that secret scanners can look for."""
    key_id = secrets.token_hex(4)
    key = f"gwk_{key_id}_{secrets.token_urlsafe(32)}"
    return NewKey(key_id, key, hashlib.sha256(key.encode()).hexdigest())
