"""Masking as configured: what rules mean together, what is inherited, what `check` says, and what the engine gets."""

import fnmatch
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config.check import check
from gateway.config.loader import load_text
from gateway.config.masking import DEFAULT_DETECTORS, DETECTORS, Mask
from gateway.config.models import Config
from gateway.config.problems import ConfigError
from gateway.config.word_list import MAX_WORDS, read_words
from gateway.policy import compiler
from gateway.policy.compiler import compile_table
from gateway.policy.inheritance import effective
from gateway.policy.masking import SENSITIVE_KEYS, compile_mask, wanted_pseudonym_keys

DESTINATIONS = {"disk": {"type": "file", "path": "out.jsonl"}}
KEY = {"versions": [{"version": 1, "key": "ab" * 32}]}
DEFAULT = list(DEFAULT_DETECTORS)


def compiled(mask: dict[str, Any], pseudonym_keys: tuple[str, ...] = ()) -> dict[str, Any]:
    table = compile_mask(Mask.model_validate(mask), pseudonym_keys)
    assert table is not None
    return table


def rules(mask: dict[str, Any]) -> list[tuple[str, str, Any, str]]:
    """Name, kind, what is looked for, and action of each compiled rule; the usual names of secrets as SECRETS."""
    found = []
    for rule in compiled(mask)["rules"]:
        ((kind, sought),) = rule["find"].items()
        found.append((rule["name"], kind, "SECRETS" if sought == list(SENSITIVE_KEYS) else sought, rule["action"]))
    return found


# What is compiled.

KEYS_AS_USUAL = ("keys", "keys", "SECRETS", "redact")
DETECTORS_AS_USUAL = ("detectors", "detectors", DEFAULT, "redact")

