"""SIGTERM: everything is delivered or on disk within a limit, whatever clients, backends and the disk do meanwhile.

Who only looks at what the stop left is killed afterwards: its own stop would wait for the backend again.
"""

import http.client
import resource
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import lmdb
import pytest

from tests.support.clients import bearer, http_connection, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.payloads import traces
from tests.support.ports import free_port
from tests.support.processes import wait_until

ACME = bearer("acme-key")
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def config_with(folder: Path, endpoint: str, **changes: Any) -> dict[str, Any]:
    """Spans go to `endpoint` over HTTP."""
    config = base_config(folder)
    config["destinations"]["away"] = {"type": "otlp", "endpoint": endpoint, "protocol": "http", "timeout": "60s"}
    config["defaults"]["routes"]["traces"] = ["away"]
    config["queue"]["ack"] = changes.pop("ack", "durable")
    return {**config, **changes}


@contextmanager
def a_backend_that_hangs() -> Iterator[str]:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def send(gateway: Gateway, count: int) -> None:
    for index in range(count):
        assert send_http(gateway, traces(name=f"n{index}").SerializeToString(), headers=ACME).code == "OK"


def stop(gateway: Gateway) -> tuple[int, float]:
    """Exit code, and how long it took."""
    started = time.monotonic()
    code = gateway.stop()
    return code, time.monotonic() - started


@pytest.mark.alone
@pytest.mark.parametrize("ack", ["durable", "memory"])
def test_a_backend_that_hangs_costs_the_limit_and_nothing_is_lost(tmp_path: Path, ack: str) -> None:
    with a_backend_that_hangs() as endpoint:
        config = config_with(tmp_path, endpoint, ack=ack, drain_timeout="2s")
        with run_gateway(tmp_path, config) as gateway:
            send(gateway, 20)
            code, took_s = stop(gateway)
            assert code == 0
            assert took_s < 6
    with run_gateway(tmp_path, config) as gateway:
        assert gateway.total("gateway_resumed_items_total") == 20
        assert gateway.unaccounted() == 0
        gateway.process.kill()


@pytest.mark.alone
@pytest.mark.parametrize("ack", ["durable", "memory"])
def test_a_request_that_never_ends_is_refused_and_not_taken_too_late(tmp_path: Path, ack: str) -> None:
    payload = traces().SerializeToString()
    with ExitStack() as stack:
        endpoint = stack.enter_context(a_backend_that_hangs())
        config = config_with(tmp_path, endpoint, ack=ack, drain_timeout="3s")
        gateway = stack.enter_context(run_gateway(tmp_path, config))
        connection = stack.enter_context(http_connection(gateway))
        connection.putrequest("POST", "/v1/traces")
        for name, value in {**ACME, "content-type": "application/x-protobuf"}.items():
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(payload)))
        connection.endheaders(payload[:-1])
        send(gateway, 3)
        started = time.monotonic()
        gateway.process.signal(signal.SIGTERM)
        wait_until(lambda: "did not come in to their end" in gateway.process.output(), "the patience to end")
        connection.send(payload[-1:])
        # Refused, or on a slow machine too late for any answer; but not OK.
        with suppress(OSError, http.client.BadStatusLine):
            assert connection.getresponse().status == 503
        assert gateway.process.wait(10) == 0
        assert time.monotonic() - started < 8
    with run_gateway(tmp_path, config) as gateway:
        assert gateway.total("gateway_resumed_items_total") == 3
        gateway.process.kill()


def test_a_connection_that_was_taken_just_before_the_stop_gets_its_answer(tmp_path: Path) -> None:
    with run_gateway(tmp_path) as gateway, http_connection(gateway) as connection:
        connection.connect()
        wait_until(lambda: gateway.total("gateway_connections") == 1, "the connection to be taken")
        gateway.process.signal(signal.SIGTERM)
        wait_until(lambda: '"draining"' in gateway.process.output(), "the stop")
        time.sleep(0.1)
        answer = send_http(gateway, traces().SerializeToString(), headers=ACME, connection=connection)
        assert answer.code == "OK"
        assert answer.headers is not None
        assert answer.headers["connection"] == "close"
        assert gateway.process.wait(10) == 0


