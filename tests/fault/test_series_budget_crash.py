"""kill -9 under a series budget, against a real Prometheus: known series flow on, and nothing is counted twice."""

import http.client
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.backends import Prometheus
from tests.support.clients import bearer, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.processes import Process
from tests.support.series import CountingApplication

USERS = [f"u{index}" for index in range(12)]
KNOWN, FOLDED = USERS[:3], USERS[3:]


def config_for(folder: Path, prometheus: Prometheus) -> dict[str, Any]:
    config = base_config(folder)
    config["destinations"] = {"prometheus": {"type": "remote_write", "url": prometheus.write_url}}
    config["defaults"] = {"routes": {"metrics": ["prometheus"]}}
    config["tenants"]["acme"]["quotas"] = {"metrics": {"active_series": len(KNOWN)}}
    return config


@dataclass
class Sender:
    """Counts and sends, and knows how much a crash may cost."""

    app: CountingApplication
    dice: random.Random
    acknowledged: int = 0
    """What the folded users had counted in the last request that was answered OK."""
    may_be_missing: int = 0
    first_of_run: bool = True

    def folded(self) -> int:
        return sum(self.app.orders[user] for user in FOLDED)

    def send(self, gateway: Gateway) -> bool:
        """One request, over either transport. False: the gateway is gone."""
        self.app.count({user: self.dice.randint(1, 5) for user in USERS})
        payload = self.app.request().SerializeToString()
        transport = self.dice.choice([send_grpc, send_http])
        try:
            answer = transport(gateway, payload, signal="metrics", headers=bearer("acme-key"))
        except (OSError, http.client.HTTPException):
            return False
        if answer.code != "OK":
            assert answer.code == "UNAVAILABLE", answer
            return False
        assert answer.body == b"", "everything is taken"
        if self.first_of_run:
            self.may_be_missing += self.folded() - self.acknowledged
        self.acknowledged, self.first_of_run = self.folded(), False
        return True

    def send_until_it_is_gone(self, gateway: Gateway) -> None:
        while self.send(gateway):
            time.sleep(0.01)


Kill = Callable[[Path, dict[str, Any], Sender], None]


def kill_under_traffic(folder: Path, config: dict[str, Any], sender: Sender) -> None:
    with run_gateway(folder, config) as gateway:
        traffic = threading.Thread(target=sender.send_until_it_is_gone, args=(gateway,))
        traffic.start()
        time.sleep(sender.dice.uniform(0.1, 0.8))
        gateway.process.kill()
        traffic.join()


def kill_while_it_saves_at_the_start(folder: Path, config: dict[str, Any], sender: Sender) -> None:
    """A start saves at once, as every minute does."""
    saved = folder / "queue" / "series" / "acme.state"
    before = saved.stat().st_mtime_ns
    command = [sys.executable, "-m", "gateway", "run", "-c", folder / "gateway.yaml"]
    process = Process(command, log=folder / "gateway.log")
    deadline = time.monotonic() + 30
    while saved.stat().st_mtime_ns == before and not list(saved.parent.glob("*.unfinished")):
        assert process.running, process.output()
        assert time.monotonic() < deadline, "the start does not save"
    time.sleep(sender.dice.choice([0, 0, 0.001, 0.01]))
    process.kill()


def kill_while_it_stops(folder: Path, config: dict[str, Any], sender: Sender) -> None:
    """A stop saves the last word, after which another run may go on."""
    with run_gateway(folder, config) as gateway:
        assert all(sender.send(gateway) for _ in range(3))
        gateway.process.signal(signal.SIGTERM)
        time.sleep(sender.dice.uniform(0, 0.1))
        gateway.process.kill()


KILLS: list[Kill] = [kill_under_traffic] * 3 + [kill_while_it_saves_at_the_start] * 3 + [kill_while_it_stops] * 3


