"""Masking as typed models: what must not leave a tenant's telemetry, and what becomes of it (docs/masking.md)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.base import Model
from gateway.config.names import AttributePattern
from gateway.config.quantities import ByteSize, Seconds

Detector = Literal[
    "email", "credit_card", "iban", "us_ssn", "phone", "ipv4", "ipv6", "mac", "jwt", "authorization", "private_key",
    "aws_key", "gcp_key", "azure_key", "github_token", "slack_token", "stripe_key", "url_password", "secret_token",
    "uuid",
]  # fmt: skip
DETECTORS: tuple[str, ...] = get_args(Detector)

OPT_IN_DETECTORS = frozenset({"uuid"})
"""Not in the default set: what they find is mostly wanted."""

DEFAULT_DETECTORS = tuple(name for name in DETECTORS if name not in OPT_IN_DETECTORS)

DEFAULT = "default"
"""In a list of keys or detectors: the default ones."""

CREDENTIALS = frozenset(
    {
        "jwt", "authorization", "private_key", "aws_key", "gcp_key", "azure_key", "github_token", "slack_token",
        "stripe_key", "url_password", "secret_token",
    }
)  # fmt: skip
"""Detectors of what opens a door: not even a part of it may be shown."""

FORMAT_PRESERVING_DETECTORS = ("credit_card", "us_ssn", "phone", "ipv4", "ipv6")

PassportCountry = Literal["DE", "ES", "FR", "GB", "IN", "IT", "JP", "NL", "US"]

# What stands in a value's place otherwise, and what metrics are labelled with.
_TAKEN_NAMES = frozenset({*DETECTORS, "passport", "key", "redacted", "removed", "_other", DEFAULT})

MaskAction = Literal["redact", "remove", "partial", "pseudonymise", "format_preserving", "drop_item"]
KEYED_ACTIONS = frozenset({"pseudonymise", "format_preserving"})
"""Those that need a pseudonym key."""

_KINDS = ("keys", "detectors", "passports", "regex", "words", "words_file")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _one_or_many(item: Any) -> Any:
    """A list of `item`; a bare string is a list of one."""
    return BeforeValidator(_listed, json_schema_input_type=item | tuple[item, ...])


Keys = Annotated[tuple[AttributePattern, ...], _one_or_many(AttributePattern)]
_DetectorName = Literal[Detector, "default"]
Detectors = Annotated[tuple[_DetectorName, ...], _one_or_many(_DetectorName)]
Passports = Annotated[tuple[PassportCountry, ...], _one_or_many(PassportCountry)]
Texts = Annotated[tuple[str, ...], _one_or_many(str)]


def with_defaults(names: Iterable[str], defaults: Iterable[str]) -> tuple[str, ...]:
    """`names` with the default ones in the place of `default`; each once."""
    spelled_out = (inner for name in names for inner in (defaults if name == DEFAULT else (name,)))
    return tuple(dict.fromkeys(spelled_out))


class MaskRule(Model):
    """What one rule looks for, by exactly one of keys, detectors, passports, regex, words and words_file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] | None = None
    """Stands in metrics. A regex or list of words needs one: what it finds becomes `[name]`."""
    keys: Keys | None = None
    """Attribute keys whose whole value is masked; see `mask.keys`."""
    detectors: Detectors | None = None
    """What is looked for in every string; see `mask.detectors`."""
    passports: Passports | None = None
    """Passport numbers of these countries, behind the word passport."""
    regex: Annotated[str, Field(min_length=1)] | None = None
    """RE2 syntax, not anchored."""
    words: Texts | None = None
    """Words and phrases that are found as whole words, such as names of customers; at most 100,000."""
    words_file: Path | None = None
    """The same from a file, one a line; lines that are blank or begin with # are skipped. Read at start and reload."""
    ignore_case: bool = True
    """Of words and words_file: whether (ASCII) case makes no difference."""
    action: MaskAction = "redact"
    """See `mask.action`."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise ValueError(f"name exactly one of {', '.join(_KINDS)}")
        if any(getattr(self, kind) == () for kind in _KINDS):
            raise ValueError(f"{self.kind} is empty; name what to look for, or leave out the rule")
        if "ignore_case" in self.model_fields_set and self.kind not in ("words", "words_file"):
            raise ValueError("ignore_case goes with words and words_file; a regex begins with (?i) instead")
        return self

    @model_validator(mode="after")
    def _own_word(self) -> Self:
        if self.kind not in ("regex", "words", "words_file"):
            return self
        if self.name is None:
            raise ValueError(f"{self.kind} needs a name: what it finds becomes [name]")
        if self.name in _TAKEN_NAMES:
            raise ValueError(f"the name {self.name} has a meaning already; choose another for what {self.kind} finds")
        return self

    @model_validator(mode="after")
    def _action_fits(self) -> Self:
        if reason := why_not(self.action, keys=self.keys or (), detectors=self.detectors or (), kind=self.kind):
            raise ValueError(reason)
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def default_name(self) -> str:
        """What the rule is called if it has no name."""
        if self.kind == "detectors":
            joined = "_".join(dict.fromkeys(self.detectors or ()))
            return joined if len(joined) <= 40 and DEFAULT not in (self.detectors or ()) else "detectors"
        return self.kind


class MaskAllow(Model):
    """What masking leaves as it is. Inherited key by key."""

    keys: Keys = ()
    """Attribute keys whose values are not looked at; `*` matches any characters."""
    services: Texts = ()
    """Services (`service.name`) whose resources are not looked at."""


class MaskBudget(Model):
    """What may be searched of one span, log record or point; beyond it values are removed. Inherited key by key."""

    item_bytes: Annotated[ByteSize, Field(ge=1024, le=1 << 31)] = 4 << 20
    item_time: Annotated[Seconds, Field(ge=0.001, le=60)] = 0.1


class Mask(Model):
    """What must not leave. Any one of the keys given turns masking on.

    `rules` come first, in their order, and then the simple form: `keys`, `detectors` and `action`. So rules refine the
    default: what a rule and the simple form both find is the rule's. The simple form holds with its defaults beside
    rules as well; `keys: []` and `detectors: []` switch it off.
    """

    enabled: bool = True
    rules: tuple[MaskRule, ...] = ()
    """Tried in order, before keys and detectors."""
    keys: Keys | None = None
    """Attribute keys whose whole value is masked, without regard to case; `*` matches any characters. `default` stands
    for the usual names of secrets, which are also what is masked without this key."""
    detectors: Detectors | None = None
    """What is looked for in every string. `default` stands for all but uuid, which is also what is looked for without
    this key."""
    action: MaskAction | None = None
    """Of keys and detectors. `redact` (default) leaves a word such as [email] behind, `remove` nothing, `partial` the
    end of the value (of an address its network), `pseudonymise` a keyed hash, `format_preserving` other digits;
    `drop_item` drops the span, log record or point."""
    allow: MaskAllow = MaskAllow()
    budget: MaskBudget = MaskBudget()
    pseudonym_key: str | None = None
    """Which of `pseudonym_keys` pseudonyms are made with; the only one, if there is one."""
    dry_run: bool = False
    """Count what would be masked and show where (`/-/masking`), and change nothing."""

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [rule.name for rule in self.rules if rule.name is not None]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules have the name {twice[0]}; each needs its own")
        return self

    def over(self, inherited: Self) -> Self:
        """These settings, and those of `inherited` that these do not name."""
        own = {name: getattr(self, name) for name in self.model_fields_set}
        for part in ("allow", "budget"):
            if part in own:
                named = {name: getattr(own[part], name) for name in own[part].model_fields_set}
                own[part] = getattr(inherited, part).model_copy(update=named)
        return inherited.model_copy(update=own)

    def simple_keys(self) -> tuple[str, ...]:
        """Of the simple form, as configured."""
        return (DEFAULT,) if self.keys is None else self.keys

    def simple_detectors(self) -> tuple[str, ...]:
        """Of the simple form, as configured."""
        return (DEFAULT,) if self.detectors is None else self.detectors

    def needs_pseudonym_key(self) -> bool:
        actions: set[str] = {rule.action for rule in self.rules}
        if self.simple_keys() or self.simple_detectors():
            actions.add(self.action or "redact")
        return bool(actions & KEYED_ACTIONS)

    def key_name(self, configured: Iterable[str]) -> str | None:
        """Which of the configured pseudonym keys is meant; None: that is not clear."""
        if self.pseudonym_key is not None:
            return self.pseudonym_key
        names = list(configured)
        return names[0] if len(names) == 1 else None

    def simple_problems(self) -> Iterator[tuple[str, str]]:
        """Why `action` cannot be that of `keys` or `detectors`: which of the two, and the reason."""
        action = self.action or "redact"
        keys, detectors = self.simple_keys(), self.simple_detectors()
        if keys and (reason := why_not(action, keys=keys, kind="keys")):
            yield "keys", reason
        if detectors and (reason := why_not(action, detectors=detectors, kind="detectors")):
            yield "detectors", reason


def why_not(action: MaskAction, *, kind: str, keys: Iterable[str] = (), detectors: Iterable[str] = ()) -> str | None:
    """Why `action` is not for what a rule of this kind finds, and what to do; None: it is."""
    named = with_defaults(detectors, DEFAULT_DETECTORS)
    if action == "format_preserving":
        fitting = ", ".join(FORMAT_PRESERVING_DETECTORS)
        if kind != "detectors":
            return f"format_preserving is for the detectors {fitting}, not for {kind}; use pseudonymise"
        if unfit := [name for name in named if name not in FORMAT_PRESERVING_DETECTORS]:
            return f"format_preserving is for {fitting}, not for {_some(unfit)}; give those a rule of their own"
    if action == "partial":
        if DEFAULT in keys:
            return "partial would show the ends of passwords; name the keys whose last four characters may be seen"
        if secrets := [name for name in named if name in CREDENTIALS]:
            return f"partial would show the end of a secret ({_some(secrets)}); leave them to a rule with redact"
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"
