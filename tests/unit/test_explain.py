"""`gateway explain`: what it understands, what it says, and what it never shows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from typer.testing import CliRunner

from gateway._engine import Engine
from gateway.cli import app
from gateway.config.loader import load
from gateway.explain.read import requests
from gateway.explain.values import content_of
from gateway.policy.compiler import compile_table

KEY = "ab" * 32
CONFIG = f"""\
destinations: {{d: {{type: file, path: ./out}}}}
pseudonym_keys: {{main: {{versions: [{{version: 2, key: "{KEY}"}}]}}}}
defaults: {{routes: {{traces: [d], metrics: [d], logs: [d]}}}}
tenants:
  acme:
    mask:
      rules:
        - {{name: ours, words: [Project Bluebird, Hidden Ltd]}}
        - {{name: orders, regex: 'order-[0-9]+', action: drop_item}}
        - {{detectors: email, action: pseudonymise}}
        - {{detectors: ipv4, action: format_preserving}}
      budget: {{item_bytes: 2KiB}}
      allow: {{keys: [build.info], services: [probe]}}
  dry: {{mask: {{dry_run: true, rules: [{{name: orders, regex: 'order-[0-9]+', action: drop_item}}]}}}}
  bare: {{}}
  mute: {{routes: {{traces: [], metrics: [], logs: [d]}}, mask: {{}}}}
