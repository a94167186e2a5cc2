"""What the daemon promises when something goes wrong: at start, at reload, at stop, and when it is killed."""

import json
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.clients import bearer, send_grpc, send_http
from tests.support.gateway import ADMIN_TOKEN, Gateway, base_config, run_gateway, sha256, start_and_fail
from tests.support.payloads import logs, traces
from tests.support.ports import free_port
from tests.support.processes import wait_until

ACME = bearer("acme-key")


def lines(folder: Path, tenant: str = "acme") -> list[dict[str, Any]]:
    path = folder / "out" / f"{tenant}.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


def spans(folder: Path) -> list[str]:
    """Span names in the file, in order."""
    return [
        span["name"]
        for line in lines(folder)
        for resource in line.get("resourceSpans", [])
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


BAD_STARTS = {
    "unknown destination": (
        {"defaults": {"routes": {"traces": ["nowhere"]}}},
        "defaults.routes.traces[0]: there is no destination nowhere",
    ),
    "unreadable certificate": (
        {"listen": {"tls": {"cert_file": "/no/such.crt", "key_file": "/no/such.key"}}},
        "cannot read /no/such.crt: No such file or directory",
    ),
    "unwritable queue folder": ({"queue": {"dir": "/proc/queue"}}, "cannot write to"),
    "a file that is no folder": ({"queue": {"dir": "/etc/passwd"}}, "/etc/passwd is not a folder"),
    "a bad regex": (
        {"defaults": {"relabel": {"metrics": [{"regex": "a(b", "target_label": "x"}]}}},
        "regexes are RE2, anchored",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_STARTS.values(), ids=BAD_STARTS)
def test_a_bad_start_is_one_clear_sentence_and_exit_code_2(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = {**base_config(tmp_path), **change}
    result = start_and_fail(tmp_path, config)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_named_before_anything_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = base_config(tmp_path)
        config["listen"]["http"] = f"127.0.0.1:{taken.getsockname()[1]}"
        result = start_and_fail(tmp_path, config)
    assert result.returncode == 2
    assert '(listen.http): address already in use"' in result.stderr
    assert '"listening"' not in result.stderr


def test_a_second_daemon_on_the_same_queue_is_refused(tmp_path: Path) -> None:
    with run_gateway(tmp_path / "first", base_config(tmp_path)):
        result = start_and_fail(tmp_path, base_config(tmp_path))
    assert result.returncode == 2
    assert "another gateway uses the queue" in result.stderr


def test_every_problem_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    text = "listen: {grpc: nonsense}\ndestinations: {}\ntenants:\n  acme: {api_kyes: []}\n  acme: {}\n"
    result = start_and_fail(tmp_path, text)
    assert result.returncode == 2
    for part in (
        "gateway.yaml:1:10 listen.grpc: write an address as HOST:PORT",
        "gateway.yaml:4:10 tenants.acme.api_kyes: unknown key; did you mean api_keys?",
        "gateway.yaml:5:3 tenants.acme: key 'acme' stands here again; it stands already on line 4",
    ):
        assert part in result.stderr


def test_sigterm_delivers_everything_and_exits_with_0(tmp_path: Path) -> None:
    with run_gateway(tmp_path) as gateway:
        for index in range(50):
            assert send_http(gateway, traces(name=f"n{index}").SerializeToString(), headers=ACME).code == "OK"
        assert gateway.stop() == 0
    assert sorted(spans(tmp_path)) == sorted(f"n{index}" for index in range(50))


def test_what_was_answered_ok_survives_kill_9(tmp_path: Path) -> None:
    """The destination is down, so everything waits in the queue; then the daemon is killed and starts again."""
    config = base_config(tmp_path)
    port = free_port()
    config["destinations"]["away"] = {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "protocol": "http"}
    config["defaults"]["routes"]["traces"] = ["away"]
    with run_gateway(tmp_path, config) as gateway:
        for index in range(20):
            assert send_grpc(gateway, traces(name=f"n{index}").SerializeToString(), headers=ACME).code == "OK"
        gateway.process.kill()
    # Now the name leads to a file.
    config["destinations"]["away"] = config["destinations"].pop("disk")
    config["defaults"]["routes"] = {"traces": ["away"]}
    with run_gateway(tmp_path, config) as gateway:
        wait_until(lambda: gateway.total("gateway_queued_items") == 0, "the backlog")
        assert gateway.total("gateway_resumed_items_total") == 20
        assert gateway.unaccounted() == 0
    # It was queued as protobuf: a file of another format gets the same bytes.
    assert (tmp_path / "out" / "acme.jsonl").read_bytes().count(b"n1") > 0


@pytest.mark.parametrize("masks", [True, False])
def test_only_what_was_masked_is_written_to_disk(tmp_path: Path, masks: bool) -> None:
    """Anywhere below the working folder; without masking the same search finds the secret."""
    config = base_config(tmp_path)
    config["destinations"]["away"] = {"type": "otlp", "endpoint": f"http://127.0.0.1:{free_port()}", "protocol": "http"}
    config["defaults"]["routes"]["logs"] = ["away"]
    config["defaults"]["mask"] = {"detectors": ["email"]} if masks else None
    secret = "jane.roe.of.the.test@example.org"
    with run_gateway(tmp_path, config) as gateway:
        for _ in range(20):
            assert (
                send_http(gateway, logs(body=f"mail to {secret}").SerializeToString(), signal="logs", headers=ACME).code
                == "OK"
            )
        gateway.process.kill()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "queue" / "data.mdb" in written
    assert any(secret.encode() in path.read_bytes() for path in written) is not masks


def test_ack_memory_persists_at_a_stop_what_it_could_not_deliver(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["queue"]["ack"] = "memory"
    config["drain_timeout"] = "3s"
    away = {"type": "otlp", "endpoint": f"http://127.0.0.1:{free_port()}", "protocol": "http"}
    config["destinations"]["away"] = away
    config["defaults"]["routes"]["traces"] = ["away"]
    with run_gateway(tmp_path, config) as gateway:
        for index in range(20):
            assert send_http(gateway, traces(name=f"n{index}").SerializeToString(), headers=ACME).code == "OK"
        assert gateway.stop() == 0
    with run_gateway(tmp_path, config) as gateway:
        assert gateway.total("gateway_resumed_items_total") == 20
        assert gateway.total("gateway_queued_items") == 20
        assert gateway.unaccounted() == 0


def test_a_full_queue_is_unavailable_and_nothing_is_lost(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["queue"]["max_bytes"] = "1MiB"
    config["destinations"]["away"] = {"type": "otlp", "endpoint": f"http://127.0.0.1:{free_port()}", "protocol": "http"}
    config["defaults"]["routes"]["traces"] = ["away"]
    payload = traces(name="x" * 100_000).SerializeToString()
    with run_gateway(tmp_path, config) as gateway:
        answers = [send_http(gateway, payload, headers=ACME) for _ in range(15)]
        refused = [answer for answer in answers if answer.code != "OK"]
        assert refused
        assert {answer.code for answer in refused} == {"UNAVAILABLE"}
        assert all(answer.http_status == 503 and answer.retry_after_s for answer in refused)
        grpc_answer = send_grpc(gateway, payload, headers=ACME)
        assert grpc_answer.code == "UNAVAILABLE"
        assert grpc_answer.retry_after_s
        accepted = len(answers) - len(refused)
        assert gateway.total("gateway_queued_items") == accepted
        assert gateway.unaccounted() == 0


def reload(gateway: Gateway) -> tuple[int, str]:
    request = urllib.request.Request(
        f"{gateway.admin_url}/-/reload", method="POST", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_reload_swaps_the_policy_with_no_request_lost(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    with run_gateway(tmp_path, config) as gateway:
        stop, answers = threading.Event(), []

        def send() -> None:
            while not stop.is_set():
                answers.append(send_http(gateway, logs().SerializeToString(), signal="logs", headers=ACME).code)

        sender = threading.Thread(target=send)
        sender.start()
        for number in range(5):
            config["tenants"][f"new{number}"] = {"api_keys": [{"id": "k", "sha256": sha256(f"new{number}")}]}
            gateway.config_path.write_text(yaml.safe_dump(config))
            assert reload(gateway)[0] == 200
        gateway.process.signal(signal.SIGHUP)
        stop.set()
        sender.join()
        assert set(answers) == {"OK"}
        assert send_http(gateway, traces().SerializeToString(), headers=bearer("new4")).code == "OK"
        wait_until(lambda: gateway.total("gateway_policy_generation") == 7, "the reload by SIGHUP")
        gateway.wait_delivered()
        assert gateway.unaccounted() == 0
        assert gateway.total("gateway_delivered_items_total", signal="logs") == len(answers)


def test_a_bad_reload_leaves_the_old_configuration_and_says_why(tmp_path: Path) -> None:
    with run_gateway(tmp_path) as gateway:
        gateway.config_path.write_text("tenants: {acme: {api_kyes: []}}\n")
        status, text = reload(gateway)
        assert status == 400
        assert "did you mean api_keys?" in text
        assert gateway.total("gateway_config_last_reload_successful") == 0
        assert send_http(gateway, traces().SerializeToString(), headers=ACME).code == "OK"


def test_a_reload_says_each_time_what_changes_at_the_next_start_only(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    with run_gateway(tmp_path, config) as gateway:
        config["admin"]["address"] = "127.0.0.1:9464"
        config["listen"]["http"] = "127.0.0.1:4318"
        config["queue"]["max_bytes"] = "128MiB"
        config["log"] = {"level": "debug"}
        gateway.config_path.write_text(yaml.safe_dump(config))
        for _ in range(2):
            status, text = reload(gateway)
            assert status == 200
            assert [line.split()[0] for line in text.splitlines()] == [
                "listen",
                "admin.address",
                "queue.max_bytes",
                "log",
            ]
        assert gateway.total("gateway_queue_capacity_bytes") == 256 << 20
        assert gateway.total("gateway_config_last_reload_successful") == 1


def test_metrics_are_for_those_who_may_and_tenants_see_their_own(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["admin"]["tokens"].append({"name": "a", "token": "acme-sees", "tenant": "acme"})
    with run_gateway(tmp_path, config) as gateway:
        for key in ("acme-key", "globex-key"):
            assert send_http(gateway, traces().SerializeToString(), headers=bearer(key)).code == "OK"

        def page(path: str, token: str | None) -> tuple[int, str]:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            try:
                request = urllib.request.Request(gateway.admin_url + path, headers=headers)
                with urllib.request.urlopen(request, timeout=30) as response:
                    return response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        for path in ("/metrics", "/_metrics"):
            assert page(path, None)[0] == 401
            assert page(path, "wrong")[0] == 401
            status, text = page(path, "acme-sees")
            assert status == 200
            assert 'tenant="acme"' in text
            assert "globex" not in text
            assert "process_cpu" not in text
            assert 'tenant="globex"' in page(path, ADMIN_TOKEN)[1]
        assert page("/-/healthy", None)[0] == 200
        assert json.loads(page("/-/ready", None)[1])["ready"] is True


def test_a_tls_listener_speaks_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert),
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    config = base_config(tmp_path)
    config["listen"]["tls"] = {"cert_file": str(cert), "key_file": str(key)}
    with run_gateway(tmp_path, config) as gateway:
        import ssl

        context = ssl.create_default_context(cafile=cert)
        request = urllib.request.Request(
            f"{gateway.http_url}/v1/traces",
            traces().SerializeToString(),
            {"content-type": "application/x-protobuf", **ACME},
        )
        with urllib.request.urlopen(request, timeout=30, context=context) as response:
            assert response.status == 200
        import grpc

        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(gateway.grpc, credentials) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            assert export(traces().SerializeToString(), metadata=tuple(ACME.items()), timeout=30) == b""