COMPILED: list[tuple[dict[str, Any], list[tuple[str, str, Any, str]]]] = [
    ({}, [KEYS_AS_USUAL, DETECTORS_AS_USUAL]),
    ({"detectors": "email"}, [KEYS_AS_USUAL, ("email", "detectors", ["email"], "redact")]),
    ({"keys": "a", "detectors": []}, [("keys", "keys", ["a"], "redact")]),
    ({"keys": [], "detectors": ["uuid", "default"]}, [("detectors", "detectors", ["uuid", *DEFAULT], "redact")]),
    ({"keys": [], "detectors": ["mac", "mac"], "action": "remove"}, [("mac", "detectors", ["mac"], "remove")]),
    ({"keys": [], "detectors": []}, []),
    # Rules come first, and a detector that one has is not searched for again.
    (
        {"rules": [{"detectors": ["ipv4", "email"], "action": "partial"}], "keys": []},
        [
            ("ipv4_email", "detectors", ["ipv4", "email"], "partial"),
            ("detectors", "detectors", [name for name in DEFAULT if name not in ("ipv4", "email")], "redact"),
        ],
    ),
    (
        {"rules": [{"detectors": "default", "action": "remove"}, {"keys": "a"}, {"keys": "b"}], "keys": "c"},
        [
            ("detectors", "detectors", DEFAULT, "remove"),
            ("keys", "keys", ["a"], "redact"),
            ("keys_2", "keys", ["b"], "redact"),
            ("keys_3", "keys", ["c"], "redact"),
        ],
    ),
    (
        {
            "rules": [
                {"passports": ["DE", "US"], "action": "drop_item"},
                {"name": "order", "regex": "ORD-[0-9]+"},
                {"name": "customer", "words": ["Miller & Co", "Bär"], "action": "remove"},
                {"name": "code", "words": "XY", "ignore_case": False},
            ],
            "keys": [],
            "detectors": [],
        },
        [
            ("passports", "passports", ["DE", "US"], "drop_item"),
            ("order", "regex", "ORD-[0-9]+", "redact"),
            ("customer", "literals", {"values": ["Miller & Co", "Bär"], "ignore_case": True}, "remove"),
            ("code", "literals", {"values": ["XY"], "ignore_case": False}, "redact"),
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "expected"), COMPILED)
def test_rules_come_first_and_then_keys_and_detectors(
    mask: dict[str, Any], expected: list[tuple[str, str, Any, str]]
) -> None:
    assert rules(mask) == expected


def test_the_default_set_is_every_detector_but_uuid() -> None:
    assert set(DETECTORS) - set(DEFAULT_DETECTORS) == {"uuid"}
    assert len(DETECTORS) == 20


@pytest.mark.parametrize(
    "key",
    [
        "password", "PASSWORD", "db.password", "user_password", "dbPassword", "passwd", "pwd", "db_pwd", "passphrase",
        "secret", "client_secret", "clientSecret", "aws_secret_access_key", "SECRET_KEY", "access_token",
        "refresh_token", "accessToken", "x-csrf-token", "token", "api_key", "apiKey", "x-api-key", "private_key",
        "authorization", "proxy-authorization", "http.request.header.authorization", "cookie", "set-cookie",
        "http.response.header.set-cookie", "JSESSIONID", "credentials", "cvv", "iban", "credit_card",
    ],
)  # fmt: skip
def test_the_usual_names_of_secrets_are_masked(key: str) -> None:
    assert any(fnmatch.fnmatchcase(key.lower(), pattern) for pattern in SENSITIVE_KEYS)


@pytest.mark.parametrize(
    "key",
    [
        "session.id", "user.id", "trace_id", "http.route", "k8s.secret.name", "gen_ai.usage.input_tokens", "tokens",
        "password_reset_count", "enduser.id", "service.name", "messaging.kafka.message.key", "db.statement",
    ],
)  # fmt: skip
def test_identifiers_and_counts_are_not(key: str) -> None:
    assert not any(fnmatch.fnmatchcase(key.lower(), pattern) for pattern in SENSITIVE_KEYS)


def test_what_else_is_set_reaches_the_engine() -> None:
    mask = {
        "allow": {"keys": "a.*", "services": ["relay"]},
        "budget": {"item_bytes": "1MiB", "item_time": "50ms"},
        "dry_run": True,
    }
    table = compiled(mask)
    assert (table["allow_keys"], table["allow_services"]) == (["a.*"], ["relay"])
    assert (table["budget"], table["dry_run"]) == ({"item_bytes": 1 << 20, "item_us": 50_000}, True)
    assert compiled({})["budget"] == {"item_bytes": 4 << 20, "item_us": 100_000}


def test_a_file_of_words_is_read_once_without_comments_and_blank_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "words"
    file.write_bytes("\ufeffMiller\r\n\n  # a comment\n  Bär & Söhne \n#x\n".encode())
    mask = {"rules": [{"name": "customer", "words_file": str(file)}], "keys": [], "detectors": []}
    assert rules(mask) == [
        ("customer", "literals", {"values": ["Miller", "Bär & Söhne"], "ignore_case": True}, "redact")
    ]
    tenants = {f"t{number}": {"mask": {"allow": {"keys": [f"k{number % 3}"]}}} for number in range(9)}
    config = Config.model_validate(
        {
            "destinations": DESTINATIONS,
            "defaults": {"mask": mask, "routes": {"logs": ["disk"]}},
            "tenants": tenants,
        }
    )
    read: list[Path] = []
    monkeypatch.setattr(compiler, "read_words", lambda path: read.append(path) or read_words(path))
    assert len(orjson.loads(compile_table(config, 1))["policies"]) == 3, "tenants with equal masks share a policy"
    assert read == [file]
    file.unlink()
    with pytest.raises(ValueError, match=r"cannot read .*words: No such file"):
        compile_table(config, 1)


# What is inherited.

INHERITED: list[tuple[Any, Any, dict[str, Any] | None]] = [
    (None, None, None),
    (None, {"keys": ["b"]}, {"keys": ("b",)}),
    ({"detectors": ["email"]}, {"action": "remove"}, {"detectors": ("email",), "action": "remove"}),
    ({"keys": ["a"]}, {"enabled": False}, None),
    ({"enabled": False, "keys": ["a"]}, {"enabled": True}, {"keys": ("a",)}),
    ({"keys": ["a"]}, {"keys": None}, {"keys": None}),
    ({"dry_run": True}, {"dry_run": False}, {"dry_run": False}),
    ({"pseudonym_key": "a"}, {"keys": []}, {"pseudonym_key": "a", "keys": ()}),
]


@pytest.mark.parametrize(("inherited", "own", "expected"), INHERITED)
def test_masking_is_inherited_key_by_key(inherited: Any, own: Any, expected: dict[str, Any] | None) -> None:
    mask = inherit(inherited, own)
    assert mask == (None if expected is None else Mask().model_copy(update={"enabled": True, **expected}))


def inherit(inherited: Any, own: Any) -> Mask | None:
    config = Config.model_validate(
        {
            "destinations": DESTINATIONS,
            "defaults": {"mask": inherited} if inherited else {},
            "tenants": {"acme": {"mask": own} if own else {}},
        }
    )
    return effective(config, config.tenants["acme"]).mask


def test_what_is_allowed_and_the_budget_are_inherited_key_by_key_too() -> None:
    defaults = {"allow": {"keys": ["a"], "services": ["s"]}, "budget": {"item_bytes": "1MiB"}}
    mask = inherit(defaults, {"allow": {"keys": ["b"]}, "budget": {"item_time": "5ms"}})
    assert mask is not None
    assert (mask.allow.keys, mask.allow.services) == (("b",), ("s",))
    assert (mask.budget.item_bytes, mask.budget.item_time) == (1 << 20, 0.005)


def test_rules_are_inherited_as_one_list() -> None:
    mask = inherit({"rules": [{"keys": "a"}, {"keys": "b"}]}, {"rules": [{"keys": "c"}]})
    assert mask is not None
    assert [rule.keys for rule in mask.rules] == [("c",)]


# Which pseudonym keys are needed.


def test_the_only_pseudonym_key_need_not_be_named() -> None:
    mask = {"detectors": "email", "keys": [], "action": "pseudonymise"}
    assert compiled(mask, ("main",))["pseudonym_key"] == "main"
    assert compiled({**mask, "pseudonym_key": "b"}, ("a", "b"))["pseudonym_key"] == "b"


def test_a_tenant_that_makes_no_pseudonyms_does_not_wait_for_a_key() -> None:
    assert compiled({"pseudonym_key": "main"}, ("main",))["pseudonym_key"] is None
    off = {"action": "pseudonymise", "keys": [], "detectors": [], "pseudonym_key": "main"}
    assert compiled(off, ("main",))["pseudonym_key"] is None


def test_keys_are_wanted_for_the_tenants_whose_policies_use_them() -> None:
    pseudonyms = {"action": "pseudonymise"}
    config = Config.model_validate(
        {
            "destinations": DESTINATIONS,
            "pseudonym_keys": {"a": KEY, "b": KEY},
            "defaults": {"mask": {"pseudonym_key": "a"}},
            "tenants": {
                "plain": {},
                "simple": {"mask": pseudonyms},
                "by-rule": {"mask": {"rules": [{"detectors": "phone", "action": "format_preserving"}]}},
                "other": {"mask": {**pseudonyms, "pseudonym_key": "b"}},
                "dry": {"mask": {**pseudonyms, "dry_run": True}},
                "off": {"mask": {**pseudonyms, "enabled": False}},
                "disabled": {"mask": pseudonyms, "disabled": True},
            },
        }
    )
    assert wanted_pseudonym_keys(config) == {("a", "simple"), ("a", "by-rule"), ("b", "other"), ("a", "dry")}


# What a person is told.

START = """
destinations: {d: {type: file, path: /tmp/x}}
tenants: {acme: {}, globex: {}}
"""
ONE_KEY = "pseudonym_keys: {main: {versions: [{version: 1, key: " + "ab" * 32 + "}]}}\n"
TWO_KEYS = ONE_KEY.replace("main:", "a:").replace("}}\n", "}, b: {versions: [{version: 1, key: " + "cd" * 32 + "}]}}\n")


def problems(mask: str, more: str = "") -> list[str]:
    text = f"{START}{more}defaults:\n  mask: {mask}\n"
    try:
        loaded = load_text(text, Path("gateway.yaml"))
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in check(loaded) if problem.path != "admin"]


