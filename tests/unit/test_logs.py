"""One line an event, in the fixed form, and never a secret in it."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import logs

Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """JSON logs at level info go here; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    captured = io.StringIO()
    logs.configure("info", "json", captured)
    yield captured
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_has_the_fixed_form(stream: io.StringIO) -> None:
    structlog.get_logger().warning("delivery fails", tenant_id="acme", request_id="r1", destination="loki", tries=3)
    (event,) = events(stream)
    assert list(event) == ["timestamp", "level", "service", "tenant_id", "request_id", "message", "metadata"]
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "warning",
        "service": "gateway",
        "tenant_id": "acme",
        "request_id": "r1",
        "message": "delivery fails",
        "metadata": {"destination": "loki", "tries": 3},
    }


def test_other_libraries_log_in_the_same_form(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").error("it broke: %s", "badly")
    (event,) = events(stream)
    assert (event["level"], event["message"], event["tenant_id"]) == ("error", "it broke: badly", None)


def test_what_is_below_the_level_is_not_logged(stream: io.StringIO) -> None:
    structlog.get_logger().debug("noise")
    logging.getLogger("other").debug("noise")
    logging.getLogger("aiohttp.access").info("GET /-/healthy")
    assert events(stream) == []


def test_an_exception_is_its_type_message_and_frames_without_the_values_of_locals(stream: io.StringIO) -> None:
    def fail() -> None:
        card = "4111-1111-1111-1111"
        raise ValueError(f"{len(card)} characters")

    for log in (structlog.get_logger(), logging.getLogger("other")):
        try:
            fail()
        except ValueError:
            log.exception("it failed")
    assert "4111" not in stream.getvalue()
    for event in events(stream):
        assert event["message"] == "it failed"
        exception = event["metadata"]["exception"]
        assert (exception["type"], exception["message"]) == ("ValueError", "19 characters")
        assert exception["frames"][-1].endswith(" fail")


SECRETS = ["password", "client_secret", "token", "Authorization", "set-cookie", "api_key", "apiKey", "private_key"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_value_under_a_secret_name_is_never_shown_at_any_depth(stream: io.StringIO, name: str) -> None:
    structlog.get_logger().info(
        "x", **{name: "hush"}, a={name: "hush"}, b=[{name: "hush"}], c=({"d": [{name: ["hush"]}]},), e={"f": {name: 1}}
    )
    assert "hush" not in stream.getvalue()
    metadata = events(stream)[0]["metadata"]
    assert metadata[name] == "[redacted]"
    assert metadata["b"] == [{name: "[redacted]"}]
    assert metadata["e"] == {"f": {name: "[redacted]"}}


@given(st.text(max_size=20), st.none() | st.integers() | st.floats() | st.text(st.characters(), max_size=20))
def test_whatever_is_logged_is_one_line_of_json(name: str, value: Any) -> None:
    line = logs.render_json(None, "info", {"event": "x", "level": "info", "value": {name: [value]}})
    assert "\n" not in line
    assert json.loads(line)["message"] == "x"


STRANGE = {
    "half a character": "\udcff",
    "a huge number": 1 << 70,
    "an object": {1: object()},
    "bytes": b"\xff",
    "a pair as a key": {("a", 1): 2},
}


# Names that are the same in every worker; an object's repr is not.
@pytest.mark.parametrize("value", STRANGE.values(), ids=STRANGE)
def test_a_value_that_json_does_not_know_spoils_no_line(stream: io.StringIO, value: Any) -> None:
    structlog.get_logger().info("strange", value=value)
    (event,) = events(stream)
    assert event["message"] == "strange"
    assert "value" in event["metadata"]


def test_on_a_terminal_lines_are_for_people() -> None:
    captured = io.StringIO()
    captured.isatty = lambda: True  # type: ignore[method-assign]
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("info", "auto", captured)
        structlog.get_logger().info("listening", token="hush")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    assert "listening" in captured.getvalue()
    assert not captured.getvalue().startswith("{")
    assert "hush" not in captured.getvalue()
