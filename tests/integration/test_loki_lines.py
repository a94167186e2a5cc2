"""JSON log lines, long lines and much metadata, as a backend that speaks Loki's push keeps them."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import VictoriaLogs
from tests.support.clients import bearer, send_http
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.payloads import logs, text
from tests.support.processes import wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
DESTINATIONS: dict[str, dict[str, Any]] = {
    "keep": {},
    "message": {"log_form": "message"},
    "off": {"log_form": "off"},
    "cut": {"max_line_bytes": 1024},
    "split": {"max_line_bytes": 1024, "long_lines": "split"},
    "drop": {"max_line_bytes": 1024, "long_lines": "drop"},
    "little": {"max_metadata_pairs": 16},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, victoria_logs: VictoriaLogs) -> Iterator[Gateway]:
    """A tenant for each destination, of its name."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    config = base_config(folder)
    # VictoriaLogs takes JSON lines apart itself; here they shall stay as they come, as in Loki.
    url = f"{victoria_logs.push_url}?disable_message_parsing=1"
    config["destinations"] = {name: {"type": "loki", "url": url, **keys} for name, keys in DESTINATIONS.items()}
    config["defaults"] = {"mask": {"detectors": ["email"]}}
    config["tenants"] = {
        name: {"api_keys": [{"id": "k1", "sha256": sha256(f"{name}-key")}], "routes": {"logs": [name]}}
        for name in DESTINATIONS
    }
    with run_gateway(folder, config) as running:
        yield running


def send(gateway: Gateway, tenant: str, body: str, **attributes: str) -> None:
    """One record that has a body and attributes, and nothing else."""
    request = logs(body=body)
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    record.severity_text, record.severity_number, record.time_unix_nano = "", 0, 0
    record.attributes.extend(text(key, value) for key, value in attributes.items())
    answer = send_http(gateway, request.SerializeToString(), signal="logs", headers=bearer(f"{tenant}-key"))
    assert answer.code == "OK"
    gateway.wait_delivered()


def entries(victoria_logs: VictoriaLogs, tenant: str, count: int = 1) -> list[Mapping[str, str]]:
    query = f'{{tenant="{tenant}"}} | sort by (_time, part)'
    wait_until(lambda: len(victoria_logs.query(query)) >= count, f"{count} entries of {tenant}")
    found = victoria_logs.query(query)
    assert len(found) == count, found
    return found


LINE = {
    "timestamp": "2025-11-24T10:00:00.25Z",
    "level": "error",
    "service": "checkout",
    "tenant_id": "somebody-else",
    "request_id": TRACE,
    "message": "no answer for jane@example.com",
    "metadata": {"order": {"id": "o-1"}, "attempts": 3},
}


@pytest.mark.parametrize(("tenant", "line"), [("keep", "the whole line"), ("message", "the message")])
def test_a_json_line_is_found_by_what_it_says(
    gateway: Gateway, victoria_logs: VictoriaLogs, tenant: str, line: str
) -> None:
    # The timestamp must be one that the backend still keeps.
    now = time.time()
    written = time.strftime("%Y-%m-%dT%H:%M:%S.25Z", time.gmtime(now))
    send(gateway, tenant, json.dumps({**LINE, "timestamp": written}))
    (entry,) = entries(victoria_logs, tenant)
    fields = ("level", "severity_text", "severity_number", "trace_id", "request_id", "order_id", "attempts")
    assert [entry[field] for field in fields] == ["error", "error", "17", TRACE, TRACE, "o-1", "3"]
    assert entry["_time"] == written
    assert entry["service_extracted"] == "checkout"
    assert not {"tenant_id", "metadata_order_id", "timestamp"} & entry.keys()
    if line == "the message":
        assert entry["_msg"] == "no answer for [email]"
    else:
        assert json.loads(entry["_msg"]) == {**LINE, "timestamp": written, "message": "no answer for [email]"}
    assert gateway.total("gateway_tenant_claims_total", tenant=tenant) == 1


def test_where_it_is_off_a_json_line_is_a_text(gateway: Gateway, victoria_logs: VictoriaLogs) -> None:
    body = json.dumps({**LINE, "message": "hi"})
    send(gateway, "off", body)
    (entry,) = entries(victoria_logs, "off")
    assert entry["_msg"] == body
    assert not {"level", "trace_id", "order_id"} & entry.keys()


LONG = "".join(f"{n:04d} é " for n in range(400))


def test_a_long_line_is_cut_and_says_so(gateway: Gateway, victoria_logs: VictoriaLogs) -> None:
    send(gateway, "cut", LONG)
    (entry,) = entries(victoria_logs, "cut")
    kept, mark = entry["_msg"].split(" [cut: ")
    assert LONG.startswith(kept)
    assert mark == f"{len(LONG.encode()) - len(kept.encode())} bytes left out]"
    assert 1020 <= len(entry["_msg"].encode()) <= 1024
    assert gateway.total("gateway_limited_values_total", tenant="cut", destination="cut", limit="line_cut") == 1


def test_a_long_line_is_split_into_parts_that_make_it_whole(gateway: Gateway, victoria_logs: VictoriaLogs) -> None:
    send(gateway, "split", LONG, trace_id=TRACE)
    parts = entries(victoria_logs, "split", 4)
    assert [part["part"] for part in parts] == ["1/4", "2/4", "3/4", "4/4"]
    assert "".join(part["_msg"] for part in parts) == LONG
    assert gateway.total("gateway_limited_values_total", tenant="split", limit="line_split") == 1
    assert gateway.total("gateway_delivered_items_total", tenant="split") == 4


def test_a_long_line_is_dropped_and_counted(gateway: Gateway, victoria_logs: VictoriaLogs) -> None:
    send(gateway, "drop", LONG)
    send(gateway, "drop", "short")
    assert [entry["_msg"] for entry in entries(victoria_logs, "drop")] == ["short"]
    assert gateway.total("gateway_dropped_items_total", tenant="drop", reason="line_too_long") == 1
    assert gateway.unaccounted() == 0


def test_metadata_over_the_limit_is_left_out_and_the_line_stays(gateway: Gateway, victoria_logs: VictoriaLogs) -> None:
    send(gateway, "little", "hi", **{f"a{n:02}": "x" for n in range(30)})
    (entry,) = entries(victoria_logs, "little")
    left_out = int(entry["metadata_left_out"])
    assert entry["_msg"] == "hi"
    assert entry["a00"] == "x"
    assert gateway.total("gateway_limited_values_total", tenant="little", limit="metadata") == left_out > 14
