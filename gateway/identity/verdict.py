"""What an identity provider says of a credential: whose it is, that it is not believed, or that nobody can tell now."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.types import Signal


@dataclass(frozen=True, slots=True)
class Verdict:
    """A credential that was proven. Whether the tenant exists is for the policy to say."""

    tenant: str
    signals: frozenset[Signal] | None
    """What it may send; None: everything. Empty: nothing."""
    subject: str
    """Who it is to the provider, for the audit trail; empty if the provider does not say. Not a secret."""
    expires_at: float
    """Unix seconds until which it is believed, leeway included."""


class RefusalReason(StrEnum):
    """Why a credential is not believed; docs/identity.md says what to do about each."""

    MALFORMED = "malformed"
    UNKNOWN_ISSUER = "unknown_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_SIGNATURE = "bad_signature"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    UNKNOWN_KEY = "unknown_key"
    NO_TENANT_CLAIM = "no_tenant_claim"
    AMBIGUOUS_TENANT = "ambiguous_tenant"


_SENTENCES = {
    RefusalReason.MALFORMED: "it is not a signed JSON Web Token of a form that is understood here",
    RefusalReason.UNKNOWN_ISSUER: "no configured provider has its issuer",
    RefusalReason.WRONG_AUDIENCE: "it was issued for another audience",
    RefusalReason.EXPIRED: "it has expired",
    RefusalReason.NOT_YET_VALID: "it is not valid yet",
    RefusalReason.BAD_SIGNATURE: "its signature is not the issuer's",
    RefusalReason.ALGORITHM_NOT_ALLOWED: "its signature algorithm is not allowed, or not for that key",
    RefusalReason.UNKNOWN_KEY: "the issuer does not have the key that signed it",
    RefusalReason.NO_TENANT_CLAIM: "its claims name no tenant",
    RefusalReason.AMBIGUOUS_TENANT: "its claims name more than one tenant",
}


class Refused(Exception):  # noqa: N818 - a verdict, not a mistake
    """The credential is not believed; sending it again does not help. Says nothing of what is in it."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(f"the token is refused: {_SENTENCES[reason]}")
        self.reason = reason


class Unavailable(Exception):  # noqa: N818 - a verdict, not a mistake
    """Nobody can tell now: the identity provider cannot be reached, or was asked too often. Worth another try."""

    def __init__(self, issuer: str, cause: str, retry_after_s: float) -> None:
        super().__init__(f"the keys of {issuer} cannot be had: {cause}")
        self.retry_after_s = retry_after_s
