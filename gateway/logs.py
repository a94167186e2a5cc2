"""Logs: one line an event, JSON for machines, colour for a person at a terminal. Secrets never reach them."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import orjson
import structlog

SERVICE = "gateway"
# Keys of the fixed form; whatever else an event carries goes under `metadata`.
_FIXED = ("timestamp", "level", "tenant_id", "request_id")
_SECRET_NAME = re.compile(r"password|passwd|secret|token|authorization|cookie|api_?key|private_key|credential", re.I)
REDACTED = "[redacted]"

Event = MutableMapping[str, Any]


def configure(level: str, form: str, stream: TextIO = sys.stderr) -> None:
    """Send structlog's and the standard library's events to `stream`. `form`: auto, json or text."""
    text = form == "text" or (form == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _format_exception,
        redact,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer(colors=_colours(stream)) if text else render_json
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Access lines of the admin port would outnumber everything else.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def render_json(_logger: Any, _method: str, event: Event) -> str:
    """The fixed form: timestamp, level, service, tenant_id, request_id, message, metadata."""
    line = {
        "timestamp": event.get("timestamp"),
        "level": event.get("level"),
        "service": SERVICE,
        "tenant_id": event.get("tenant_id"),
        "request_id": event.get("request_id"),
        "message": event.get("event"),
        "metadata": {key: value for key, value in event.items() if key not in _FIXED and key != "event"},
    }
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Text that is no Unicode, a number beyond 64 bits, a key of a strange type: better changed than not logged.
        return orjson.dumps(_plain(line)).decode()


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """Values under names that look secret are not shown, at any depth."""
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _redacted(str(inner), item) for inner, item in value.items()}
    if _SECRET_NAME.search(key) and value is not None:
        return REDACTED
    return [_redacted(key, item) for item in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """Only what every JSON writer knows."""
    if isinstance(value, dict):
        return {_text(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    number = isinstance(value, float) or (isinstance(value, int) and abs(value) < 1 << 63)
    return value if value is None or number else _text(value)


def _text(value: Any) -> str:
    return str(value).encode(errors="backslashreplace").decode()


def _format_exception(_logger: Any, _method: str, event: Event) -> Event:
    """An exception becomes its type, its message and its frames, never the values of locals."""
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if exc_info and exc_info[0] is not None:
        frames = []
        traceback = exc_info[2]
        while traceback is not None:
            code = traceback.tb_frame.f_code
            frames.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}")
            traceback = traceback.tb_next
        event["exception"] = {"type": exc_info[0].__name__, "message": str(exc_info[1]), "frames": frames}
    return event


def _colours(stream: TextIO) -> bool:
    import os

    return stream.isatty() and not os.environ.get("NO_COLOR")
