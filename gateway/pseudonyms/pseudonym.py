"""What a pseudonym looks like. The engine makes them; this is for finding somebody's data again."""

import hashlib
import hmac

_SHOWN_BYTES = 12


def normalise(value: bytes) -> bytes:
    """The value as it is hashed: without white space (ASCII) around it."""
    return value.strip(b" \t\r\n\v\f")


def pseudonym(key: bytearray, version: int, value: bytes) -> str:
    """`h1:` and 24 hex digits: HMAC-SHA-256 of the value under version 1 of the tenant's key, truncated."""
    digest = hmac.new(key, normalise(value), hashlib.sha256).digest()
    return f"h{version}:{digest[:_SHOWN_BYTES].hex()}"