def test_requests_under_way_at_the_stop_are_answered_and_kept(tmp_path: Path) -> None:
    """Commits are under way all the time; each answer OK is a promise."""
    config = config_with(tmp_path, f"http://127.0.0.1:{free_port()}", drain_timeout="3s")
    answered: list[str] = []

    def work(gateway: Gateway, worker: int) -> None:
        for index in range(10_000):
            try:
                answer = send_http(gateway, traces(name=f"w{worker}-{index}").SerializeToString(), headers=ACME)
            except OSError:
                return
            if answer.code == "OK":
                answered.append(f"w{worker}-{index}")

    with run_gateway(tmp_path, config) as gateway:
        threads = [threading.Thread(target=work, args=(gateway, worker)) for worker in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answered) > 100, "some answers")
        code, _ = stop(gateway)
        assert code == 0
        for thread in threads:
            thread.join(30)
    with run_gateway(tmp_path, config) as gateway:
        # A request whose connection broke may be there as well: one a worker.
        assert len(answered) <= gateway.total("gateway_resumed_items_total") <= len(answered) + 8
        gateway.process.kill()


@pytest.mark.alone
def test_a_full_disk_at_the_stop_says_what_is_lost_and_fails(tmp_path: Path) -> None:
    """`ack: memory` is a promise that a full disk breaks; it says so."""
    config = config_with(tmp_path, f"http://127.0.0.1:{free_port()}", ack="memory", drain_timeout="2s")
    with run_gateway(tmp_path, config) as gateway:
        for index in range(20):
            payload = traces(name=f"n{index}" + "x" * 100_000).SerializeToString()
            assert send_http(gateway, payload, headers=ACME).code == "OK"
        pid = gateway.process.child.pid
        used = (tmp_path / "queue" / "data.mdb").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (used, used))
        code, took_s = stop(gateway)
        assert code == 1
        assert took_s < 8
        output = gateway.process.output()
        lost = [line for line in output.splitlines() if "in memory only are lost" in line]
        assert len(lost) == 1
        for part in ('"tenant_id":"acme"', '"destination":"away"', '"signal":"traces"', '"items":20'):
            assert part in lost[0]
        assert "Traceback" not in output


def test_a_full_disk_at_the_stop_costs_nothing_that_was_promised_durable(tmp_path: Path) -> None:
    config = config_with(tmp_path, f"http://127.0.0.1:{free_port()}", drain_timeout="2s")
    with run_gateway(tmp_path, config) as gateway:
        send(gateway, 5)
        pid = gateway.process.child.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 12, 1 << 12))
        answer = send_http(gateway, traces(name="x" * 1_000_000).SerializeToString(), headers=ACME)
        assert answer.code == "UNAVAILABLE"
        assert stop(gateway)[0] == 0
    with run_gateway(tmp_path, config) as gateway:
        assert gateway.total("gateway_resumed_items_total") == 5
        gateway.process.kill()


@pytest.mark.alone
def test_a_disk_that_hangs_does_not_keep_a_stop_for_ever(tmp_path: Path) -> None:
    """Somebody else holds the queue's writer lock, so that a commit does not end."""
    config = config_with(tmp_path, f"http://127.0.0.1:{free_port()}", ack="memory", drain_timeout="1s")
    with run_gateway(tmp_path, config) as gateway:
        send(gateway, 1)
        queue = lmdb.open(str(tmp_path / "queue"), map_size=1 << 30, max_dbs=3)
        with queue.begin(write=True):
            code, took_s = stop(gateway)
        queue.close()
        assert code == 1
        assert 5 < took_s < 12
        assert "the stop took too long" in gateway.process.output()


def test_load_balancers_hear_of_a_stop_before_connections_are_refused(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["drain_delay"] = "2s"

    def ready() -> int:
        try:
            with urllib.request.urlopen(f"{gateway.admin_url}/-/ready", timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    with run_gateway(tmp_path, config) as gateway, grpc.insecure_channel(gateway.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert (ready(), check(b"")) == (200, SERVING)
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(watch) == SERVING
        started = time.monotonic()
        gateway.process.signal(signal.SIGTERM)
        wait_until(lambda: ready() == 503, "the stop to be told")
        assert next(watch) == NOT_SERVING
        assert check(b"") == NOT_SERVING
        while time.monotonic() - started < 1.5:
            answer = send_http(gateway, traces().SerializeToString(), headers=ACME)
            assert answer.code == "OK"
            assert answer.headers is not None
            assert answer.headers["connection"] == "close"
            assert send_grpc(gateway, traces().SerializeToString(), headers=ACME, channel=channel).code == "OK"
        assert gateway.process.wait(10) == 0
        assert time.monotonic() - started > 2
        with pytest.raises(ConnectionRefusedError):
            send_http(gateway, b"")