"""
# What must not be seen, and what it becomes.
SECRETS = {
    "jane.doe@customer.example": "h2:",
    "hunter2-and-more": "[redacted]",
    "4111 1111 1111 1111": "[credit_card]",
    "Project Bluebird": "[ours]",
    "198.51.100.77": ".",
    "order-4711": "[orders]",
}
HARMLESS = "all quiet"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


def explain(config: Path, given: Any, *options: str, tenant: str = "acme") -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    content = given if isinstance(given, bytes) else json.dumps(given).encode()
    arguments = ["explain", "-", "-c", str(config), "--tenant", tenant, *options]
    result = CliRunner().invoke(app, arguments, input=content)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def explained(config: Path, given: Any, *options: str, tenant: str = "acme") -> Any:
    code, out, err = explain(config, given, "--format", "json", *options, tenant=tenant)
    assert code == 0, err
    return json.loads(out)


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": text(value)}


def log(body: str, *attributes: dict[str, Any]) -> dict[str, Any]:
    return {"body": text(body), "attributes": list(attributes)}


def logs(*records: dict[str, Any]) -> dict[str, Any]:
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}


SPAN = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "GET", "kind": 2}
POINT = {"asDouble": 1.0, "timeUnixNano": "1"}
SPAN_PATH = "resourceSpans[0].scopeSpans[0].spans[0]"
METRIC = "resourceMetrics[0].scopeMetrics[0].metrics[0]"


def gauge(*points: dict[str, Any]) -> dict[str, Any]:
    return {"name": "n", "gauge": {"dataPoints": list(points)}}


def record(index: int) -> str:
    return f"resourceLogs[0].scopeLogs[0].logRecords[{index}]"


RECORD = record(0)


# What is understood.


FOUND = log("a@customer.example")
BODY = f"{RECORD}.body.stringValue"


@pytest.mark.parametrize(
    ("given", "signal", "path"),
    [
        (logs(FOUND), "logs", BODY),
        ({"scopeLogs": [{"logRecords": [FOUND]}]}, "logs", BODY),
        ({"logRecords": [FOUND]}, "logs", BODY),
        (FOUND, "logs", BODY),
        ({"resource_logs": [{"scope_logs": [{"log_records": [FOUND]}]}]}, "logs", BODY),
        ({**SPAN, "name": "a@customer.example"}, "traces", f"{SPAN_PATH}.name"),
        ({"spans": [{**SPAN, "name": "a@customer.example"}]}, "traces", f"{SPAN_PATH}.name"),
        ({**gauge(POINT), "unit": "a@customer.example"}, "metrics", f"{METRIC}.unit"),
    ],
)
def test_a_request_and_each_of_its_parts_are_told_by_their_keys(
    config: Path, given: Any, signal: str, path: str
) -> None:
    (request,) = explained(config, given)["requests"]
    assert (request["signal"], request["items"]) == (signal, 1)
    assert [value["path"] for value in request["values"]] == [path]


def test_lines_are_requests_of_their_own(config: Path) -> None:
    lines = b"\n".join(json.dumps(given).encode() for given in (logs(log("a@customer.example")), SPAN)) + b"\n\n"
    shown = explained(config, lines)
    assert [(request["signal"], len(request["values"])) for request in shown["requests"]] == [
        ("logs", 1),
        ("traces", 0),
    ]
    _, out, _ = explain(config, lines)
    assert "request 1, logs, 1 item" in out
    assert "request 2, traces, 1 item" in out
    assert "for logs, traces, in order" in out


def test_protobuf_needs_its_signal(config: Path) -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "a@customer.example"
    code, _, err = explain(config, request.SerializeToString())
    assert (code, "name its --signal" in err) == (2, True)
    assert explained(config, request.SerializeToString(), "--signal", "logs")["counts"]["masked_values"] == 1


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (b" \n", (), "the input is empty; give one OTLP/JSON request"),
        (b"\xff\xfe", ("--signal", "logs"), "neither JSON nor a protobuf request of logs"),
        (b'{"a": secret}', (), "line 1, column 7: not JSON"),
        (b'{"body": {}}\n{"body": secret}', (), "line 2, column 10: not JSON"),
        (b"[1]", (), "not a JSON object; give one OTLP/JSON request"),
        (b'{"secret": 1}', (), "none of its keys is one of OTLP"),
        (b'{"resourceLogs": [], "resourceSpans": []}', (), "it could be logs or traces; name its --signal"),
        (json.dumps(SPAN).encode(), ("--signal", "logs"), "it looks like traces, not like logs; leave out --signal"),
        (b'{"timeUnixNano": "secret"}', (), "not OTLP/JSON of logs: a field has a value of the wrong type"),
        (b'{"traceId": "secret", "kind": 1}', (), "not OTLP/JSON of traces: a field has a value of the wrong type"),
        (b'{"traceId": "abcd", "spanId": "00", "kind": 1}', (), "request 1: the gateway would refuse it"),
        (b"[" * 100_000, (), "nested too deeply"),
        (b'{"body":' * 10 + b'"secret\xff"', (), "not UTF-8 at byte 87"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_input_is_said_and_not_quoted(
    config: Path, given: bytes, options: Sequence[str], words: str
) -> None:
    code, out, err = explain(config, given, *options)
    assert (code, out) == (2, "")
    assert words in err
    assert "secret" not in err
    assert "Traceback" not in err


def test_an_error_is_quoted_on_demand(config: Path) -> None:
    assert "secret" in explain(config, b'{"timeUnixNano": "secret"}', "--show-values")[2]


def test_a_wrong_tenant_signal_file_or_configuration_is_exit_2(config: Path, tmp_path: Path) -> None:
    assert explain(config, logs(), tenant="nobody")[2].startswith("there is no tenant nobody in ")
    assert "may not send traces: it has no route" in explain(config, SPAN, tenant="mute")[2]
    result = CliRunner().invoke(app, ["explain", str(tmp_path / "none"), "-c", str(config), "--tenant", "acme"])
    assert (result.exit_code, "cannot read" in result.stderr) == (2, True)
    config.write_text("tenants: {acme: {maks: {}}}")
    code, _, err = explain(config, logs())
    assert (code, "did you mean mask" in err) == (2, True)


# What is said.


def test_the_rules_are_told_in_their_order_and_the_words_of_a_list_are_not(config: Path) -> None:
    code, out, err = explain(config, logs(log(HARMLESS)))
    assert (code, err) == (0, "")
    head = out.splitlines()[0]
    assert head == "rules of tenant acme for logs, in order; first match wins, and of overlapping matches the widest:"
    rules = [line.split() for line in out.splitlines()[1:7]]
    assert [rule[:3] for rule in rules] == [
        ["1", "ours", "redact"],
        ["2", "orders", "drop_item"],
        ["3", "email", "pseudonymise"],
        ["4", "ipv4", "format_preserving"],
        ["5", "keys", "redact"],
        ["6", "detectors", "redact"],
    ]
    assert "2 words, in any case" in out
    assert "regex: order-[0-9]+" in out
    assert "never masked, values of the keys: build.info" in out
    assert "never masked, the services: probe" in out


def test_each_value_is_told_with_place_rule_detector_action_and_result(config: Path) -> None:
    shown = explained(config, logs(log("by jane.doe@customer.example", attribute("db.password", "hunter2-and-more"))))
    body, password = shown["requests"][0]["values"]
    assert body == {
        "path": BODY,
        "place": "log_body",
        "key": None,
        "rule": 3,
        "rule_name": "email",
        "detector": "email",
        "action": "pseudonymise",
        "before": "25 characters",
        "after": body["after"],
    }
    assert password["path"] == f"{RECORD}.attributes[0].value"
    assert (password["place"], password["key"], password["rule_name"]) == ("attribute_value", "db.password", "keys")
    assert (password["detector"], password["before"], password["after"]) == ("key", "16 characters", "[redacted]")
    assert shown["counts"]["by_detector"] == {"email": 1, "key": 1}
    assert shown["counts"]["dropped_items"] == 0


def test_a_pseudonym_is_the_one_that_the_other_command_shows(config: Path) -> None:
    arguments = ["pseudonym", "-c", str(config), "--tenant", "acme", "Jane.Doe@Customer.Example"]
    other = CliRunner().invoke(app, arguments).stdout.split()[0]
    shown = explained(config, log("by jane.doe@customer.example"))
    assert shown["requests"][0]["values"][0]["after"] == other


def test_a_key_that_is_missing_is_named_in_the_place_of_the_pseudonym(config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace(f'key: "{KEY}"', f"key_file: {tmp_path}/none"))
    code, out, err = explain(config, log("by jane.doe@customer.example and hunter2"))
    assert code == 0
    assert f"{tmp_path}/none" in err
    assert "25 characters → [needs key main]" in out
    assert "without the pseudonym key main the gateway refuses these requests" in out


def test_what_the_budget_does_not_allow_to_search_is_told_apart_from_what_is_clean(config: Path) -> None:
    shown = explained(config, logs(log("x" * 3000), log(HARMLESS)), "--all")
    assert shown["requests"][0]["unsearched"] == [BODY]
    assert [value["path"] for value in shown["requests"][0]["untouched"]] == [f"{record(1)}.body.stringValue"]
    assert "1 removed unsearched" in explain(config, logs(log("x" * 3000)))[1]
    # Items and attributes that go do not shift the places of those behind them.
    others = logs(
        log("order-1"), {"attributes": [attribute("card", "4111 1111 1111 1111"), attribute("a", "x" * 3000)]}
    )
    (request,) = explained(config, others)["requests"]
    assert request["unsearched"] == [f"{record(1)}.attributes[1].value.stringValue"]


OF_RESOURCE = {"resource": {"attributes": [attribute("a", "order-1")]}}
OF_SCOPE = {"scope": {"name": "order-1"}}


@pytest.mark.parametrize(
    ("given", "dropped"),
    [
        (logs(log("for order-4711"), log("a")), [RECORD]),
        (logs(log("a"), log("a", attribute("a", "order-1"))), [record(1)]),
        ({"scopeLogs": [{"logRecords": [log("a"), log("b")]}], **OF_RESOURCE}, [RECORD, record(1)]),
        ({"scopeLogs": [{**OF_SCOPE, "logRecords": [log("a")]}, {"logRecords": [log("b")]}]}, [RECORD]),
        ({**gauge(POINT, POINT), "unit": "order-1"}, [f"{METRIC}.gauge.dataPoints[{index}]" for index in (0, 1)]),
        (gauge(POINT, {**POINT, "attributes": [attribute("a", "order-1")]}), [f"{METRIC}.gauge.dataPoints[1]"]),
        ({**SPAN, "events": [{"name": "order-1"}]}, [SPAN_PATH]),
    ],
)
def test_the_items_that_would_be_dropped_are_those_that_the_engine_drops(
    config: Path, given: Any, dropped: list[str]
) -> None:
    shown = explained(config, given)["requests"][0]
    assert shown["dropped"] == dropped
    assert shown["items"] - len(dropped) == items_left(config, given)


def items_left(config: Path, given: Any) -> int:
    """By the engine that masks in earnest."""
    (request,) = requests(json.dumps(given).encode(), None, may_quote=True)
    engine = Engine(threads=1, max_request_bytes=1 << 20, max_inflight_bytes=1 << 20, max_connections=1)
    try:
        engine.apply(compile_table(load(config).config, 1))
        wire = engine.trial("acme", request.signal.value, request.wire, ["mask"])
    finally:
        engine.stop()
    return len(content_of(type(request.message).FromString(wire)).items)


def test_a_dry_run_is_told_for_what_it_is(config: Path) -> None:
    code, out, _ = explain(config, logs(log("for order-4711")), tenant="dry")
    assert code == 0
    assert out.rstrip().endswith("dry run: nothing is changed")
    assert "logRecords[0]: would be dropped" in out
    assert "1 value would be masked (orders 1)" in out
    assert "1 of 1 item would be dropped" in out
    assert explained(config, log("order-1"), tenant="dry")["policies"]["logs"]["dry_run"] is True


def test_a_tenant_without_masking_is_told_so(config: Path) -> None:
    code, out, _ = explain(config, log("by jane.doe@customer.example"), tenant="bare")
    assert (code, out.startswith("tenant bare, logs: nothing is masked")) == (0, True)


# What is never shown.


def everything() -> dict[str, Any]:
    """Every secret in every kind of place, and something harmless."""
    records = [log(f"of {secret} it", attribute("password", secret), attribute("note", secret)) for secret in SECRETS]
    inside = json.dumps({"password": "hunter2-and-more", "n": 4111111111111111})
    return logs(*records, log(inside), log(HARMLESS), log("x" * 1000 + HARMLESS * 300))


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("options", [(), ("--all",)], ids=["found", "all"])
def test_without_being_asked_no_value_is_shown(config: Path, form: str, options: Sequence[str]) -> None:
    code, out, err = explain(config, everything(), "--format", form, *options)
    assert (code, err) == (0, "")
    for secret in (*SECRETS, HARMLESS, "4111111111111111"):
        assert secret not in out
    assert "[redacted]" in out
    assert "[credit_card]" in out


@pytest.mark.parametrize("form", ["table", "json"])
def test_on_demand_values_are_shown_beside_what_they_become(config: Path, form: str) -> None:
    _, out, _ = explain(config, everything(), "--format", form, "--all", "--show-values")
    assert [value for value in (*SECRETS, HARMLESS) if value not in out] == []
    assert [after for after in SECRETS.values() if after not in out] == []


def test_what_would_steer_a_terminal_is_shown_as_an_escape(config: Path) -> None:
    _, out, _ = explain(
        config, log("\x1b[31m\u202ered", attribute("password", "\x1b]0;x\x07\n")), "--all", "--show-values"
    )
    assert not set(out) & {"\x1b", "\x07", "\u202e"}
    assert "\\x1b[31m\\u202ered" in out
