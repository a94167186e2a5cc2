"""YAML as configuration needs it: nothing is guessed, every value knows its line."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.document import Place, parse


def value(text: str, base: Path = Path()) -> Any:
    document = parse(text, base)
    assert not document.problems, [problem.message for problem in document.problems]
    return document.value


SCALARS: list[tuple[str, Any]] = [
    ("no", "no"),
    ("No", "No"),
    ("yes", "yes"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("true", True),
    ("False", False),
    ("1:30", "1:30"),
    ("12:30:45", "12:30:45"),
    ("012", "012"),
    ("-012", "-012"),
    ("00.5", "00.5"),
    ("0", 0),
    ("-7", -7),
    ("+7", 7),
    ("0o17", 15),
    ("0x1F", 31),
    ("1_000", "1_000"),
    ("1.5", 1.5),
    (".5", 0.5),
    ("0.5", 0.5),
    ("1e3", 1000.0),
    (".inf", float("inf")),
    ("2024-01-01", "2024-01-01"),
    ("1.2.3", "1.2.3"),
    ("=", "="),
    ("~", None),
    ("null", None),
    ("", None),
    ("'012'", "012"),
    ('"true"', "true"),
    ("'null'", "null"),
]


@pytest.mark.parametrize(("text", "expected"), SCALARS)
def test_a_scalar_is_what_it_looks_like(text: str, expected: Any) -> None:
    found = value(f"key: {text}")["key"]
    assert (found, type(found)) == (expected, type(expected))


def test_a_key_is_always_text() -> None:
    assert value("{no: 1, 012: 2, true: 3, null: 4, 1.5: 5}") == {"no": 1, "012": 2, "true": 3, "null": 4, "1.5": 5}


def test_every_value_knows_its_place() -> None:
    document = parse("a:\n  b: [x, {c: 1}]\n", Path())
    assert document.place(("a",)) == Place(1, 1)
    assert document.place(("a", "b")) == Place(2, 3)
    assert document.place(("a", "b", 0)) == Place(2, 7)
    assert document.place(("a", "b", 1, "c")) == Place(2, 11)
    assert document.place(("a", "b", 1, "missing", "deeper")) == Place(2, 10), "the nearest parent that stands anywhere"


def test_a_merge_fills_in_what_is_not_given_and_keeps_places() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nafter: {y: 9, <<: [*b, *m]}\nbefore:\n  <<: *b\n  y: 9\n"
    document = parse(text, Path())
    assert not document.problems
    assert document.value["after"] == {"x": 1, "y": 9, "z": 4}
    assert document.value["before"] == {"x": 1, "y": 9}
    assert document.place(("after", "y")) == Place(3, 9)
    assert document.place(("before", "y")) == Place(6, 3)


def problems(text: str, base: Path = Path()) -> list[str]:
    return [f"{p.place.line}:{p.place.column} {p.message}" for p in parse(text, base).problems]


BAD = [
    ("a: 1\na: 2", "2:1 key 'a' stands here again; it stands already on line 1"),
    ("a: {b: 1, b: 2}", "1:11 key 'b' stands here again; it stands already on line 1"),
    ("? [a]\n: 1", "1:3 a key must be plain text"),
    ("a: {<<: 1}", "1:9 << merges mappings only"),
    ("a: &x [*x]", "1:4 the document is too large or nests too deeply"),
    ("a: *nobody", "1:4 found undefined alias"),
    ("a: 1\n---\nb: 2", "2:1 but found another document"),
    ("a: ${env:NO_SUCH_VARIABLE}", "1:4 the environment variable NO_SUCH_VARIABLE is not set"),
    ("a: ${file:no-such-file}", "1:4 cannot read no-such-file: No such file or directory"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_what_is_wrong_is_named_with_its_place(text: str, expected: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_nested_aliases_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.config.document._MAX_NODES", 10_000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert [problem.partition(" ")[2] for problem in problems("\n".join(lines))] == [
        "the document is too large or nests too deeply"
    ]


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXT", "a: {b}  # c")
    monkeypatch.setenv("NUMBER", "42")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("NESTED", "${env:TEXT}")
    (tmp_path / "secret").write_text("from a file\r\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    return tmp_path


FILLED: list[tuple[str, Any]] = [
    ("${env:TEXT}", "a: {b}  # c"),
    ('"<${env:TEXT}>"', "<a: {b}  # c>"),
    ("${env:NUMBER}", 42),
    ('"${env:NUMBER}"', "42"),
    ("${env:NUMBER}s", "42s"),
    ("${env:EMPTY}", None),
    ('"${env:EMPTY}"', ""),
    ("${env:NO_SUCH_VARIABLE:-a default}", "a default"),
    ("${env:NO_SUCH_VARIABLE:-}", None),
    ("${env:EMPTY:-a default}", None),
    ("${env:NESTED}", "${env:TEXT}"),
    ("${file:secret}", "from a file"),
    ('"${file:secret} and ${env:NUMBER}"', "from a file and 42"),
    ("$1", "$1"),
    ("${1}", "${1}"),
    ("${HOME}", "${HOME}"),
]


@pytest.mark.parametrize(("text", "expected"), FILLED)
def test_a_substitution_fills_a_scalar_and_changes_no_structure(filled: Path, text: str, expected: Any) -> None:
    assert value(f"key: {text}", filled)["key"] == expected


def test_a_file_is_found_beside_the_configuration_or_by_its_full_path(filled: Path) -> None:
    assert value(f"key: ${{file:{filled / 'secret'}}}", Path("/elsewhere"))["key"] == "from a file"
    assert problems("key: ${file:binary}", filled) == ["1:6 cannot read binary: it is not text"]


def test_keys_are_not_filled_in() -> None:
    assert value('"${env:HOME}": 1') == {"${env:HOME}": 1}
