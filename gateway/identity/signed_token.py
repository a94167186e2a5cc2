"""A signed JSON Web Token, from text to claims that a key vouches for."""

from typing import Any, get_args

import orjson
from joserfc import jwk, jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError

from gateway.config.models import SignatureAlgorithm
from gateway.identity.verdict import RefusalReason, Refused

ALGORITHMS: frozenset[str] = frozenset(get_args(SignatureAlgorithm))
"""Never `none`, and no HMAC, whose key everybody would know."""
MAX_TOKEN_BYTES = 16 << 10

PublicKey = jwk.RSAKey | jwk.ECKey | jwk.OKPKey


class _Registry(jws.JWSRegistry):
    """joserfc's algorithms that have a public key, with one bound for the whole token in place of its own."""

    max_header_length = max_payload_length = max_signature_length = MAX_TOKEN_BYTES

    def get_alg(self, name: str) -> Any:
        # joserfc's own look-up warns of `EdDSA`, which RFC 9864 renames and issuers still write.
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


# Unknown header parameters are ignored, as RFC 7515 says; `crit`, which forbids that, is refused in `SignedToken`.
_REGISTRY = _Registry(strict_check_header=False)


def fits(key: PublicKey, algorithm: str) -> bool:
    """Whether `key` is meant for signatures of `algorithm`: its type, curve, `use` and `alg`."""
    try:
        _REGISTRY.get_alg(algorithm).check_key(key)
    except JoseError:
        return False
    return True


class SignedToken:
    """A token taken apart. Nothing that it says is believed before `verify`."""

    def __init__(self, text: str) -> None:
        """Raises Refused (malformed)."""
        try:
            self._signed = jws.extract_compact(_bounded(text), registry=_REGISTRY)
            header = self._signed.headers()
            _REGISTRY.check_header(header)
            if "crit" in header or "b64" in header:
                raise ValueError  # noqa: TRY301 - all that is wrong with a token's form ends below
            # Stricter than json: it bounds depth and numbers and knows no NaN.
            claims = orjson.loads(self._signed.payload or b"")
            if not isinstance(claims, dict):
                raise TypeError  # noqa: TRY301
        except (JoseError, ValueError, TypeError, RecursionError):
            raise Refused(RefusalReason.MALFORMED) from None
        self.claims: dict[str, Any] = claims
        self.algorithm: str = header["alg"]
        self.key_id: str | None = header.get("kid")

    def verify(self, key: PublicKey) -> None:
        """Raises Refused (bad_signature) unless `key` signed header and claims."""
        try:
            valid = jws.validate_compact(self._signed, key, registry=_REGISTRY)
        except (JoseError, ValueError):
            valid = False
        if not valid:
            raise Refused(RefusalReason.BAD_SIGNATURE)


def _bounded(text: str) -> bytes:
    # The length first: what is too long is not even copied.
    if len(text) > MAX_TOKEN_BYTES:
        raise ValueError
    return text.encode("ascii")
