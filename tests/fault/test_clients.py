"""Clients that hurt: each is bounded, answered as docs/limits.md says, and counted; a good one is served meanwhile."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from select import select
from socket import create_connection, socket
from typing import Any

import grpc
import pytest

from tests.support import frames
from tests.support.certificates import Authority
from tests.support.clients import METHODS, bearer, http_connection, send_grpc, send_http
from tests.support.frames import RawHttp2, frame, head
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.payloads import traces
from tests.support.processes import wait_until

ACME = bearer("acme-key")
PAYLOAD = traces().SerializeToString()
HEADER_TIMEOUT_S, BODY_TIMEOUT_S, IDLE_TIMEOUT_S, KEEPALIVE_INTERVAL_S = 1.0, 1.5, 2.0, 1.0
# What a busy machine may add.
LATE_S = 3.0
MAX_CONNECTIONS = 1000
EXPORT = {**ACME, "content-type": "application/grpc", "te": "trailers"}


def config_for(folder: Path) -> dict[str, Any]:
    config = base_config(folder)
    config["listen"] |= {
        "header_timeout": f"{HEADER_TIMEOUT_S}s",
        "body_timeout": f"{BODY_TIMEOUT_S}s",
        "idle_timeout": f"{IDLE_TIMEOUT_S}s",
        "keepalive_interval": f"{KEEPALIVE_INTERVAL_S}s",
        "max_connections": MAX_CONNECTIONS,
    }
    config["tenants"]["globex"]["quotas"] = {"traces": {"requests_per_second": 10}}
    return config


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("clients")
    with run_gateway(folder, config_for(folder)) as running:
        assert send_http(running, PAYLOAD, headers=ACME).code == "OK"
        yield running
        running.wait_delivered()
        assert running.unaccounted() == 0


@pytest.fixture(autouse=True)
def good_client(gateway: Gateway) -> Iterator[None]:
    """Is served at all times, and memory stays within bounds, whatever the others do."""
    stopped, failures, slowest = threading.Event(), list[str](), [0.0]

    def work() -> None:
        with grpc.insecure_channel(gateway.grpc) as channel:
            while not stopped.wait(0.05):
                started = time.monotonic()
                answer = send_grpc(gateway, PAYLOAD, headers=ACME, channel=channel)
                slowest[0] = max(slowest[0], time.monotonic() - started)
                if answer.code != "OK":
                    failures.append(f"{answer.code} {answer.message}")

    before = resident_bytes(gateway)
    worker = threading.Thread(target=work)
    worker.start()
    yield
    stopped.set()
    worker.join(30)
    assert failures == []
    assert slowest[0] < 4
    assert resident_bytes(gateway) - before < 100 << 20


def resident_bytes(gateway: Gateway) -> int:
    status = Path(f"/proc/{gateway.process.child.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def connect(address: str) -> socket:
    host, port = address.rsplit(":", 1)
    return create_connection((host, int(port)), timeout=10)


def closed_after_s(connection: socket) -> float:
    """How long it takes until the gateway closes a connection that is left alone."""
    started = time.monotonic()
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return time.monotonic() - started


def drip(connection: socket, data: bytes, pause_s: float = 0.1) -> float:
    """Send byte by byte until the other side has enough; how long that took."""
    started = time.monotonic()
    with suppress(ConnectionResetError, BrokenPipeError):
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            if select([connection], [], [], pause_s)[0]:
                break
    return time.monotonic() - started


def closed(gateway: Gateway, reason: str, protocol: str = "http") -> float:
    return gateway.total("gateway_closed_connections_total", protocol=protocol, reason=reason)


def wait_counted(count: Callable[[], float], expected: float) -> None:
    """A client hears of the close just before it is counted."""
    wait_until(lambda: count() == expected, f"{expected} closed connections", 5)


def request_head(length: int, **headers: str) -> bytes:
    fields = {"host": "gateway", "content-type": "application/x-protobuf", "content-length": str(length)}
    lines = [f"{name}: {value}" for name, value in {**fields, **ACME, **headers}.items()]
    return "\r\n".join(["POST /v1/traces HTTP/1.1", *lines, "", ""]).encode()


@pytest.mark.parametrize("after_a_request", [False, True])
def test_slow_headers_are_cut_off(gateway: Gateway, after_a_request: bool) -> None:
    before = closed(gateway, "slow_headers")
    with connect(gateway.http) as connection:
        if after_a_request:
            connection.sendall(request_head(len(PAYLOAD)) + PAYLOAD)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        took_s = drip(connection, request_head(10))
    assert HEADER_TIMEOUT_S * 0.9 < took_s < HEADER_TIMEOUT_S * 2 + LATE_S
    assert closed(gateway, "slow_headers") == before + 1


def test_a_slow_body_is_answered_and_counted(gateway: Gateway) -> None:
    before = gateway.total("gateway_rejected_requests_total", tenant="acme", reason="too_slow")
    with connect(gateway.http) as connection:
        connection.sendall(request_head(1000))
        drip(connection, PAYLOAD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
    with RawHttp2(gateway.grpc) as http2:
        http2.send(frame(frames.HEADERS, frames.END_HEADERS, 1, head(METHODS["traces"], EXPORT)))
        answer = http2.until(frames.HEADERS)
        assert answer is not None
        assert b"the request's body did not arrive in time" in answer.payload or answer.flags & frames.END_STREAM
    assert gateway.total("gateway_rejected_requests_total", tenant="acme", reason="too_slow") == before + 2


def test_a_health_check_whose_body_never_comes_ends(gateway: Gateway) -> None:
    with RawHttp2(gateway.grpc) as http2:
        path = "/grpc.health.v1.Health/Check"
        http2.send(frame(frames.HEADERS, frames.END_HEADERS, 1, head(path, {"content-type": "application/grpc"})))
        started = time.monotonic()
        assert http2.until(frames.HEADERS) is not None
        assert BODY_TIMEOUT_S * 0.9 < time.monotonic() - started < BODY_TIMEOUT_S + LATE_S


def test_idle_connections_are_closed(gateway: Gateway) -> None:
    before = closed(gateway, "idle"), closed(gateway, "idle", "grpc")
    with connect(gateway.http) as silent, http_connection(gateway) as used, RawHttp2(gateway.grpc) as http2:
        assert send_http(gateway, PAYLOAD, headers=ACME, connection=used).code == "OK"
        assert used.sock is not None
        started = time.monotonic()
        # A client over HTTP/2 that answers pings is idle all the same.
        received = http2.until(frames.GOAWAY)
        assert received is not None
        assert received.error == 0
        closed_after_s(silent)
        closed_after_s(used.sock)
        assert IDLE_TIMEOUT_S * 0.9 < time.monotonic() - started < IDLE_TIMEOUT_S + HEADER_TIMEOUT_S + LATE_S
    assert closed(gateway, "idle") == before[0] + 2
    assert closed(gateway, "idle", "grpc") == before[1] + 1


@pytest.mark.alone
def test_a_client_that_answers_no_ping_is_gone(gateway: Gateway) -> None:
    before = closed(gateway, "vanished", "grpc")
    with RawHttp2(gateway.grpc, answers_pings=False) as http2:
        # A request is under way, so that the connection is not idle.
        http2.send(frame(frames.HEADERS, frames.END_HEADERS, 1, head(METHODS["traces"], EXPORT)))
        took_s = closed_after_s(http2.socket)
    assert took_s < KEEPALIVE_INTERVAL_S * 2 + LATE_S
    assert closed(gateway, "vanished", "grpc") == before + 1


def test_the_kernel_asks_whether_clients_over_http_1_are_there(gateway: Gateway) -> None:
    """A peer that vanished cannot be had on loopback; that the question is asked can be seen in proc(5), as tr 2."""
    with connect(gateway.http) as connection:
        ours, theirs = (f":{address[1]:04X}" for address in (connection.getpeername(), connection.getsockname()))
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        timers = [row[5] for row in rows if row[1].endswith(ours) and row[2].endswith(theirs)]
        assert len(timers) == 1
        active, _, jiffies = timers[0].partition(":")
        assert active == "02"
        assert int(jiffies, 16) <= KEEPALIVE_INTERVAL_S * 100


def test_thousands_of_idle_connections_make_room_for_who_has_something_to_say(gateway: Gateway) -> None:
    refused = gateway.total("gateway_refused_connections_total")
    crowded = closed(gateway, "crowded")
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(gateway.http)) for _ in range(MAX_CONNECTIONS + 500)]
        open_now = gateway.total("gateway_connections")
        assert MAX_CONNECTIONS * 0.9 < open_now <= MAX_CONNECTIONS
        assert gateway.total("gateway_refused_connections_total") >= refused + 450

        def served() -> bool:
            with suppress(OSError, http.client.HTTPException):
                return send_http(gateway, PAYLOAD, headers=ACME).code == "OK"
            return False

        wait_until(served, "room for a client", IDLE_TIMEOUT_S + HEADER_TIMEOUT_S + 3)
        assert len(opened) == MAX_CONNECTIONS + 500
    assert closed(gateway, "crowded") > crowded


def test_streams_that_are_reset_at_once_end_the_connection(gateway: Gateway) -> None:
    """CVE-2023-44487, "rapid reset"."""
    before = closed(gateway, "flood", "grpc")
    with RawHttp2(gateway.grpc) as http2, suppress(ConnectionError):
        reset = frames.CANCEL.to_bytes(4, "big")
        block = head(METHODS["traces"], EXPORT)
        for start in range(1, 4001, 400):
            http2.send(
                *(
                    frame(frames.HEADERS, frames.END_HEADERS, stream, block)
                    + frame(frames.RST_STREAM, 0, stream, reset)
                    for stream in range(start, start + 400, 2)
                )
            )
        goaway = http2.until(frames.GOAWAY)
        assert goaway is not None
        assert goaway.error == frames.ENHANCE_YOUR_CALM
    wait_counted(lambda: closed(gateway, "flood", "grpc"), before + 1)


def test_a_client_that_gives_up_its_requests_is_shown_the_door(gateway: Gateway) -> None:
    """The slow form of the same: each request has begun before it is reset, so that the transport counts no flood."""
    before = closed(gateway, "abandoned_requests", "grpc")
    abandoned = gateway.total("gateway_abandoned_requests_total", protocol="grpc")
    with RawHttp2(gateway.grpc) as http2:
        block, reset = head(METHODS["traces"], EXPORT), frames.CANCEL.to_bytes(4, "big")
        with suppress(ConnectionError):
            for stream in range(1, 1001, 2):
                http2.send(frame(frames.HEADERS, frames.END_HEADERS, stream, block))
                if not http2.pinged():
                    break
                http2.send(frame(frames.RST_STREAM, 0, stream, reset))
        closed_after_s(http2.socket)
    assert closed(gateway, "abandoned_requests", "grpc") == before + 1
    assert 100 < gateway.total("gateway_abandoned_requests_total", protocol="grpc") - abandoned < 200


def test_endless_streams_on_one_connection_are_refused(gateway: Gateway) -> None:
    with RawHttp2(gateway.grpc) as http2:
        block = head(METHODS["traces"], EXPORT)
        http2.send(*(frame(frames.HEADERS, frames.END_HEADERS, stream, block) for stream in range(1, 601, 2)))
        received = http2.until(frames.RST_STREAM)
        assert received is not None
        assert received.error == frames.REFUSED_STREAM
        assert gateway.total("gateway_active_requests") <= 256 + 1


def test_headers_beyond_the_bound_are_refused(gateway: Gateway) -> None:
    before = closed(gateway, "large_headers")
    with connect(gateway.http) as connection:
        with suppress(ConnectionError):
            connection.sendall(request_head(10, **{"x-large": "x" * 200_000}))
        assert connection.recv(65536).startswith(b"HTTP/1.1 431")
    wait_counted(lambda: closed(gateway, "large_headers"), before + 1)
    with RawHttp2(gateway.grpc) as http2:
        large = head(METHODS["traces"], {**EXPORT, "x-large": "x" * 15_000, "x-larger": "y" * 25_000})
        parts = [large[start : start + 16_000] for start in range(0, len(large), 16_000)]
        http2.send(frame(frames.HEADERS, frames.END_STREAM, 1, parts[0]))
        http2.send(*(frame(frames.CONTINUATION, 0, 1, part) for part in parts[1:-1]))
        http2.send(frame(frames.CONTINUATION, frames.END_HEADERS, 1, parts[-1]))
        answer = http2.until(frames.HEADERS)
        assert answer is not None
        assert b"431" in answer.payload or answer.flags & frames.END_STREAM


def test_headers_that_never_end_end_the_connection(gateway: Gateway) -> None:
    """CONTINUATION after CONTINUATION (CVE-2024-27316)."""

    def count() -> float:
        return closed(gateway, "flood", "grpc") + closed(gateway, "protocol", "grpc")

    before = count()
    with RawHttp2(gateway.grpc) as http2:
        piece = frames.literal("x-more", "z" * 1000) * 10
        http2.send(frame(frames.HEADERS, frames.END_STREAM, 1, head(METHODS["traces"], EXPORT)))
        with suppress(ConnectionError):
            for _ in range(2000):
                http2.send(frame(frames.CONTINUATION, 0, 1, piece))
        closed_after_s(http2.socket)
    wait_counted(count, before + 1)


def test_what_is_no_http_is_counted(gateway: Gateway) -> None:
    for protocol, address in (("http", gateway.http), ("grpc", gateway.grpc)):
        before = closed(gateway, "protocol", protocol)
        with connect(address) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10)
            closed_after_s(connection)
        wait_counted(partial(closed, gateway, "protocol", protocol), before + 1)


def test_a_client_that_reads_no_answer_is_not_served_for_ever(gateway: Gateway) -> None:
    """It sends one small request after the other; memory is bounded by what the kernel buffers."""
    with connect(gateway.http) as connection:
        connection.settimeout(0.5)
        request = request_head(len(PAYLOAD)) + PAYLOAD
        sent = 0
        try:
            while sent < 64 << 20:
                sent += connection.send(request * 100)
        except TimeoutError:
            pass
        except ConnectionError:
            pass
        assert sent < 64 << 20


def test_a_flood_of_small_requests_is_held_to_the_quota(gateway: Gateway) -> None:
    before = gateway.total("gateway_rejected_requests_total", tenant="globex")
    answers: list[str] = []

    def flood() -> None:
        with http_connection(gateway) as connection:
            for _ in range(200):
                answer = send_http(gateway, PAYLOAD, headers=bearer("globex-key"), connection=connection)
                answers.append(answer.code)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(answers) == {"OK", "RESOURCE_EXHAUSTED"}
    refused = answers.count("RESOURCE_EXHAUSTED")
    assert refused > 600
    assert gateway.total("gateway_rejected_requests_total", tenant="globex") == before + refused


def test_slow_clients_are_cut_off_over_tls_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("server")
    config = config_for(tmp_path)
    config["listen"]["tls"] = {"cert_file": str(certificate.cert_file), "key_file": str(certificate.key_file)}
    context = ssl.create_default_context(cafile=authority.file)
    # Whose server says nothing of itself after the handshake.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with run_gateway(tmp_path, config) as gateway:
        with connect(gateway.http) as silent:
            silent.sendall(b"\x16\x03\x01")
            assert HEADER_TIMEOUT_S * 0.9 < closed_after_s(silent) < HEADER_TIMEOUT_S + LATE_S
        assert gateway.total("gateway_tls_handshake_failures_total", reason="too_slow") == 1
        with context.wrap_socket(connect(gateway.http), server_hostname="127.0.0.1") as connection:
            drip(connection, request_head(10))
        assert closed(gateway, "slow_headers") == 1
        with context.wrap_socket(connect(gateway.http), server_hostname="127.0.0.1") as connection:
            connection.sendall(request_head(1000))
            drip(connection, PAYLOAD)
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        with context.wrap_socket(connect(gateway.http), server_hostname="127.0.0.1") as connection:
            assert closed_after_s(connection) < IDLE_TIMEOUT_S + HEADER_TIMEOUT_S + LATE_S
        assert closed(gateway, "idle") == 1
