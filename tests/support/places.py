"""Every place of OTLP's requests where text can stand, by their descriptors; requests with something planted there."""

import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.support.clients import REQUESTS

Path = tuple[str, ...]

ANY_VALUE = "opentelemetry.proto.common.v1.AnyValue"
NESTED_VALUES = 3
"""An AnyValue, one in its list or map, and one in that one's."""
IDS = {
    "trace_id": "16 random bytes, by length checked; without them traces fall apart",
    "span_id": "8 random bytes, by length checked",
    "parent_span_id": "8 random bytes, by length checked",
}
"""Fields that are not masked, and why."""
UNKNOWN_FIELD = 200

_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_REALS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)


def text_places(signal: str) -> list[Path]:
    """The path of every string and bytes field that can be reached."""
    return [path for path, field in _fields(REQUESTS[signal].DESCRIPTOR, ()) if field.type in _TEXTS]


def message_places(signal: str) -> list[Path]:
    """The path of every message, the request itself first."""
    nested = (path for path, field in _fields(REQUESTS[signal].DESCRIPTOR, ()) if field.message_type is not None)
    return [(), *nested]


def _fields(message: Descriptor, path: Path, values: int = 0) -> Iterator[tuple[Path, FieldDescriptor]]:
    for field in message.fields:
        if field.name in IDS:
            continue
        inner = field.message_type
        deeper = values + (inner is not None and inner.full_name == ANY_VALUE)
        if deeper > NESTED_VALUES:
            continue
        here = (*path, field.name)
        if inner is None:
            yield here, field
        elif inner.full_name.endswith(("ArrayValue", "KeyValueList")) and deeper == NESTED_VALUES:
            continue
        else:
            yield here, field
            yield from _fields(inner, here, deeper)


def plant(request: Message, path: Path, secret: str) -> None:
    """Add to `request` one resource with `secret` at `path`, a text, and plausible values everywhere else."""
    target = _descend(request, path[:-1])
    field = target.DESCRIPTOR.fields_by_name[path[-1]]
    value = secret.encode() if field.type == FieldDescriptor.TYPE_BYTES else secret
    if field.is_repeated:
        getattr(target, field.name).append(value)
    else:
        setattr(target, field.name, value)
    _complete_last(request)


def plant_unknown(request: Message, path: Path, secret: str) -> None:
    """Add to `request` one resource with `secret` in a field that the schema lacks, of the message at `path`."""
    target = _descend(request, path)
    payload = secret.encode()
    assert len(payload) < 128
    tag = UNKNOWN_FIELD << 3 | 2
    target.MergeFromString(bytes([tag & 0x7F | 0x80, tag >> 7, len(payload)]) + payload)
    _complete_last(request)


def _descend(message: Any, path: Path) -> Any:
    for depth, name in enumerate(path):
        field = message.DESCRIPTOR.fields_by_name[name]
        inner = getattr(message, name)
        if not field.is_repeated:
            inner.SetInParent()
            message = inner
        else:
            if depth and name == "attributes":
                inner.add(key="sibling").value.string_value = "plain"
            message = inner.add()
    return message


def _complete_last(request: Any) -> None:
    (resources,) = request.DESCRIPTOR.fields
    items = getattr(request, resources.name)
    if not items:
        items.add()
    _complete(items[-1])


def _complete(message: Any) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None:
            _complete_oneof(message, field.containing_oneof)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            if field.is_repeated and not inner and "strindex" not in field.name:
                inner.add()
            for one in inner if field.is_repeated else [inner]:
                _complete(one)
            if not field.is_repeated:
                inner.SetInParent()
        elif field.is_repeated:
            if not getattr(message, field.name) and field.type != FieldDescriptor.TYPE_STRING:
                getattr(message, field.name).extend([1.0] if field.type in _REALS else [1, 2])
        elif not getattr(message, field.name) and "strindex" not in field.name:
            setattr(message, field.name, _plausible(field))


def _complete_oneof(message: Any, oneof: Any) -> None:
    chosen = message.WhichOneof(oneof.name)
    # An empty map on the way to a planted place is one, so only what was chosen is completed.
    if chosen is None:
        field = oneof.fields[0]
        if field.message_type is None:
            setattr(message, field.name, _plausible(field))
        else:
            _complete(getattr(message, field.name))
    elif message.DESCRIPTOR.fields_by_name[chosen].message_type is not None:
        _complete(getattr(message, chosen))


def _plausible(field: FieldDescriptor) -> Any:
    if field.name in IDS:
        return bytes(range(1, 17)) if field.name == "trace_id" else bytes(range(1, 9))
    if field.type == FieldDescriptor.TYPE_STRING:
        return "plain"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"plain"
    if field.type in _REALS:
        return 0.5
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.type == FieldDescriptor.TYPE_ENUM:
        return 2  # of temporality: cumulative
    if field.name.endswith("time_unix_nano"):
        return time.time_ns() - (10**9 if field.name.startswith("start") else 0)
    return 0 if field.name in ("flags", "scale", "offset") else 3
