"""A restart that nobody notices: a new process takes over from the one that serves, under load."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.handover import Predecessor
from tests.support.clients import Answer, bearer, http_connection, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway, start_and_fail
from tests.support.payloads import traces
from tests.support.ports import free_port
from tests.support.processes import wait_until

ACME = bearer("acme-key")
TAKE_OVER = ("--take-over",)


class Clients:
    """Clients of every kind that send all the time and try nothing twice."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.answered: list[str] = []
        """Names of the spans that were answered OK."""
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self._stop = threading.Event()
        kinds = (
            self.fresh_http, self.keeping_http, self.pausing_http, self.fresh_grpc, self.keeping_grpc, self.slow_http,
            self.admin,
        )  # fmt: skip
        self._threads = [threading.Thread(target=self._run, args=(kind,), name=kind.__name__) for kind in kinds]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for_each(self) -> None:
        """Until each was served a few times more, or one was not."""
        before = Counter(self.counts)
        kinds = [thread.name for thread in self._threads]

        def served() -> bool:
            return bool(self.failures) or all(self.counts[kind] > before[kind] + 2 for kind in kinds)

        wait_until(served, "every client to be served", 60)

    def _run(self, kind: Callable[[], None]) -> None:
        try:
            kind()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
            self.failures.append(f"{kind.__name__}: {error!r}")

    def _send(self, kind: str, pause_s: float, send: Callable[[bytes], Answer]) -> None:
        number = 0
        while not self._stop.is_set():
            name = f"{kind}-{number}"
            number += 1
            answer = send(traces(name=name).SerializeToString())
            if answer.code == "OK":
                self.answered.append(name)
                self.counts[kind] += 1
            else:
                self.failures.append(f"{kind}: {answer.code} {answer.message}")
            time.sleep(pause_s)

    def fresh_http(self) -> None:
        self._send("fresh_http", 0.001, lambda payload: send_http(self.gateway, payload, headers=ACME))

    def keeping_http(self, kind: str = "keeping_http", pause_s: float = 0.003) -> None:
        """It does not look whether its connection is still open before it sends."""
        with http_connection(self.gateway) as connection:
            self._send(
                kind, pause_s, lambda payload: send_http(self.gateway, payload, headers=ACME, connection=connection)
            )

    def pausing_http(self) -> None:
        self.keeping_http("pausing_http", 0.25)

    def fresh_grpc(self) -> None:
        # A channel of its own: the library shares connections among channels of the same options.
        options = [("grpc.use_local_subchannel_pool", 1)]

        def send(payload: bytes) -> Answer:
            with grpc.insecure_channel(self.gateway.grpc, options=options) as channel:
                return send_grpc(self.gateway, payload, headers=ACME, channel=channel)

        self._send("fresh_grpc", 0.005, send)

    def keeping_grpc(self) -> None:
        with grpc.insecure_channel(self.gateway.grpc) as channel:
            self._send(
                "keeping_grpc", 0.001, lambda payload: send_grpc(self.gateway, payload, headers=ACME, channel=channel)
            )

    def slow_http(self) -> None:
        """Its bodies come in two halves."""

        def send(payload: bytes) -> Answer:
            with http_connection(self.gateway) as connection:
                connection.putrequest("POST", "/v1/traces")
                for name, value in {**ACME, "content-type": "application/x-protobuf"}.items():
                    connection.putheader(name, value)
                connection.putheader("content-length", str(len(payload)))
                connection.endheaders(payload[:10])
                time.sleep(0.2)
                connection.send(payload[10:])
                response = connection.getresponse()
                return Answer("OK" if response.status == 200 else str(response.status), "", None, response.read())

        self._send("slow_http", 0.01, send)

    def admin(self) -> None:
        while not self._stop.is_set():
            with urllib.request.urlopen(f"{self.gateway.admin_url}/-/healthy", timeout=20) as response:
                self.counts["admin"] += response.status == 200
            time.sleep(0.01)


def delivered(folder: Path) -> Counter[str]:
    """How often each span is in the file."""
    names = re.findall(rb'"name":"([a-z_]+-\d+)"', (folder / "out" / "acme.jsonl").read_bytes())
    return Counter(name.decode() for name in names)


