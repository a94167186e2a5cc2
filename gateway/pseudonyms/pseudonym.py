"""What a pseudonym looks like. The engine makes them; this is for finding somebody's data again."""

import hashlib
import hmac
import ipaddress
import re
from enum import StrEnum

_SHOWN_BYTES = 12
_SIGN = ("@", "%40", "%2540")
# A phone or card number as people write it.
_DIGITS = re.compile(r"\+?[0-9()][0-9 ()./-]*")
_FEWEST_DIGITS = 7


class Form(StrEnum):
    """What a value was found as, and so how it is written before it is hashed: `engine/src/mask/pseudonym.rs`."""

    TEXT = "text"
    """As it is: values of sensitive keys, of regexes, of lists of words, and tokens."""
    EMAIL = "email"
    DIGITS = "digits"
    """Only the digits count: card, phone and social security numbers."""
    CODE = "code"
    """ASCII letters and digits, upper case: IBANs, passports, MAC addresses, UUIDs."""
    ADDRESS = "address"
    """Of the internet, version 4 or 6."""


def guess(value: bytes) -> Form:
    """The form that whoever finds such a value most likely takes it for."""
    if _address(value) is not None:
        return Form.ADDRESS
    text = value.decode(errors="replace")
    if any(sign in text for sign in _SIGN):
        return Form.EMAIL
    if _DIGITS.fullmatch(text) and sum(map(str.isdigit, text)) >= _FEWEST_DIGITS:
        return Form.DIGITS
    return Form.TEXT


def normalise(value: bytes, form: Form) -> bytes:
    """The value as it is hashed: one way to write what can be written in many."""
    match form:
        case Form.TEXT:
            return value
        case Form.EMAIL:
            text = value.decode(errors="replace").lower()
            return text.replace("%2540", "@").replace("%40", "@").encode()
        case Form.DIGITS:
            return bytes(byte for byte in value if chr(byte) in "0123456789")
        case Form.CODE:
            return bytes(byte for byte in value if chr(byte).isascii() and chr(byte).isalnum()).upper()
        case Form.ADDRESS:
            return _address(value) or value


def _address(value: bytes) -> bytes | None:
    """In its canonical form (RFC 5952), without a zone; None if it is no address."""
    try:
        address = ipaddress.ip_address(value.decode().partition("%")[0])
    except ValueError:  # also of bytes that are not UTF-8
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return f"::ffff:{address.ipv4_mapped}".encode()
    return str(address).encode()


def pseudonym(key: bytearray, version: int, value: bytes, form: Form) -> str:
    """`h1:` and 24 hex digits: HMAC-SHA-256 of the value under version 1 of the tenant's key, truncated."""
    digest = hmac.new(key, normalise(value, form), hashlib.sha256).digest()
    return f"h{version}:{digest[:_SHOWN_BYTES].hex()}"
