"""Explanations for people, and as JSON for scripts. Values are shown only on demand."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from gateway.explain.explanation import Explanation, MaskedValue, Policy, Rule
from gateway.explain.values import Value

_SHOWN_KEYS = 6
_DRY_RUN = "dry run: nothing is changed"


def as_json(tenant: str, explanations: Sequence[Explanation], *, show_values: bool, show_untouched: bool) -> str:
    """One object: the rules, each request and the counts."""
    policies = {explanation.signal: explanation.policy for explanation in explanations}
    view = {
        "tenant": tenant,
        "policies": {signal.value: _policy_json(policy) for signal, policy in policies.items()},
        "requests": [_request_json(explanation, show_values, show_untouched) for explanation in explanations],
        "counts": _counts(explanations),
    }
    return orjson.dumps(view, option=orjson.OPT_INDENT_2).decode()


def as_text(tenant: str, explanations: Sequence[Explanation], *, show_values: bool, show_untouched: bool) -> str:
    """The rules in order, then what each request's values become, then the counts."""
    lines: list[str] = []
    told: list[tuple[Policy | None, list[str]]] = []
    for explanation in explanations:
        for policy, signals in told:
            if policy == explanation.policy:
                signals.append(explanation.signal)
                break
        else:
            told.append((explanation.policy, [explanation.signal]))
    for policy, signals in told:
        lines += [*_policy_lines(tenant, ", ".join(dict.fromkeys(signals)), policy), ""]
    for number, explanation in enumerate(explanations, 1):
        which = f"request {number}, " if len(explanations) > 1 else ""
        lines += [f"{which}{explanation.signal}, {_count(explanation.items, 'item')}"]
        lines += [f"  {line}" for line in _request_lines(explanation, show_values, show_untouched)]
        lines.append("")
    return "\n".join([*lines, *_count_lines(explanations)])


def _policy_lines(tenant: str, signals: str, policy: Policy | None) -> Iterator[str]:
    if policy is None:
        yield f"tenant {tenant}, {signals}: nothing is masked; the configuration has no mask for it, or not enabled"
        return
    yield f"rules of tenant {tenant} for {signals}, in order; first match wins, and of overlapping matches the widest:"
    name_width = max((len(rule.name) for rule in policy.rules), default=0)
    action_width = max((len(rule.action) for rule in policy.rules), default=0)
    for rule in policy.rules:
        yield f"  {rule.number:>2}  {rule.name:<{name_width}}  {rule.action:<{action_width}}  {looks_for(rule)}"
    if policy.allowed_keys:
        yield f"  never masked, values of the keys: {printable(', '.join(policy.allowed_keys))}"
    if policy.allowed_services:
        yield f"  never masked, the services: {printable(', '.join(policy.allowed_services))}"
    if policy.dry_run:
        yield f"  {_DRY_RUN}"


def looks_for(rule: Rule) -> str:
    """What a rule finds, in a line. Words of a list are not told: they are what must not be seen."""
    match rule.find:
        case {"keys": keys}:
            more = f" … {len(keys)} in all" if len(keys) > _SHOWN_KEYS else ""
            return f"keys: {printable(', '.join(keys[:_SHOWN_KEYS]))}{more}"
        case {"detectors": names}:
            return f"detectors: {', '.join(names)}"
        case {"passports": countries}:
            return f"passports of {', '.join(countries)}"
        case {"regex": regex}:
            return f"regex: {printable(regex)}"
        case {"literals": {"values": words, **settings}}:
            return _count(len(words), "word") + (", in any case" if settings.get("ignore_case") else "")
        case other:
            raise AssertionError(f"the engine knows no rule that finds {list(other)}")


