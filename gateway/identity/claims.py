"""What verified claims say: which tenant, and which signals it may send."""

import re
from collections.abc import Mapping
from typing import Any

from gateway.config.models import is_tenant_id
from gateway.identity.verdict import RefusalReason, Refused
from gateway.types import Signal

_MAX_SUBJECT = 256


def tenant_of(claims: Mapping[str, Any], claim: str, pattern: re.Pattern[str] | None) -> str:
    """The one tenant that `claim` names. Raises Refused (no_tenant_claim, ambiguous_tenant).

    `pattern` has one group, the tenant; values that do not match it are for somebody else.
    """
    named = set(_texts(_look_up(claims, claim)))
    if pattern is not None:
        named = {match[1] for value in named if (match := pattern.fullmatch(value)) and match[1]}
    if len(named) > 1:
        raise Refused(RefusalReason.AMBIGUOUS_TENANT)
    for tenant in named:
        if is_tenant_id(tenant):
            return tenant
    raise Refused(RefusalReason.NO_TENANT_CLAIM)


def signals_of(claims: Mapping[str, Any], scopes: Mapping[Signal, str] | None) -> frozenset[Signal] | None:
    """The signals whose scope the token has; None, everything, if no scopes are asked for."""
    if scopes is None:
        return None
    # `scope` is text with spaces (RFC 9068); some issuers write a list, some call it `scp`.
    granted = {word for value in _texts(claims.get("scope", claims.get("scp"))) for word in value.split(" ")}
    return frozenset(signal for signal, scope in scopes.items() if scope in granted)


def subject_of(claims: Mapping[str, Any]) -> str:
    """Who it is to the issuer; empty if it does not say."""
    subject = claims.get("sub")
    return subject[:_MAX_SUBJECT] if isinstance(subject, str) else ""


def _look_up(claims: Mapping[str, Any], path: str) -> Any:
    """`a.b`: the claim of that name, or else `b` in the claim `a`."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _texts(value: Any) -> list[str]:
    """A text, or a list of nothing else, as a list; whatever it is otherwise: nothing."""
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(item, str) for item in values) else []