GOOD = [
    ("{}", ""),
    ("{action: pseudonymise}", ONE_KEY),
    ("{action: pseudonymise, pseudonym_key: b}", TWO_KEYS),
    ("{action: partial, keys: [user], detectors: [email, phone]}", ""),
    ("{rules: [{detectors: [credit_card, us_ssn, phone, ipv4, ipv6], action: format_preserving}]}", ONE_KEY),
    ("{rules: [{detectors: jwt, action: drop_item}, {keys: default, action: remove}]}", ""),
    ("{action: partial, enabled: false}", ""),
    (r"{rules: [{name: x, regex: '(?i)\bo-\d+\p{L}'}, {name: y, regex: '[(?=]\\1'}]}", ""),
    ("{rules: [{name: z, regex: '[[:alpha:]]+'}]}", ""),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "more"), GOOD)
def test_what_is_right_is_taken(mask: str, more: str) -> None:
    assert problems(mask, more) == []


BAD = [
    ("{detectors: [emial]}", "", "defaults.mask.detectors[0]: must be one of 'email', 'credit_card'"),
    ("{rules: [{}]}", "", "defaults.mask.rules[0]: name exactly one of keys, detectors, passports, regex, words"),
    ("{rules: [{keys: a, regex: b}]}", "", "defaults.mask.rules[0]: name exactly one of"),
    ("{rules: [{keys: []}]}", "", "rules[0]: keys is empty; name what to look for, or leave out the rule"),
    ("{rules: [{regex: a}]}", "", "rules[0]: regex needs a name: what it finds becomes [name]"),
    ("{rules: [{words: [ab]}]}", "", "rules[0]: words needs a name"),
    ("{rules: [{name: email, regex: a}]}", "", "rules[0]: the name email has a meaning already; choose another"),
    ("{rules: [{name: key, words: ab}]}", "", "rules[0]: the name key has a meaning already"),
    ("{rules: [{name: Big, words: ab}]}", "", "rules[0].name: string should match pattern"),
    ("{rules: [{name: a, words: ab}, {name: a, regex: b}]}", "", "defaults.mask: two rules have the name a"),
    ("{rules: [{keys: a, ignore_case: false}]}", "", "rules[0]: ignore_case goes with words and words_file"),
    ("{rules: [{passports: [XX]}]}", "", "rules[0].passports[0]: must be one of 'DE', 'ES'"),
    ("{rules: [{name: a, regex: 'x('}]}", "", "5:28 defaults.mask.rules[0].regex: missing ), unterminated"),
    ("{rules: [{name: a, regex: 'a(?=b)'}]}", "", "rules[0].regex: RE2 has no look-around"),
    ("{rules: [{name: a, regex: '(?<!a)b'}]}", "", "rules[0].regex: RE2 has no look-around"),
    (r"{rules: [{name: a, regex: '(a)\1'}]}", "", "rules[0].regex: RE2 has no back-references"),
    ("{rules: [{name: a, regex: '(?P<q>a)(?P=q)'}]}", "", "rules[0].regex: RE2 has no back-references"),
    ("{rules: [{name: a, words: [ab, c]}]}", "", "rules[0].words[1]: a word has at least 2 characters"),
    ("{rules: [{name: a, words_file: /no/such}]}", "", "words_file: cannot read /no/such: No such file or directory"),
    ("{rules: [{detectors: jwt, action: partial}]}", "", "rules[0]: partial would show the end of a secret (jwt)"),
    ("{rules: [{keys: default, action: partial}]}", "", "rules[0]: partial would show the ends of passwords"),
    ("{rules: [{detectors: email, action: format_preserving}]}", ONE_KEY,
     "rules[0]: format_preserving is for credit_card, us_ssn, phone, ipv4, ipv6, not for email"),
    ("{rules: [{keys: a, action: format_preserving}]}", ONE_KEY, "not for keys; use pseudonymise"),
    ("{action: partial, keys: []}", "", "5:10 defaults.mask.action: partial would show the end of a secret (jwt, "),
    ("{action: partial, keys: [default], detectors: []}", "", "defaults.mask.keys: partial would show the ends"),
    ("{action: pseudonymise}", "", "defaults.mask: pseudonyms need a key; add one under pseudonym_keys"),
    ("{action: pseudonymise}", TWO_KEYS, "defaults.mask: pseudonyms need a key, and there are several; set"),
    ("{pseudonym_key: mian}", ONE_KEY, "defaults.mask.pseudonym_key: there is no pseudonym key mian; there are main"),
    ("{alow: {}}", "", "defaults.mask.alow: unknown key; did you mean allow?"),
    ("{budget: {item_bytes: 1}}", "", "defaults.mask.budget.item_bytes: input should be greater than or equal to 1024"),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "more", "expected"), BAD)
