"""`gateway send`: what it sends is OTLP of the asked size, and what it says of the answers is true."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.send import payloads
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Tenant slow may send ten log lines, then one in ten seconds."""
    folder: Path = tmp_path_factory.mktemp("send")
    config = base_config(folder)
    config["tenants"]["slow"] = {
        "quotas": {"logs": {"items_per_second": 0.1, "burst": 10}},
        "api_keys": [{"id": "k1", "sha256": sha256("slow-key")}],
    }
    with run_gateway(folder, config) as gateway:
        yield gateway


def send(gateway: Gateway | None, protocol: str, *arguments: str, endpoint: str = "", **env: str) -> tuple[int, str]:
    """Exit code and output; on `protocol` of `gateway`, or to `endpoint`."""
    if gateway is not None:
        endpoint = f"http://{gateway.grpc}" if protocol == "grpc" else gateway.http_url
    command = ["send", *arguments, "--protocol", protocol, *(["--endpoint", endpoint] if endpoint else [])]
    result = CliRunner().invoke(app, command, env={"OTEL_EXPORTER_OTLP_ENDPOINT": None, "GATEWAY_KEY": None, **env})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_everything_asked_for_is_sent_and_counted(target: Gateway, protocol: str, signal: str) -> None:
    before = target.total("gateway_accepted_items_total", tenant="acme", signal=signal)
    code, out = send(target, protocol, signal, "--key", "acme-key", "--count", "3", "--items", "7")
    assert code == 0
    assert out.splitlines()[0] == "3 × OK"
    assert "21 of 21" in out
    assert target.total("gateway_accepted_items_total", tenant="acme", signal=signal) == before + 21


@pytest.mark.parametrize(("protocol", "status"), [("grpc", "UNAUTHENTICATED"), ("http", "HTTP 401")])
def test_a_refusal_is_shown_with_exit_code_1(target: Gateway, protocol: str, status: str) -> None:
    code, out = send(target, protocol, "traces", "--key", "nobody", "--count", "2")
    assert code == 1
    assert out.startswith(f"2 × {status}: ")
    assert "0 of 20 traces accepted" in out


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_quota_is_shown_with_the_time_to_wait(target: Gateway, protocol: str) -> None:
    send(target, protocol, "logs", "--key", "slow-key", "--items", "10")
    code, out = send(target, protocol, "logs", "--key", "slow-key", "--items", "10")
    assert code == 1
    assert "(retry after " in out


def test_headers_come_from_the_environment_of_the_sdk(target: Gateway) -> None:
    headers = "x-more=1,authorization=Bearer%20acme-key"
    assert send(target, "grpc", "traces", OTEL_EXPORTER_OTLP_HEADERS=headers)[0] == 0


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_endpoint_needs_no_scheme(target: Gateway, protocol: str) -> None:
    endpoint = target.grpc if protocol == "grpc" else target.http
    assert send(None, protocol, "traces", "--key", "acme-key", endpoint=endpoint)[0] == 0


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_nobody_there_is_an_answer_too(protocol: str) -> None:
    code, out = send(None, protocol, "traces", endpoint=f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert "0 of 10 traces accepted" in out


def test_http_to_the_port_of_grpc_is_an_answer_too(target: Gateway) -> None:
    code, out = send(None, "http", "traces", endpoint=f"http://{target.grpc}")
    assert code == 1
    assert "no answer" in out


def test_a_server_that_speaks_no_http_is_an_answer_too() -> None:
    def speak() -> None:
        stream, _ = server.accept()
        stream.recv(1)
        stream.sendall(b"SSH-2.0-OpenSSH\r\n")
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(1 << 16):
            pass
        stream.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        speaker = threading.Thread(target=speak)
        speaker.start()
        code, out = send(None, "http", "traces", endpoint=f"127.0.0.1:{server.getsockname()[1]}")
        speaker.join()
    assert code == 1
    assert out.startswith("1 × no answer: ")


@pytest.mark.parametrize(("protocol", "port"), [("grpc", 4317), ("http", 4318)])
def test_by_default_it_goes_to_the_port_of_its_protocol(
    monkeypatch: pytest.MonkeyPatch, protocol: str, port: int
) -> None:
    monkeypatch.setattr(f"gateway.send.command._{protocol}_sender", lambda *_: lambda _payload: ("OK", 0))
    assert f"accepted by http://127.0.0.1:{port}" in send(None, protocol, "traces")[1]


def test_generated_requests_are_of_the_asked_size_and_carry_secrets_only_if_asked() -> None:
    for build in (payloads.traces, payloads.logs):
        assert payloads.EMAIL.encode() in build(3, pii=True).SerializeToString()
        assert payloads.EMAIL.encode() not in build(3, pii=False).SerializeToString()
    spans = payloads.traces(8).resource_spans[0].scope_spans[0].spans
    assert len({span.span_id for span in spans}) == 8
    assert len({span.trace_id for span in spans}) == 2, "four spans a trace"
    assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in spans)
    points = payloads.metrics(100).resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points
    assert len({point.SerializeToString() for point in points}) == 100
