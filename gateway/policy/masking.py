"""The masking part of the policy table."""

from typing import Any

from gateway.config.models import Mask

DETECTORS = ("email", "credit_card")

# Names under which secrets travel; matched without regard to case.
SENSITIVE_KEYS = (
    "password", "passwd", "*.password", "*_password", "secret", "*.secret", "*_secret", "token", "*.token", "*_token",
    "api_key", "apikey", "api-key", "*.api_key", "*_api_key", "access_key", "*_access_key", "private_key",
    "*_private_key", "authorization", "*.authorization", "cookie", "set-cookie", "*.cookie", "*.set-cookie",
    "x-api-key", "*.x-api-key", "credential", "credentials", "ssn", "card_number", "credit_card", "cvv", "iban",
)  # fmt: skip


def compile_mask(mask: Mask | None) -> dict[str, Any] | None:
    """`engine/src/policy.rs: Mask`; None: nothing is masked."""
    if mask is None:
        return None
    return {
        "keys": list(SENSITIVE_KEYS if mask.keys is None else mask.keys),
        "detectors": list(DETECTORS if mask.detectors is None else mask.detectors),
        "action": mask.action or "redact",
    }
