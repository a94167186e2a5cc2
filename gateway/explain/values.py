"""Every value of a request with its path, as OTLP/JSON names it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_ITEMS = frozenset(
    ("Span", "LogRecord", "NumberDataPoint", "HistogramDataPoint", "ExponentialHistogramDataPoint", "SummaryDataPoint")
)
# Binary in the protocol itself: no text is in them.
_IDS = frozenset(("traceId", "spanId", "parentSpanId"))


@dataclass(frozen=True, slots=True)
class Value:
    """A text, or a number of an AnyValue: what masking looks at."""

    path: str
    value: str | bytes | int | float


@dataclass(slots=True)
class Content:
    """What a request holds, in order."""

    values: list[Value]
    items: list[str]
    """Paths of its spans, points and log records."""


def content_of(message: Message) -> Content:
    """The values of a request and its items."""
    content = Content([], [])
    _walk(message, "", content)
    return content


def _walk(message: Message, path: str, content: Content) -> None:
    if message.DESCRIPTOR.name in _ITEMS:
        content.items.append(path)
    for field, inner in message.ListFields():
        name = f"{path}.{field.json_name}" if path else field.json_name
        for place, value in _occurrences(field, inner, name):
            if isinstance(value, Message):
                _walk(value, place, content)
            elif _is_searched(field):
                content.values.append(Value(place, value))


def _occurrences(field: FieldDescriptor, value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if field.is_repeated:
        yield from ((f"{name}[{index}]", one) for index, one in enumerate(value))
    else:
        yield name, value


def _is_searched(field: FieldDescriptor) -> bool:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return field.json_name not in _IDS
    if field.type == FieldDescriptor.TYPE_STRING:
        return True
    number = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_DOUBLE)
    return number and field.containing_type is not None and field.containing_type.name == "AnyValue"
