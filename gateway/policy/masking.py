"""The masking part of the policy table."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gateway.config.masking import DEFAULT_DETECTORS, KEYED_ACTIONS, Mask, MaskRule, with_defaults
from gateway.config.models import Config
from gateway.config.word_list import read_words
from gateway.policy.inheritance import effective

# Names under which secrets travel; matched without regard to case. Names of identifiers, such as session.id, are not
# among them: they are what data is joined by.
SENSITIVE_KEYS = (
    "*password", "*passwd", "*passphrase", "pwd", "*.pwd", "*_pwd",
    "*secret", "*secret_key", "*secret-key", "*secretkey", "*credential", "*credentials",
    "*token", "jwt", "*api_key", "*api-key", "*apikey", "*access_key", "*access-key", "*accesskey",
    "*private_key", "*private-key", "*privatekey", "*signing_key", "*encryption_key",
    "*authorization", "*cookie", "*cookies", "jsessionid", "phpsessid", "otp", "*_otp",
    "ssn", "card_number", "*.card_number", "credit_card", "*.credit_card", "cvv", "cvc", "iban", "*.iban",
)  # fmt: skip

ReadWords = Callable[[Path], Iterable[str]]


def compile_mask(
    mask: Mask | None, pseudonym_keys: Iterable[str] = (), read: ReadWords = read_words
) -> dict[str, Any] | None:
    """`engine/src/policy.rs: Mask`; None: nothing is masked.

    `pseudonym_keys`: the names of those that are configured. Raises ValueError if a file of words cannot be read.
    """
    if mask is None:
        return None
    rules = list(_rules(mask, read))
    needs_key = any(rule["action"] in KEYED_ACTIONS for rule in rules)
    return {
        "rules": rules,
        "allow_keys": list(mask.allow.keys),
        "allow_services": list(mask.allow.services),
        "budget": {"item_bytes": mask.budget.item_bytes, "item_us": round(mask.budget.item_time * 1e6)},
        "dry_run": mask.dry_run,
        # Only if it is used: a tenant that lacks it is refused.
        "pseudonym_key": mask.key_name(pseudonym_keys) if needs_key else None,
    }


def wanted_pseudonym_keys(config: Config) -> frozenset[tuple[str, str]]:
    """Pairs of key name and tenant that policies use."""
    wanted = set()
    for tenant_id, tenant in config.tenants.items():
        mask = effective(config, tenant).mask
        if mask is not None and mask.needs_pseudonym_key() and not tenant.disabled:
            name = mask.key_name(config.pseudonym_keys)
            if name is not None:
                wanted.add((name, tenant_id))
    return frozenset(wanted)


def _rules(mask: Mask, read: ReadWords) -> Iterator[dict[str, Any]]:
    """The rules, then the simple form, each with a name of its own."""
    names = {rule.name for rule in mask.rules}
    looked_for: set[str] = set()
    for rule in (*mask.rules, *_simple_form(mask)):
        found = _find(rule, looked_for, read)
        if found is not None:
            name = rule.name or _free(rule.default_name, names)
            names.add(name)
            yield {"name": name, "find": found, "action": rule.action}


def _simple_form(mask: Mask) -> Iterator[MaskRule]:
    action = mask.action or "redact"
    if mask.simple_keys():
        yield MaskRule.model_construct(keys=mask.simple_keys(), action=action)
    if mask.simple_detectors():
        yield MaskRule.model_construct(detectors=mask.simple_detectors(), action=action)


def _find(rule: MaskRule, looked_for: set[str], read: ReadWords) -> dict[str, Any] | None:
    """`engine/src/policy.rs: Find`; None: earlier rules look for all of it. `looked_for` collects their detectors."""
    if rule.keys is not None:
        return {"keys": list(with_defaults(rule.keys, SENSITIVE_KEYS))}
    if rule.detectors is not None:
        # What two rules find is the first one's, so a detector need not search twice.
        names = [name for name in with_defaults(rule.detectors, DEFAULT_DETECTORS) if name not in looked_for]
        looked_for.update(names)
        return {"detectors": names} if names else None
    if rule.passports is not None:
        return {"passports": list(rule.passports)}
    if rule.regex is not None:
        return {"regex": rule.regex}
    words = rule.words if rule.words_file is None else read(rule.words_file)
    return {"literals": {"values": list(words or ()), "ignore_case": rule.ignore_case}}


def _free(name: str, taken: set[str | None]) -> str:
    """`name`, or `name_2`, `name_3` … if it is taken."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