def test_what_is_wrong_is_said_with_its_place(mask: str, more: str, expected: str) -> None:
    found = problems(mask, more)
    assert any(expected in problem for problem in found), found
    assert len(found) == 1


def test_words_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "words"
    file.write_text("Zwickel\n# fine\nQ\n")
    (problem,) = problems(f"{{rules: [{{name: a, words_file: {file}}}]}}")
    assert problem.endswith(f"{file}, line 3: a word has at least 2 characters; one alone would be found everywhere")
    assert "Q" not in problem.removeprefix(str(file)).split("line 3")[1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "has no words; write one a line"),
        (b"# only\n\n", "has no words; write one a line"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"word\n" * (MAX_WORDS + 1), f"{MAX_WORDS + 1} words are more than {MAX_WORDS}; use several rules"),
    ],
)
def test_a_file_that_is_no_list_of_words_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "words"
    file.write_bytes(content)
    (problem,) = problems(f"{{rules: [{{name: a, words_file: {file}}}]}}")
    assert expected in problem


def test_the_engine_takes_64_finders() -> None:
    def regexes(count: int) -> str:
        return "[" + ", ".join(f"{{name: r{number}, regex: x{number}}}" for number in range(count)) + "]"

    room = 64 - len(DEFAULT)
    assert problems(f"{{rules: {regexes(room)}}}") == []
    (problem,) = problems(f"{{rules: {regexes(room + 1)}}}")
    assert "defaults.mask.rules: 65 detectors, regexes and lists of words are more than 64; join" in problem


def test_what_a_tenant_inherits_is_said_once_and_what_it_adds_at_its_own_place() -> None:
    text = """
destinations: {d: {type: file, path: /tmp/x}}
tenants: {acme: {mask: {action: partial}}, globex: {mask: {dry_run: true}}}
defaults: {mask: {detectors: [jwt], keys: [], rules: [{name: a, regex: '('}]}}
"""
    found = [
        (problem.path, problem.line) for problem in check(load_text(text, Path("g.yaml"))) if problem.path != "admin"
    ]
    assert found == [("defaults.mask.rules[0].regex", 4), ("tenants.acme.mask.detectors", 3)]
