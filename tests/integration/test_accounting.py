"""The whole daemon: usage equals the ledger, and the audit trail tells the story of a day with restarts."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from gateway.audit.keys import read_public_keys
from gateway.audit.trail import trail_files
from gateway.audit.verify import Report, verify
from tests.support.clients import bearer, send_grpc, send_http
from tests.support.gateway import ADMIN_TOKEN, Gateway, accounted_config, run_gateway
from tests.support.payloads import BUILDERS, traces
from tests.support.processes import wait_until
from tests.support.series import gauges

KEYS = {"acme": "acme-key", "globex": "globex-key"}
# What a usage row says, and the ledger's counters that it must equal.
LEDGER = {
    "items": ("gateway_accepted_items_total", "gateway_filtered_items_total", "gateway_sampled_out_items_total"),
    "bytes_in": ("gateway_admitted_bytes_total",),
    "bytes_out": ("gateway_delivered_bytes_total",),
    "masked_values": ("gateway_masked_values_total",),
    "rejected_items": ("gateway_rejected_items_total",),
}


def busy_config(folder: Path) -> dict[str, Any]:
    """Some is refused, masked, filtered and sampled out."""
    config = accounted_config(folder)
    config["tenants"]["acme"]["quotas"] = {"logs": {"items_per_second": 40}}
    config["tenants"]["globex"]["sample"] = {"traces": {"ratio": 0.5}}
    config["defaults"]["mask"] = {"detectors": ["email"]}
    config["defaults"]["relabel"] = {"traces": [{"action": "drop", "source_labels": ["tier"], "regex": "noise"}]}
    return config


def send_at_random(gateway: Gateway, dice: random.Random, requests: int) -> None:
    for _ in range(requests):
        tenant, kind = dice.choice(list(KEYS)), dice.choice(list(BUILDERS))
        tier = dice.choice(["noise", "jo@example.com", "gold"])
        payload = BUILDERS[kind](dice.randint(1, 30), tier=tier).SerializeToString()
        if dice.random() < 0.1:
            payload = payload[:-1]
        dice.choice([send_grpc, send_http])(gateway, payload, signal=kind, headers=bearer(KEYS[tenant]))


def ledger(gateway: Gateway) -> Counter[tuple[str, str, str]]:
    """Of this process, by tenant, signal and column of usage."""
    metrics = gateway.metrics()
    found: Counter[tuple[str, str, str]] = Counter()
    for column, names in LEDGER.items():
        for (name, labels), value in metrics.items():
            if name in names:
                found[dict(labels)["tenant"], dict(labels)["signal"], column] += int(value)
    return found


def usage(config_path: Path) -> dict[str, Any]:
    """As `gateway usage` tells it."""
    command = [sys.executable, "-m", "gateway", "usage", "-c", str(config_path), "--format", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    return dict(json.loads(answer))


def by_meter(answer: dict[str, Any]) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for row in answer["rows"]:
        for column in LEDGER:
            found[row["tenant"], row["signal"], column] += row[column]
    return found


def read_usage(gateway: Gateway, query: str = "") -> dict[str, Any]:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    request = urllib.request.Request(f"{gateway.admin_url}/-/usage?{query}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return dict(json.load(response))


def audited(folder: Path) -> list[dict[str, Any]]:
    """Every line, proved."""
    assert proved(folder).broken is None, str(proved(folder).broken)
    return [json.loads(line) for file in trail_files(folder / "audit") for line in file.path.read_bytes().splitlines()]


def proved(folder: Path) -> Report:
    return verify(folder / "audit", read_public_keys(folder / "audit.key.pub"))


def test_usage_equals_the_ledger_after_a_random_day_of_traffic_and_restarts(tmp_path: Path) -> None:
    dice = random.Random(20261124)
    expected: Counter[tuple[str, str, str]] = Counter()
    for run in range(4):
        with run_gateway(tmp_path, busy_config(tmp_path)) as gateway:
            send_at_random(gateway, dice, 60)
            gateway.wait_delivered()
            assert gateway.unaccounted() == 0
            expected.update(ledger(gateway))
            # The page reads the counters anew, so it never lags behind.
            assert by_meter(read_usage(gateway)) == +expected
            if run == 2:
                # Killed after an interval: nothing more is lost than came in the last one, and that is nothing.
                wait_until(lambda: by_meter(usage(gateway.config_path)) == +expected, "an interval")
                gateway.process.kill()
            else:
                assert gateway.stop() == 0
        assert by_meter(usage(tmp_path / "gateway.yaml")) == +expected
    columns = Counter(dict.fromkeys(LEDGER, 0))
    for (_, _, column), count in expected.items():
        columns[column] += count
    assert min(columns.values()) > 0, f"the day was too quiet to prove anything: {columns}"


def test_a_crash_loses_at_most_an_interval_and_never_counts_twice(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    config["usage"]["interval"] = "1h"
    with run_gateway(tmp_path, config) as gateway:
        assert send_http(gateway, traces(7).SerializeToString(), headers=bearer("acme-key")).code == "OK"
        gateway.process.kill()
    assert usage(tmp_path / "gateway.yaml")["rows"] == []
    with run_gateway(tmp_path, config) as gateway:
        assert send_http(gateway, traces(5).SerializeToString(), headers=bearer("acme-key")).code == "OK"
        assert gateway.stop() == 0
    assert [row["items"] for row in usage(tmp_path / "gateway.yaml")["rows"]] == [5]


def test_the_trail_tells_what_happened_and_keeps_every_secret(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    config["destinations"]["hook"] = {
        "type": "otlp", "protocol": "http", "endpoint": "http://127.0.0.1:9/SECRET-path",
        "bearer_token": "SECRET-bearer", "headers": {"x-key": "SECRET-header"},
    }  # fmt: skip
    with run_gateway(tmp_path, config) as gateway:

        def ask(path: str, token: str, method: str = "GET") -> int:
            headers = {"authorization": f"Bearer {token}"}
            request = urllib.request.Request(gateway.admin_url + path, headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return int(response.status)
            except urllib.error.HTTPError as error:
                return error.code

        for _ in range(30):
            assert ask("/_metrics?x=SECRET-query", "SECRET-guess") in (401, 429)
        config["tenants"]["acme"]["quotas"] = {"logs": {"items_per_second": 7}}
        config["destinations"]["hook"]["bearer_token"] = "SECRET-other"
        gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        gateway.process.signal(signal.SIGHUP)
        wait_until(lambda: "reload" in {line["event"] for line in audited(tmp_path)}, "the reload")
        gateway.config_path.write_text("listn: {token: SECRET-bad}\n" + yaml.safe_dump(config, sort_keys=False))
        gateway.process.signal(signal.SIGHUP)
        wait_until(lambda: "reload_refused" in {line["event"] for line in audited(tmp_path)}, "the refusal")
        assert gateway.stop() == 0
    lines = audited(tmp_path)
    told = {line["event"]: line for line in lines}
    assert [line["event"] for line in lines if line["event"] not in ("admin_denied", "anchor")] == [
        "start", "reload", "reload_refused", "stop",
    ]  # fmt: skip
    denied = [line["details"] for line in lines if line["event"] == "admin_denied"]
    assert [line["limited"] for line in denied] == [False, True]
    assert denied[1]["not_shown"] == 19
    assert told["reload"]["actor"] == "SIGHUP"
    assert told["reload"]["generation"] == 2
    assert told["reload"]["details"]["changes"] == [
        {"path": "destinations.hook.bearer_token", "change": "changed"},
        {"path": "tenants.acme.quotas.logs.items_per_second", "change": "added", "value": 7.0},
    ]
    assert "listn: unknown key" in told["reload_refused"]["details"]["problems"][0]
    assert told["stop"]["actor"] == "SIGTERM"
    assert proved(tmp_path).unsigned_lines == 0
    everything = b"".join(path.read_bytes() for path in (tmp_path / "audit").iterdir())
    for secret in (b"SECRET", ADMIN_TOKEN.encode(), b"acme-key"):
        assert secret not in everything


def test_the_trail_tells_who_looked_and_who_was_turned_away(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    config["admin"]["tokens"].append({"name": "acme-board", "token": "acme-sees", "tenant": "acme"})
    with run_gateway(tmp_path, config) as gateway:

        def look(path: str, token: str) -> int:
            request = urllib.request.Request(gateway.admin_url + path, headers={"authorization": f"Bearer {token}"})
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return int(response.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert [look("/_metrics", token) for token in (ADMIN_TOKEN, ADMIN_TOKEN, "acme-sees", "guess")] == [
            200, 200, 200, 401,
        ]  # fmt: skip
        assert gateway.stop() == 0
    looks = [line for line in audited(tmp_path) if line["event"] in ("admin_access", "admin_denied")]
    assert [(line["event"], line["actor"], line["tenant"], line["details"]["path"]) for line in looks] == [
        ("admin_access", "ops", None, "/_metrics"),
        ("admin_access", "acme-board", "acme", "/_metrics"),
        ("admin_denied", "127.0.0.1", None, "/_metrics"),
    ]


def test_the_trail_names_the_label_that_used_up_the_budget_of_series(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    config["tenants"]["acme"]["quotas"] = {"metrics": {"active_series": 2}}
    payload = gauges({f"queue-{number}": 1.0 for number in range(20)}).SerializeToString()
    with run_gateway(tmp_path, config) as gateway:
        assert send_http(gateway, payload, signal="metrics", headers=bearer("acme-key")).code == "OK"
        assert gateway.stop() == 0
    (verdict,) = (line for line in audited(tmp_path) if line["event"] == "quota_verdict")
    assert (verdict["tenant"], verdict["details"]["limit"], verdict["details"]["verdict"]) == (
        "acme", "active_series", "over",
    )  # fmt: skip
    assert verdict["details"]["labels"][0] == "queue"


def test_a_killed_gateway_leaves_a_trail_that_goes_on(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    for _ in range(3):
        with run_gateway(tmp_path, config) as gateway:
            gateway.metrics()
            time.sleep(0.1)
            gateway.process.kill()
    with run_gateway(tmp_path, config) as gateway:
        assert gateway.stop() == 0
    starts = [line["details"]["former_run"] for line in audited(tmp_path) if line["details"].get("kind") == "start"]
    assert starts == ["none", "unfinished", "unfinished", "unfinished"]


def test_usage_and_trail_of_another_place_wait_for_the_next_start(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    with run_gateway(tmp_path, config) as gateway:
        config["audit"]["dir"] = str(tmp_path / "audit-2")
        config["usage"] = {**config["usage"], "path": str(tmp_path / "usage-2.db"), "prices": {}}
        gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        for _ in range(2):
            request = urllib.request.Request(
                f"{gateway.admin_url}/-/reload", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}, method="POST"
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                answer = response.read().decode()
            assert "audit changes at the next start only" in answer
            assert "usage.path changes at the next start only" in answer
        assert send_http(gateway, traces(3).SerializeToString(), headers=bearer("acme-key")).code == "OK"
        (row,) = read_usage(gateway)["rows"]
        assert (row["items"], row["cost"]) == (3, None), "prices change at once"
        assert gateway.stop() == 0
    assert not (tmp_path / "audit-2").exists()
    with closing(sqlite3.connect(tmp_path / "usage.db")) as database:
        assert database.execute("SELECT sum(items) FROM usage").fetchone() == (3,)
    assert proved(tmp_path).broken is None


def test_the_table_is_for_people(tmp_path: Path) -> None:
    with run_gateway(tmp_path, accounted_config(tmp_path)) as gateway:
        assert send_http(gateway, traces(3).SerializeToString(), headers=bearer("acme-key")).code == "OK"
        assert gateway.stop() == 0
        command = [sys.executable, "-m", "gateway", "usage", "-c", str(gateway.config_path)]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        wrong = subprocess.run([*command, "--from", "May"], capture_output=True, text=True, timeout=30, check=False)
    for word in ("tenant", "acme", "traces", "EUR", "will come to"):
        assert word in shown
    assert (wrong.returncode, wrong.stderr) == (2, "from must be a day such as 2026-01-31\n")


def test_volume_goes_on_over_a_restart(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    config["tenants"]["acme"]["quotas"] = {"traces": {"daily_bytes": "2KiB"}, "monthly_bytes": "1MiB"}
    payload = traces(spans=20).SerializeToString()
    answers = []
    for _ in range(2):
        with run_gateway(tmp_path, config) as gateway:
            while (answer := send_http(gateway, payload, headers=bearer("acme-key"))).code == "OK":
                answers.append(answer)
            assert answer.code == "RESOURCE_EXHAUSTED"
            assert "daily_bytes" in answer.message
            used = gateway.total("gateway_quota_used", tenant="acme", signal="all", limit="monthly_bytes")
            assert used == len(payload) * len(answers)
            assert gateway.stop() == 0
    # All of it before the restart.
    assert len(answers) == -(-2048 // len(payload))
