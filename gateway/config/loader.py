"""From a file to a `Config`, or to every reason why not."""

import difflib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.document import Document, KeyPath, parse
from gateway.config.models import Config
from gateway.config.problems import ConfigError, Problem, dotted

# Keys that users of such software look for, and where they stand here or when they come.
_LATER = {
    "tail": "tail sampling comes with a later release; use ratio",
    "active_series": "the series quota comes with a later release",
}


@dataclass(frozen=True)
class Loaded:
    """A usable configuration and the document it came from, for messages about it."""

    config: Config
    document: Document
    file: Path

    def problem(self, path: KeyPath, message: str, *, warning: bool = False) -> Problem:
        """A problem at `path` of this document."""
        place = self.document.place(path)
        severity: typing.Literal["error", "warning"] = "warning" if warning else "error"
        return Problem(self.file, place.line, place.column, dotted(path), message, severity)


def load(file: Path) -> Loaded:
    """Read and validate `file`. Raises ConfigError with every problem; see `check` for those across keys."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([Problem(file, 1, 1, "", f"cannot read it: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(file, 1, 1, "", "it is not UTF-8 text")]) from None
    return load_text(text, file)


def load_text(text: str, file: Path) -> Loaded:
    """`load` for text that is already in memory; `file` names it in messages."""
    document = parse(text, file.parent)
    problems = [
        Problem(file, found.place.line, found.place.column, dotted(found.path), found.message)
        for found in document.problems
    ]
    if document.value is None and not problems:
        problems.append(Problem(file, 1, 1, "", "it is empty; `gateway init` writes one to start from"))
    if document.value is not None:
        try:
            config = Config.model_validate(document.value)
        except ValidationError as error:
            explained = [_explain(detail, document, file) for detail in error.errors(include_url=False)]
            # Of a value that could not be filled in, that is the reason; what it is not for want of it is none.
            said = {problem.path for problem in problems}
            problems += [problem for problem in explained if problem.path not in said]
        else:
            if not problems:
                return Loaded(config, document, file)
    raise ConfigError(sorted(problems, key=lambda problem: (problem.line, problem.column)))


def _explain(detail: ErrorDetails, document: Document, file: Path) -> Problem:
    """One of pydantic's findings in our words; never with the value, which may be a secret."""
    # A discriminated union puts its tag into the location; only what stands in the document is kept.
    path = _real_path(detail["loc"], document.value, missing=detail["type"] == "missing")
    place = document.place(path)
    return Problem(file, place.line, place.column, dotted(path), _message(detail, path))


def _real_path(location: tuple[int | str, ...], value: Any, *, missing: bool) -> KeyPath:
    """What of `location` stands in the document; of something `missing`, also the key that does not."""
    path: KeyPath = ()
    for position, key in enumerate(location):
        wanted = missing and position == len(location) - 1
        if isinstance(value, dict) and (key in value or wanted):
            path, value = (*path, key), value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            path, value = (*path, key), value[key]
    return path


def _message(detail: ErrorDetails, path: KeyPath) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    key = str(path[-1]) if path else ""
    match kind:
        case "extra_forbidden":
            if key in _LATER:
                return _LATER[key]
            near = difflib.get_close_matches(key, _known_keys(path), n=1)
            return f"unknown key; did you mean {near[0]}?" if near else "unknown key"
        case "missing":
            return "it is missing"
        case "union_tag_not_found":
            return "type is missing: one of remote_write, loki, otlp, file"
        case "union_tag_invalid":
            return "unknown type; one of remote_write, loki, otlp, file"
        case "value_error":
            return str(context.get("error", "not usable"))
        case "literal_error" | "enum":
            return f"must be one of {context.get('expected', '').replace(' or ', ', ')}"
        case "string_pattern_mismatch" if key == "sha256":
            return "must be 64 hexadecimal digits; `gateway keys new` prints them"
        case "model_type" | "dict_type" | "mapping_type" | "model_attributes_type":
            return "must be a mapping (key: value)"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "string_type" | "secret_type":
            return "must be text; put it in quotes"
        case _:
            return detail["msg"][:1].lower() + detail["msg"][1:]


def _known_keys(path: KeyPath) -> list[str]:
    """The keys that could stand where `path` ends."""
    models: list[Any] = [Config]
    for key in path[:-1]:
        models = [inner for model in models for inner in _step(model, key)]
    return [name for model in models for name in model.model_fields]


def _step(model: type[BaseModel], key: str | int) -> list[type[BaseModel]]:
    """The models that stand under `key` of `model`; those of a list or mapping stand for their items."""
    if isinstance(key, int):
        return [model]
    if key in model.model_fields:
        return list(_models_in(model.model_fields[key].annotation))
    return [model]  # a name that the user chose, such as a tenant's


def _models_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _models_in(argument)