@pytest.mark.parametrize("ack", ["durable", "memory"])
def test_no_connection_is_refused_and_no_request_fails_over_several_hand_overs(tmp_path: Path, ack: str) -> None:
    config = base_config(tmp_path)
    config["queue"]["ack"] = ack
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(run_gateway(tmp_path, config))
        with Clients(gateway) as clients:
            for _ in range(4):
                successor = stack.enter_context(run_gateway(tmp_path, config, TAKE_OVER))
                assert (successor.grpc, successor.http, successor.admin) == (
                    gateway.grpc,
                    gateway.http,
                    gateway.admin,
                )
                assert gateway.process.wait(10) == 0
                gateway = successor
                clients.wait_for_each()
        assert clients.failures == []
        gateway.wait_delivered()
        assert gateway.unaccounted() == 0
        assert gateway.stop() == 0
    found = delivered(tmp_path)
    assert [name for name in clients.answered if name not in found] == []
    # What is sent to a backend at the moment of a hand-over may be sent again; nothing else is.
    assert sum(found.values()) - len(found) < 0.1 * len(found)


def test_a_hand_over_takes_what_waits_in_the_queue_with_it(tmp_path: Path) -> None:
    """With a backend that is away and `ack: memory`, everything is in the memory of the old process."""
    config = base_config(tmp_path)
    config["queue"]["ack"] = "memory"
    config["destinations"]["away"] = {"type": "otlp", "endpoint": f"http://127.0.0.1:{free_port()}", "protocol": "http"}
    config["defaults"]["routes"]["traces"] = ["away"]
    with run_gateway(tmp_path, config) as old:
        for index in range(20):
            assert send_http(old, traces(name=f"n{index}").SerializeToString(), headers=ACME).code == "OK"
        started = time.monotonic()
        with run_gateway(tmp_path, config, TAKE_OVER) as new:
            assert old.process.wait(10) == 0
            assert time.monotonic() - started < 10, "a backend that is away holds nothing up"
            assert new.total("gateway_resumed_items_total") == 20
            assert new.total("gateway_queued_items") == 20
            assert new.unaccounted() == 0


def failing_successors(folder: Path, taken: socket.socket) -> dict[str, tuple[dict[str, Any], str]]:
    """Configurations of new processes that cannot serve, and what they say."""
    config = base_config(folder)
    (folder / "no.db").write_bytes(b"no database" * 100)
    return {
        "a bad configuration": ({**config, "tennants": {}}, "did you mean tenants?"),
        "a port that is taken": (
            {**config, "listen": {**config["listen"], "http": f"127.0.0.1:{taken.getsockname()[1]}"}},
            "(listen.http): address already in use; the gateway that runs serves on",
        ),
        "a failure after the old one stopped": (
            {**config, "usage": {"path": str(folder / "no.db")}},
            "no.db",
        ),
    }


def test_a_new_process_that_fails_leaves_the_old_one_serving_with_no_request_lost(tmp_path: Path) -> None:
    with (
        run_gateway(tmp_path) as gateway,
        socket.create_server(("127.0.0.1", 0)) as taken,
        Clients(gateway) as clients,
    ):
        for config, message in failing_successors(tmp_path, taken).values():
            failing = tmp_path / "failing"
            failing.mkdir(exist_ok=True)
            result = start_and_fail(failing, config, TAKE_OVER)
            assert result.returncode == 2
            assert message in result.stderr
            clients.wait_for_each()
        assert gateway.process.output().count("ended before it served; this one carries on") == 1
        # And it can still hand over.
        with run_gateway(tmp_path, options=TAKE_OVER) as successor:
            assert gateway.process.wait(10) == 0
            clients.wait_for_each()
            clients.__exit__()
            assert clients.failures == []
            successor.wait_delivered()
            assert successor.unaccounted() == 0
    found = delivered(tmp_path)
    assert [name for name in clients.answered if name not in found] == []


def test_connections_wait_while_nobody_serves_and_the_old_process_comes_back(tmp_path: Path) -> None:
    with run_gateway(tmp_path) as gateway:
        predecessor = Predecessor.find(tmp_path / "queue")
        assert predecessor is not None
        assert set(predecessor.ports) == {"grpc", "http", "admin"}
        predecessor.go(20)
        answers: list[Answer] = []
        waiting = threading.Thread(
            target=lambda: answers.append(send_http(gateway, traces().SerializeToString(), headers=ACME))
        )
        waiting.start()
        time.sleep(1)
        assert answers == []
        predecessor.close()
        waiting.join(20)
        assert [answer.code for answer in answers] == ["OK"]
        assert gateway.stop() == 0


