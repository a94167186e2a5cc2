"""YAML as configuration needs it: every value knows its line, nothing is guessed, nothing is silently overwritten.

Stock YAML loaders let a duplicate key win without a word and turn `no`, `1:30` and `012` into something else. This one
works on PyYAML's node graph (`yaml.compose`), resolves the YAML 1.2 core schema, and refuses duplicate keys.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Key = str | int
KeyPath = tuple[Key, ...]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_SUBSTITUTION = re.compile(r"\$\{(env|file):([^}]*)\}")
# More than any configuration needs, less than a document of nested aliases would make.
_MAX_NODES = 1_000_000
_MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the file something stands, counted from 1."""

    line: int
    column: int


class YamlProblem(Exception):  # noqa: N818 - it is one entry of a ConfigError
    """Something in the text that is not usable YAML."""

    def __init__(self, message: str, place: Place, path: KeyPath = ()) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.path = path


@dataclass(frozen=True)
class Document:
    """The values of a YAML document, where each stands, and what was wrong with it."""

    value: Any
    places: dict[KeyPath, Place]
    problems: list[YamlProblem]

    def place(self, path: KeyPath) -> Place:
        """Where `path` stands, or its nearest parent that stands anywhere."""
        while path not in self.places:
            if not path:
                return Place(1, 1)
            path = path[:-1]
        return self.places[path]


def parse(text: str, base: Path) -> Document:
    """Read one document; `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` are filled into scalars.

    `base` is the folder that relative `${file:}` paths start from. Never raises for bad text: see `Document.problems`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        return Document(None, {}, [YamlProblem(error.problem or "not YAML", place)])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return Document(None, {}, [YamlProblem(f"not YAML: {str(error).splitlines()[0]}", Place(1, 1))])
    builder = _Builder(base)
    value = builder.build(root, ()) if root is not None else None
    return Document(value, builder.places, builder.problems)


class _Builder:
    def __init__(self, base: Path) -> None:
        self.base = base
        self.places: dict[KeyPath, Place] = {}
        self.problems: list[YamlProblem] = []
        self.nodes = 0
        self.overgrown = False

    def complain(self, message: str, node: yaml.Node, path: KeyPath) -> None:
        self.problems.append(YamlProblem(message, _place(node), path))

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        if self.nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            if not self.overgrown:
                self.overgrown = True
                self.complain("the document is too large or nests too deeply", node, path)
            return None
        self.places.setdefault(path, _place(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, path) if isinstance(node, yaml.ScalarNode) else None

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first_seen: dict[str, Place] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain("a key must be plain text", key_node, path)
                continue
            key = key_node.value
            if key == "<<" and key_node.style not in ("'", '"'):
                merged.append(value_node)
                continue
            if key in first_seen:
                self.complain(
                    f"key {key!r} stands here again; it stands already on line {first_seen[key].line}",
                    key_node,
                    (*path, key),
                )
                continue
            first_seen[key] = _place(key_node)
            self.places.setdefault((*path, key), _place(key_node))
            result[key] = self.build(value_node, (*path, key))
        for source in merged:
            # Last, so that a key given here keeps its value and its place.
            self.merge(result, source, path)
        return result

    def merge(self, result: dict[str, Any], node: yaml.Node, path: KeyPath) -> None:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self.complain("<< merges mappings only", source, path)
                continue
            for key, value in self.mapping(source, path).items():
                result.setdefault(key, value)

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        filled = self.substitute(text, node, path)
        if node.style in ("'", '"', "|", ">"):
            return filled
        return _resolve(filled)

    def substitute(self, text: str, node: yaml.ScalarNode, path: KeyPath) -> str:
        def fill(match: re.Match[str]) -> str:
            kind, argument = match[1], match[2]
            if kind == "env":
                name, has_default, default = argument.partition(":-")
                value = os.environ.get(name)
                if value is None and not has_default:
                    self.complain(
                        f"the environment variable {name} is not set; set it, or give a default: ${{env:{name}:-…}}",
                        node,
                        path,
                    )
                return value if value is not None else default
            try:
                return (self.base / argument).read_text().rstrip("\r\n")
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                self.complain(f"cannot read {argument}: {reason}", node, path)
                return ""

        return _SUBSTITUTION.sub(fill, text)


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _resolve(text: str) -> Any:
    """The YAML 1.2 core schema, but a number with a leading zero stays text: it is more likely an id than a number."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    digits = text.lstrip("+-")
    if _INT.fullmatch(text) and not (len(digits) > 1 and digits[0] == "0" and digits.isdecimal()):
        return int(text, 0) if len(text) < 1000 else text
    if _FLOAT.fullmatch(text) and not (len(digits) > 1 and digits[0] == "0" and digits[1].isdecimal()):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if text in (".nan", ".NaN", ".NAN") else text