def _request_lines(explanation: Explanation, show_values: bool, show_untouched: bool) -> Iterator[str]:
    shown = None
    for value in explanation.masked:
        where = value.place if value.key is None else f"{value.place} {printable(value.key)}"
        if value.path != shown:
            yield value.path
            shown = value.path
        yield (
            f"    {where}: {value.detector} by rule {value.rule.number} ({value.rule.name}), {value.rule.action}: "
            f"{_before(value, show_values)} → {printable(value.after) or 'nothing'}"
        )
    for path in explanation.unsearched:
        yield path
        yield "    not searched, since the item is over its budget → [removed]"
    for path in explanation.dropped:
        yield f"{path}: {_would_be([explanation])}dropped"
    if show_untouched:
        for untouched in explanation.untouched:
            yield f"{untouched.path}: nothing masked{f': {printable(_text(untouched))}' if show_values else ''}"


def _count_lines(explanations: Sequence[Explanation]) -> Iterator[str]:
    counts, would_be = _counts(explanations), _would_be(explanations)
    by_detector = ", ".join(f"{name} {count}" for name, count in counts["by_detector"].items())
    yield (
        f"{_count(counts['masked_values'], 'value')} {would_be}masked{f' ({by_detector})' if by_detector else ''}, "
        f"{counts['unsearched_values']} removed unsearched, {counts['untouched_values']} untouched"
    )
    yield f"{counts['dropped_items']} of {_count(counts['items'], 'item')} {would_be}dropped"
    for key in counts["missing_keys"]:
        yield f"without the pseudonym key {key} the gateway refuses these requests, and asks for them again"
    if would_be:
        yield _DRY_RUN


def _would_be(explanations: Sequence[Explanation]) -> str:
    """What a dry run says before it names what is done."""
    return "would be " if any(each.policy is not None and each.policy.dry_run for each in explanations) else ""


def _counts(explanations: Sequence[Explanation]) -> dict[str, Any]:
    masked = [value for explanation in explanations for value in explanation.masked]
    missing = {explanation.missing_key for explanation in explanations}
    return {
        "items": sum(explanation.items for explanation in explanations),
        "dropped_items": sum(len(explanation.dropped) for explanation in explanations),
        "masked_values": len(masked),
        "by_detector": dict(sorted(Counter(value.detector for value in masked).items())),
        "unsearched_values": sum(len(explanation.unsearched) for explanation in explanations),
        "untouched_values": sum(len(explanation.untouched) for explanation in explanations),
        "missing_keys": sorted(key for key in missing if key is not None),
    }


def _policy_json(policy: Policy | None) -> dict[str, Any] | None:
    if policy is None:
        return None
    return {
        "rules": [
            {"rule": rule.number, "name": rule.name, "looks_for": looks_for(rule), "action": rule.action}
            for rule in policy.rules
        ],
        "allowed_keys": policy.allowed_keys,
        "allowed_services": policy.allowed_services,
        "dry_run": policy.dry_run,
        "pseudonym_key": policy.pseudonym_key,
    }


def _request_json(explanation: Explanation, show_values: bool, show_untouched: bool) -> dict[str, Any]:
    view: dict[str, Any] = {
        "signal": explanation.signal,
        "items": explanation.items,
        "values": [
            {
                "path": value.path,
                "place": value.place,
                "key": value.key,
                "rule": value.rule.number,
                "rule_name": value.rule.name,
                "detector": value.detector,
                "action": value.rule.action,
                "before": value.before if show_values else kind_of(value.before),
                "after": value.after,
            }
            for value in explanation.masked
        ],
        "unsearched": explanation.unsearched,
        "dropped": explanation.dropped,
    }
    if show_untouched:
        view["untouched"] = [
            {"path": value.path, **({"value": _text(value)} if show_values else {})} for value in explanation.untouched
        ]
    return view


def _before(value: MaskedValue, show_values: bool) -> str:
    return printable(value.before) if show_values else kind_of(value.before)


def kind_of(value: str) -> str:
    """What may be said of a value that is not shown."""
    what = "digit" if value.isascii() and value.isdigit() else "character"
    return _count(len(value), what)


def _text(value: Value) -> str:
    if isinstance(value.value, bytes):
        return value.value.decode(errors="backslashreplace")
    return str(value.value)


def printable(text: str) -> str:
    """Safe for a terminal, and in one line: what steers it is written as an escape."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
