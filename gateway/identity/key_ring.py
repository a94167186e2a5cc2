"""An issuer's published keys (JWKS): those that can verify a signature, by their id."""

from typing import Any

import orjson
from joserfc import jwk
from joserfc.errors import JoseError
from joserfc.util import base64_to_int

from gateway.identity.signed_token import PublicKey, fits
from gateway.identity.verdict import RefusalReason, Refused

# Of a JWK. A private part that somebody published by mistake is left alone, and so are certificates.
_PUBLIC_MEMBERS = ("kty", "n", "e", "crv", "x", "y", "alg", "use", "key_ops", "kid")
# Shorter ones can be broken, longer ones take milliseconds a token.
_RSA_BITS = range(2048, 8192 + 1)
_SIGNING_CURVES = ("P-256", "P-384", "P-521", "Ed25519", "Ed448")


class KeyRing:
    """The keys of one fetch. Never empty, never changed."""

    def __init__(self, document: bytes) -> None:
        """`document`: a JWK set (RFC 7517). Raises ValueError if no key in it can verify a signature."""
        published = orjson.loads(document)
        entries = published.get("keys") if isinstance(published, dict) else None
        if not isinstance(entries, list):
            raise ValueError("it is not a JWK set")  # noqa: TRY004 - the document is wrong, not the call
        # One that is not understood does not spoil the others (RFC 7517 §5).
        self._keys = [key for key in map(_signing_key, entries) if key is not None]
        if not self._keys:
            raise ValueError("it has no key for signatures")

    @property
    def ids(self) -> list[str]:
        return sorted(key.kid or "" for key in self._keys)

    def find(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """The key that must have signed, or None if it is not here.

        A token without key id can only mean the single key that fits (OpenID Connect Core §10.1).
        Raises Refused if the key is not one for `algorithm`, or if it could be several.
        """
        named = [key for key in self._keys if key_id is None or key.kid == key_id]
        fitting = [key for key in named if fits(key, algorithm)]
        if key_id is None:
            if len(fitting) > 1:
                raise Refused(RefusalReason.UNKNOWN_KEY)
        elif named and not fitting:
            raise Refused(RefusalReason.ALGORITHM_NOT_ALLOWED)
        return fitting[0] if fitting else None


def _signing_key(entry: Any) -> PublicKey | None:
    """The public key of one JWK; None if it is for something else, too weak or not understood."""
    try:
        key = _public_key({name: entry[name] for name in _PUBLIC_MEMBERS if name in entry})
        key.check_use("sig")
        key.check_key_op("verify")
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key


def _public_key(members: dict[str, Any]) -> PublicKey:
    match members.get("kty"):
        case "RSA":
            # Looked at before the import, which only warns.
            if base64_to_int(members["n"]).bit_length() not in _RSA_BITS:
                raise ValueError("a modulus of this size is not believed")
            return jwk.RSAKey.import_key(members)
        case "EC" | "OKP" if members.get("crv") not in _SIGNING_CURVES:
            raise ValueError("not a curve for signatures here")
        case "EC":
            return jwk.ECKey.import_key(members)
        case "OKP":
            return jwk.OKPKey.import_key(members)
        case _:
            raise ValueError("not a kind of public key that is understood here")
