"""What a person hands over, as the requests it stands for: whole ones, lines of them, or one of their parts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.sink.decode import otlp_json
from gateway.types import Signal

EXPECTED = (
    "one OTLP/JSON request, one object of a request such as resourceSpans, a span, a metric or a log record, "
    "JSON lines of those, or a request in protobuf"
)
_MESSAGES: Mapping[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
# From the request inwards: the field that holds the next one.
_LEVELS: Mapping[Signal, tuple[str, ...]] = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
    Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics"),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
}
# Fields that only an item of that signal has.
_ITEM_FIELDS: Mapping[Signal, frozenset[str]] = {
    Signal.TRACES: frozenset(
        ("startTimeUnixNano", "endTimeUnixNano", "parentSpanId", "kind", "events", "links", "status")
    ),
    Signal.METRICS: frozenset(("gauge", "sum", "histogram", "exponentialHistogram", "summary", "unit", "description")),
    Signal.LOGS: frozenset(
        ("body", "severityNumber", "severityText", "timeUnixNano", "observedTimeUnixNano", "eventName")
    ),
}


class UnreadableInput(Exception):  # noqa: N818 - it is one sentence for people
    """The input is no telemetry; the message says what was expected and quotes no value."""


@dataclass(frozen=True, slots=True)
class Request:
    """One Export…ServiceRequest."""

    signal: Signal
    message: Message
    wire: bytes


def requests(content: bytes, signal: Signal | None, *, may_quote: bool) -> list[Request]:
    """The requests in `content`. `signal`: whose they are; None guesses, which protobuf does not allow.

    `may_quote`: messages of errors may hold what is wrong. Raises UnreadableInput.
    """
    if not content.strip():
        raise UnreadableInput(f"the input is empty; give {EXPECTED}")
    # No request in protobuf begins so: it would be field 15.
    if content.lstrip().startswith((b"{", b"[")):
        return [_of_json(value, signal, where, may_quote) for value, where in _documents(content)]
    if signal is None:
        raise UnreadableInput(f"the input is not JSON; if it is protobuf, name its --signal; otherwise give {EXPECTED}")
    try:
        message = _MESSAGES[signal].FromString(content)
    except DecodeError:
        raise UnreadableInput(
            f"the input is neither JSON nor a protobuf request of {signal}; give {EXPECTED}"
        ) from None
    return [Request(signal, message, content)]


def _documents(content: bytes) -> list[tuple[Any, str]]:
    """Each JSON value and where it stands, for messages."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"the input is not UTF-8 at byte {error.start}; JSON is") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    try:
        return [(json.loads(text), "")]
    except RecursionError:
        raise UnreadableInput("the JSON is nested too deeply for OTLP") from None
    except json.JSONDecodeError as error:
        if len(lines) == 1 or error.msg != "Extra data":
            raise UnreadableInput(f"line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    return [(_line(line, number), f"line {number}: ") for number, line in lines]


def _line(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        raise UnreadableInput(f"line {number}: the JSON is nested too deeply for OTLP") from None
    except json.JSONDecodeError as error:
        raise UnreadableInput(f"line {number}, column {error.colno}: not JSON: {error.msg}") from None


def _of_json(value: Any, wanted: Signal | None, where: str, may_quote: bool) -> Request:
    if not isinstance(value, dict):
        raise UnreadableInput(f"{where}not a JSON object; give {EXPECTED}")
    signal, depth = _shape(value, wanted, where)
    for field in reversed(_LEVELS[signal][:depth]):
        value = {field: [value]}
    try:
        message = otlp_json(json.dumps(value).encode(), _MESSAGES[signal]())
    except (ValueError, RecursionError) as error:
        what = f"{error}" if may_quote else "a field has a value of the wrong type, which --show-values quotes"
        raise UnreadableInput(f"{where}not OTLP/JSON of {signal}: {what}") from None
    return Request(signal, message, message.SerializeToString())


def _shape(value: dict[str, Any], wanted: Signal | None, where: str) -> tuple[Signal, int]:
    """Whose it is, and how many levels are missing around it."""
    fields = {_camel(name) for name in value}
    found = {
        (signal, depth)
        for signal, levels in _LEVELS.items()
        for depth, field in enumerate((*levels, None))
        if (field in fields if field is not None else not fields.isdisjoint(_ITEM_FIELDS[signal]))
    }
    if not fields and wanted is not None:
        found = {(wanted, 0)}
    if not found and wanted is not None and fields & {"name", "attributes", "traceId"}:
        found = {(wanted, len(_LEVELS[wanted]))}
    if not found:
        raise UnreadableInput(f"{where}none of its keys is one of OTLP; give {EXPECTED}")
    of_wanted = {(signal, depth) for signal, depth in found if wanted in (None, signal)}
    if not of_wanted:
        raise UnreadableInput(f"{where}it looks like {_names(found)}, not like {wanted}; leave out --signal")
    outermost = min(depth for _, depth in of_wanted)
    shapes = [(signal, depth) for signal, depth in of_wanted if depth == outermost]
    if len(shapes) > 1:
        raise UnreadableInput(f"{where}it could be {_names(shapes)}; name its --signal")
    return shapes[0]


def _names(found: Any) -> str:
    return " or ".join(sorted({signal.value for signal, _ in found}))


def _camel(name: str) -> str:
    """ProtoJSON takes a field's original name as well."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