def test_nothing_is_counted_twice_however_often_it_is_killed(tmp_path: Path, prometheus: Prometheus) -> None:
    dice = random.Random(20261125)
    config = config_for(tmp_path, prometheus)
    sender = Sender(CountingApplication(service="crashed"), dice)
    with run_gateway(tmp_path, config) as gateway:
        # Started in view of the gateway, so that its first points count whole: here, and never again.
        sender.app.started_ns = time.time_ns()
        assert all(sender.send(gateway) for _ in range(3))
        sender.may_be_missing = 0
        assert gateway.stop() == 0
    for kill in dice.sample(KILLS, len(KILLS)):
        sender.first_of_run = True
        kill(tmp_path, config, sender)
    sender.first_of_run = True
    with run_gateway(tmp_path, config) as gateway:
        assert "starts afresh" not in gateway.process.output(), "a save is the old one or the new one, never a torn one"
        assert [path.name for path in (tmp_path / "queue" / "series").iterdir()] == ["acme.state"]
        assert all(sender.send(gateway) for _ in range(3))
        gateway.wait_delivered()
        assert gateway.total("gateway_active_series", tenant="acme") == len(KNOWN)
        assert gateway.total("gateway_folded_series", tenant="acme") == len(FOLDED)
        assert gateway.total("gateway_dropped_items_total") == 0
        assert gateway.unaccounted() == 0

    rows = prometheus.query('last_over_time(orders_total{job="crashed"}[5m])')
    kept = {row["metric"]["user"]: float(row["value"][1]) for row in rows if "user" in row["metric"]}
    assert kept == {user: sender.app.orders[user] for user in KNOWN}, "known series flow under their own names"
    # An overflow series begins at zero and never falls, so that its last value is what it counted.
    overflow = [float(row["value"][1]) for row in rows if row["metric"].get("otel_metric_overflow") == "true"]
    assert sender.folded() - sender.may_be_missing <= sum(overflow) <= sender.folded()
    assert sender.may_be_missing < sender.folded() / 2, "most of the time it was up"
    instances = {row["metric"]["instance"] for row in rows if row["metric"].get("otel_metric_overflow") == "true"}
    # A run that was killed under traffic folded into a series of its own.
    assert KILLS.count(kill_under_traffic) < len(instances) <= len(KILLS) + 2
    falls = prometheus.query('resets(orders_total{job="crashed", otel_metric_overflow="true"}[5m]) > 0')
    assert falls == []


def flipped(state: bytes, position: int) -> bytes:
    changed = bytearray(state)
    changed[position] ^= 0x40
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte flipped": lambda state: flipped(state, 0),
    "middle byte flipped": lambda state: flipped(state, len(state) // 2),
    "last byte flipped": lambda state: flipped(state, -1),
    "empty": lambda state: b"",
    "torn in the head": lambda state: state[:5],
    "torn in the middle": lambda state: state[: len(state) // 2],
    "last byte missing": lambda state: state[:-1],
    "a byte too many": lambda state: state + b"\0",
    "something else": lambda state: b"{}\n" * 100,
}


def test_a_state_that_is_damaged_in_any_way_is_a_warning_and_a_fresh_start(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    damaged = {f"tenant{index}": damage for index, damage in enumerate(DAMAGES.values())}
    config["tenants"] = {
        tenant: {"api_keys": [{"id": "k1", "sha256": sha256(tenant)}], "quotas": {"metrics": {"active_series": 2}}}
        for tenant in (*damaged, "whole")
    }
    payload = CountingApplication(orders=dict.fromkeys(USERS, 1)).request().SerializeToString()
    with run_gateway(tmp_path, config) as gateway:
        for tenant in config["tenants"]:
            assert send_http(gateway, payload, signal="metrics", headers=bearer(tenant)).code == "OK"
        assert gateway.stop() == 0
    for tenant, damage in damaged.items():
        path = tmp_path / "queue" / "series" / f"{tenant}.state"
        path.write_bytes(damage(path.read_bytes()))
    with run_gateway(tmp_path, config) as gateway:
        warned = [
            json.loads(line)["tenant_id"]
            for line in gateway.process.output().splitlines()
            if "this tenant starts afresh" in line
        ]
        assert sorted(warned) == sorted(damaged)
        active = {tenant: gateway.total("gateway_active_series", tenant=tenant) for tenant in config["tenants"]}
        assert active == {**dict.fromkeys(damaged, 0), "whole": 2}
        for tenant in damaged:
            assert send_http(gateway, payload, signal="metrics", headers=bearer(tenant)).code == "OK"
            assert gateway.total("gateway_active_series", tenant=tenant) == 2
        gateway.wait_delivered()
        assert gateway.unaccounted() == 0
