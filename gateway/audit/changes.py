"""What a reload changed: dotted paths, with values only where a value cannot be a secret."""

import enum
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from gateway.config.models import TenantSettings
from gateway.config.routes import Route
from gateway.types import Signal

Change = dict[str, object]
# Of a URL only this much is shown: paths and queries of webhooks are credentials.
_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_KEYS = ("id", "name")
_NOTHING = object()


def changes(old: BaseModel, new: BaseModel) -> list[Change]:
    """Every difference: `{path, change: added | removed | changed}`, and `from` and `to` if both may be shown.

    Shown are numbers, booleans, words of a fixed set, file paths, names of destinations in routes, and of a URL its
    origin. All other text may have come from `${env:…}` or `${file:…}`, so it is only said to have changed.
    """
    return list(_model("", old, new))


def _model(path: str, old: BaseModel, new: BaseModel) -> Iterator[Change]:
    for name, info in type(new).model_fields.items():
        inner = f"{path}.{name}" if path else name
        words = _words(info.annotation)
        if name == "routes" and isinstance(old, TenantSettings) and isinstance(new, TenantSettings):
            words = {route.to for routes in (old.routes, new.routes) for listed in routes.values() for route in listed}
            yield from _value(inner, _routes(old), _routes(new), words)
        else:
            yield from _value(inner, getattr(old, name), getattr(new, name), words)


def _routes(settings: TenantSettings) -> dict[Signal, tuple[Route | str, ...]]:
    """As they are written: a destination's name where there is no condition."""
    return {
        signal: tuple(route.to if route.takes_all else route for route in routes)
        for signal, routes in settings.routes.items()
    }


def _value(path: str, old: Any, new: Any, words: set[Any]) -> Iterator[Change]:
    """`words`: the texts that may be shown here."""
    if old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        yield from _model(path, old, new)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _entries(path, dict(old), dict(new), words, "{path}.{key}")
    elif isinstance(old, tuple) and isinstance(new, tuple):
        yield from _entries(path, _keyed(old), _keyed(new), words, "{path}[{key}]")
    else:
        yield _leaf(path, old, new, words)


def _entries(path: str, old: dict[Any, Any], new: dict[Any, Any], words: set[Any], form: str) -> Iterator[Change]:
    for key in {**old, **new}:
        inner = form.format(path=path, key=key.value if isinstance(key, enum.Enum) else key)
        before, after = old.get(key, _NOTHING), new.get(key, _NOTHING)
        if before is _NOTHING or after is _NOTHING:
            change: Change = {"path": inner, "change": "added" if before is _NOTHING else "removed"}
            shown = _shown(after if before is _NOTHING else before, words)
            yield change if shown is None else {**change, "value": shown}
        else:
            yield from _value(inner, before, after, words)


def _keyed(items: tuple[Any, ...]) -> dict[Any, Any]:
    """List entries by the name they bear, if they all bear one, or else by place."""
    for name in _KEYS:
        keys = [getattr(item, name, None) for item in items if isinstance(item, BaseModel)]
        if items and len(set(keys) - {None}) == len(items):
            return dict(zip(keys, items, strict=True))
    return dict(enumerate(items))


def _leaf(path: str, old: Any, new: Any, words: set[Any]) -> Change:
    if new is None or old is None:
        change: Change = {"path": path, "change": "added" if old is None else "removed"}
        shown = _shown(new if old is None else old, words)
        return change if shown is None else {**change, "value": shown}
    before, after = _shown(old, words), _shown(new, words)
    if before is None or after is None or before == after:
        return {"path": path, "change": "changed"}
    return {"path": path, "change": "changed", "from": before, "to": after}


def _shown(value: Any, words: set[Any]) -> object | None:
    """`value` if it cannot be a secret."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        if value in words:
            return value
        origin = _ORIGIN.match(value)
        return origin[0] if origin else None
    return None


def _words(annotation: Any) -> set[Any]:
    """The words that an annotation allows, at any depth."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return set(arguments)
    if origin is not None or isinstance(annotation, types.UnionType):
        return {word for argument in arguments for word in _words(argument)}
    return set()