def test_a_slow_request_neither_holds_a_hand_over_up_nor_is_taken_too_late(tmp_path: Path) -> None:
    """Its client hears UNAVAILABLE when it comes to its end, from the old process, and may send it again."""
    payload = traces(name="slow").SerializeToString()
    with run_gateway(tmp_path) as gateway, http_connection(gateway) as connection:
        connection.putrequest("POST", "/v1/traces")
        for name, value in {**ACME, "content-type": "application/x-protobuf"}.items():
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(payload)))
        connection.endheaders(payload[:10])
        with run_gateway(tmp_path, options=TAKE_OVER) as successor:
            assert send_http(successor, traces(name="quick").SerializeToString(), headers=ACME).code == "OK"
            connection.send(payload[10:])
            response = connection.getresponse()
            assert response.status == 503
            assert response.getheader("retry-after") is not None
            assert response.getheader("connection") == "close"
            assert gateway.process.wait(10) == 0


def test_sigusr2_starts_the_successor_and_systemd_hears_who_it_is(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = f"\0gateway-test-{os.getpid()}"
        systemd.bind(address)
        systemd.settimeout(20)

        def heard(state: str) -> str:
            while True:
                message = systemd.recv(4096).decode()
                assert "STOPPING=1" not in message
                if message.startswith(state):
                    return message

        with run_gateway(tmp_path, config, env={"NOTIFY_SOCKET": f"@{address[1:]}"}) as gateway:
            heard("READY=1")
            gateway.process.signal(signal.SIGUSR2)
            pid = int(heard("MAINPID=").partition("=")[2])
            assert pid != gateway.process.child.pid
            assert gateway.process.wait(10) == 0
            assert send_http(gateway, traces().SerializeToString(), headers=ACME).code == "OK"
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: '"draining"' in gateway.process.output(), "the successor to stop")


def test_a_second_daemon_waits_for_ports_and_queue_if_it_is_told_to(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["listen"] = {"grpc": f"127.0.0.1:{free_port()}", "http": f"127.0.0.1:{free_port()}"}
    started = time.monotonic()
    with run_gateway(tmp_path, config) as first:
        (tmp_path / "second").mkdir()
        result = start_and_fail(tmp_path / "second", config, ["--wait", "0.5"])
        assert result.returncode == 2
        assert "address already in use" in result.stderr
        stopping = threading.Timer(1.5, lambda: first.process.signal(signal.SIGTERM))
        stopping.start()
        with run_gateway(tmp_path / "second", config, ["--wait", "20"]) as second:
            stopping.join()
            assert time.monotonic() - started > 1.5
            assert send_http(second, traces().SerializeToString(), headers=ACME).code == "OK"


def test_a_hand_over_works_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    """A Unix socket's path holds 107 bytes."""
    config = base_config(tmp_path / ("long" * 40))
    with run_gateway(tmp_path, config) as old, run_gateway(tmp_path, config, TAKE_OVER) as new:
        assert old.process.wait(10) == 0
        assert (new.http, new.grpc) == (old.http, old.grpc)


def test_with_nothing_to_take_over_a_daemon_just_starts(tmp_path: Path) -> None:
    with run_gateway(tmp_path, options=TAKE_OVER) as gateway:
        assert send_http(gateway, traces().SerializeToString(), headers=ACME).code == "OK"


def test_an_address_that_changes_is_bound_anew_and_the_others_are_taken_over(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    with run_gateway(tmp_path, config) as old:
        config["listen"]["http"] = f"127.0.0.1:{free_port()}"
        with run_gateway(tmp_path, config, TAKE_OVER) as new:
            assert old.process.wait(10) == 0
            assert new.grpc == old.grpc
            assert new.http == config["listen"]["http"]
            assert send_http(new, traces().SerializeToString(), headers=ACME).code == "OK"
            with pytest.raises(ConnectionRefusedError):
                send_http(old, b"")
