"""What is wrong with masking across keys: actions that do not fit, pseudonym keys that are missing, regexes, words."""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.config.document import KeyPath
from gateway.config.loader import Loaded
from gateway.config.masking import DEFAULT_DETECTORS, Mask, MaskRule, with_defaults
from gateway.config.problems import Problem
from gateway.config.word_list import problem_of_file, problems_of_words

# The engine keeps a bit for each.
MAX_FINDERS = 64


def check_masking(loaded: Loaded) -> Iterator[Problem]:
    """Every problem of the masks of `defaults` and the tenants, as they are once inherited."""
    config = loaded.config
    checked = MaskCheck(config.pseudonym_keys)
    inherited: set[tuple[KeyPath, str]] = set()
    default = config.defaults.mask
    if default is not None:
        inherited = set(checked.problems(default))
        for inner, message in checked.problems(default):
            yield loaded.problem(("defaults", "mask", *inner), message)
    for tenant_id, tenant in config.tenants.items():
        if tenant.mask is None:
            continue
        mask = tenant.mask if default is None else tenant.mask.over(default)
        for inner, message in checked.problems(mask):
            # What is inherited was said of the defaults.
            if (inner, message) not in inherited or (inner and inner[0] in tenant.mask.model_fields_set):
                yield loaded.problem(("tenants", tenant_id, "mask", *inner), message)


class MaskCheck:
    """Finds what is wrong with masks; a file of words is read once."""

    def __init__(self, pseudonym_keys: Mapping[str, object]) -> None:
        self._pseudonym_keys = pseudonym_keys
        self._files: dict[Path, str | None] = {}

    def problems(self, mask: Mask) -> Iterator[tuple[KeyPath, str]]:
        """Paths inside of the mask, with what is wrong there."""
        if not mask.enabled:
            return
        for index, rule in enumerate(mask.rules):
            yield from (((("rules", index, *inner)), message) for inner, message in self._rule(rule))
        for key, reason in mask.simple_problems():
            # The action is the fault where the other key was left out.
            yield (key if getattr(mask, key) is not None else "action",), reason
        if mask.pseudonym_key is not None and mask.pseudonym_key not in self._pseudonym_keys:
            known = f"there are {', '.join(self._pseudonym_keys)}" if self._pseudonym_keys else "there is none"
            yield ("pseudonym_key",), f"there is no pseudonym key {mask.pseudonym_key}; {known} under pseudonym_keys"
        elif mask.needs_pseudonym_key() and mask.key_name(self._pseudonym_keys) is None:
            yield (), _which_key(self._pseudonym_keys)
        finders = _finders(mask)
        if finders > MAX_FINDERS:
            message = f"{finders} detectors, regexes and lists of words are more than {MAX_FINDERS}"
            yield ("rules",), f"{message}; join regexes with |, and lists into one"

    def _rule(self, rule: MaskRule) -> Iterator[tuple[KeyPath, str]]:
        if rule.regex is not None and (reason := regex_problem(rule.regex)):
            yield ("regex",), reason
        for index, reason in problems_of_words(rule.words or ()):
            yield ("words",) if index is None else ("words", index), reason
        if rule.words_file is not None:
            if rule.words_file not in self._files:
                self._files[rule.words_file] = problem_of_file(rule.words_file)
            if problem := self._files[rule.words_file]:
                yield ("words_file",), problem


def _which_key(configured: Mapping[str, object]) -> str:
    if configured:
        return f"pseudonyms need a key, and there are several; set pseudonym_key to one of {', '.join(configured)}"
    return "pseudonyms need a key; add one under pseudonym_keys (docs/pseudonym-keys.md)"


def _finders(mask: Mask) -> int:
    """What the engine looks for beside keys."""
    rules = [rule for rule in mask.rules if rule.kind != "keys"]
    named = [name for rule in rules for name in rule.detectors or ()]
    detectors = with_defaults((*named, *mask.simple_detectors()), DEFAULT_DETECTORS)
    return len(detectors) + sum(rule.kind != "detectors" for rule in rules)


_ESCAPED = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_LOOK_AROUND = re.compile(r"\(\?<?[=!]")
_BACK_REFERENCE = re.compile(r"\\[1-9]|\(\?P=")
_ATOMIC = re.compile(r"\(\?>")
# What Python and RE2 agree on; of the rest the engine, which compiles the policy next, has the last word.
_SAME_IN_RE2 = re.compile(
    r"missing \)|unbalanced|unterminated|nothing to repeat|bad character range|min repeat greater"
)


def regex_problem(pattern: str) -> str | None:
    """Why a masking regex cannot be used, as far as Python can tell."""
    outside = _ESCAPED.sub("", pattern)
    if _LOOK_AROUND.search(outside):
        return "RE2 has no look-around: (?=, (?!, (?<=, (?<!; match what stands around as well, or use \\b"
    if _BACK_REFERENCE.search(re.sub(r"\\\\", "", pattern)):
        return "RE2 has no back-references; the time of a search would know no bound"
    if _ATOMIC.search(outside):
        return "RE2 has no atomic groups (?>; a plain group is as fast there"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        if _SAME_IN_RE2.search(error.msg):
            column = "" if error.colno is None else f" at column {error.colno}"
            return f"{error.msg}{column}; regexes are RE2, not anchored"
    except (OverflowError, RecursionError):
        return "it is too large"
    return None
