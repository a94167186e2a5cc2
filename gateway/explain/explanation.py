"""What masking does to requests of one tenant, under a configuration, without a running gateway."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway._engine import Engine
from gateway.config.models import Config
from gateway.explain.read import Request
from gateway.explain.values import Value, content_of
from gateway.policy.compiler import compile_table
from gateway.pseudonyms.keys import TenantKey
from gateway.types import Signal

REMOVED = "[removed]"
"""What the engine leaves of a value that it could not search within the item's budget."""
_KEYED = ("pseudonymise", "format_preserving")
# What goes whole if something in it is to be dropped: the innermost of these around a value.
_UNIT = re.compile(
    r"resource\w+\[\d+\](?:\.scope\w+\[\d+\]"
    r"(?:\.spans\[\d+\]|\.logRecords\[\d+\]|\.metrics\[\d+\](?:\.\w+\.dataPoints\[\d+\])?)?)?"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the tenant's policy."""

    number: int
    """From 1."""
    name: str
    find: Mapping[str, Any]
    """`engine/src/policy.rs: Find`."""
    action: str


@dataclass(frozen=True, slots=True)
class Policy:
    """How a tenant's values of one signal are masked."""

    rules: tuple[Rule, ...]
    allowed_keys: tuple[str, ...]
    allowed_services: tuple[str, ...]
    dry_run: bool
    pseudonym_key: str | None
    """That its rules need."""


@dataclass(frozen=True, slots=True)
class MaskedValue:
    """One value that a rule masks."""

    path: str
    place: str
    key: str | None
    """The attribute's, unless something is masked in it."""
    rule: Rule
    detector: str
    """`key`, a detector, or the rule's name."""
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of one request."""

    signal: Signal
    policy: Policy | None
    """None: nothing is masked, and everything below is as it was sent."""
    items: int
    masked: tuple[MaskedValue, ...]
    unsearched: tuple[str, ...]
    """Paths of values that are removed unseen: the item is over its budget."""
    dropped: tuple[str, ...]
    """Paths of items that a rule drops."""
    untouched: tuple[Value, ...]
    missing_key: str | None
    """The pseudonym key without which the gateway refuses the tenant's requests."""


class Explainer:
    """The engine, without listeners, with one tenant's policy."""

    def __init__(self, config: Config, tenant: str) -> None:
        """Raises ValueError if the policy does not compile."""
        alone = config.model_copy(update={"tenants": {tenant: config.tenants[tenant]}})
        self._table = orjson.loads(compile_table(alone, 1))
        self._tenant = tenant
        self._key_names: frozenset[str] = frozenset()
        # Changes nothing but what the engine leaves of values: every item and value stays where it is.
        settled = orjson.loads(orjson.dumps(self._table))
        for mask in _masks(settled):
            mask["dry_run"] = False
            for rule in mask["rules"]:
                rule["action"] = "redact"
        self._engine = self._start(self._table)
        try:
            self._redacting = self._start(settled)
        except ValueError:
            self._engine.stop()
            raise

    def _start(self, table: object) -> Engine:
        engine = Engine(threads=1, max_request_bytes=1 << 20, max_inflight_bytes=1 << 20, max_connections=1)
        try:
            engine.apply(orjson.dumps(table))
        except ValueError:
            engine.stop()
            raise
        return engine

    def use_keys(self, keys: Sequence[TenantKey]) -> None:
        """The tenant's pseudonym keys, which are copied. Without them pseudonyms cannot be shown."""
        self._engine.set_pseudonym_keys([(key.name, key.tenant, key.version, key.key) for key in keys])
        self._key_names = frozenset(key.name for key in keys)

    def close(self) -> None:
        self._engine.stop()
        self._redacting.stop()

    def policy(self, signal: Signal) -> Policy | None:
        """None: nothing is masked. Raises ValueError if the tenant may not send `signal`."""
        (tenant,) = self._table["tenants"]
        settings = self._table["policies"][tenant["policy"]][signal.value]
        if settings is None:
            raise ValueError(f"tenant {self._tenant} may not send {signal}: it has no route for them")
        mask = settings["mask"]
        if mask is None:
            return None
        rules = [
            Rule(number, rule["name"], rule["find"], rule["action"]) for number, rule in enumerate(mask["rules"], 1)
        ]
        keyed = any(rule.action in _KEYED for rule in rules)
        return Policy(
            rules=tuple(rules),
            allowed_keys=tuple(mask.get("allow_keys", ())),
            allowed_services=tuple(mask.get("allow_services", ())),
            dry_run=bool(mask.get("dry_run", False)),
            pseudonym_key=mask.get("pseudonym_key") if keyed else None,
        )

    def explain(self, request: Request) -> Explanation:
        """Raises ValueError if the engine would refuse the request."""
        policy = self.policy(request.signal)
        content = content_of(request.message)
        if policy is None:
            return Explanation(request.signal, None, len(content.items), (), (), (), tuple(content.values), None)
        found = orjson.loads(self._engine.explain(self._tenant, request.signal.value, request.wire))
        missing = self._missing(policy)
        masked = tuple(_masked(value, policy.rules, missing) for value in found)
        changed = {value.path for value in masked}
        others = [value for value in content.values if not _is_within(value.path, changed)]
        unsearched = self._unsearched(request, others)
        units = {
            unit[0]
            for value in masked
            if value.rule.action == "drop_item" and (unit := _UNIT.match(value.path)) is not None
        }
        return Explanation(
            signal=request.signal,
            policy=policy,
            items=len(content.items),
            masked=masked,
            unsearched=tuple(value.path for value in others if value.path in unsearched),
            dropped=tuple(item for item in content.items if _is_within(item, units)),
            untouched=tuple(value for value in others if value.path not in unsearched),
            missing_key=missing,
        )

    def _missing(self, policy: Policy) -> str | None:
        return None if policy.pseudonym_key in self._key_names else policy.pseudonym_key

    def _unsearched(self, request: Request, others: Sequence[Value]) -> frozenset[str]:
        """Which of the values in which nothing was found are removed all the same."""
        wire = self._redacting.trial(self._tenant, request.signal.value, request.wire, ["mask"])
        left = {value.path: value.value for value in content_of(type(request.message).FromString(wire)).values}
        removed = (REMOVED, REMOVED.encode())
        return frozenset(
            value.path for value in others if left.get(value.path) in removed and value.value not in removed
        )


def _masks(table: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for policy in table["policies"]:
        for signal in Signal:
            settings = policy[signal.value]
            if settings is not None and settings["mask"] is not None:
                yield settings["mask"]


def _masked(value: Mapping[str, Any], rules: Sequence[Rule], missing: str | None) -> MaskedValue:
    rule = rules[value["rule"]]
    unknown = missing is not None and rule.action in _KEYED
    return MaskedValue(
        path=value["path"],
        place=value["place"],
        key=value["key"],
        rule=rule,
        detector=value["finder"],
        before=value["before"],
        after=f"[needs key {missing}]" if unknown else value["after"],
    )


def _is_within(path: str, around: set[str]) -> bool:
    """Whether `path` is one of `around`, or inside one."""
    return any(path[:end] in around for end in [*(place for place, sign in enumerate(path) if sign == "."), len(path)])
