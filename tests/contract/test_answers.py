"""Every row of the answers table (docs/design.md §4), on both transports: status, body, what a client may do next."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import grpc
import pytest

from tests.support.clients import (
    RESPONSES,
    Answer,
    basic,
    bearer,
    http_connection,
    send_grpc,
    send_http,
)
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.payloads import BUILDERS, logs, metrics, traces
from tests.support.processes import wait_until

ACME = bearer("acme-key")


def zstd_compress(data: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(data))


SIGNALS = ["traces", "metrics", "logs"]
SENDERS = [pytest.param(send_grpc, id="grpc"), pytest.param(send_http, id="http")]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Tenants for each row; small limits so that a test reaches them."""
    folder: Path = tmp_path_factory.mktemp("answers")
    config: dict[str, Any] = base_config(folder)
    config["listen"]["max_request_bytes"] = "1MiB"
    config["tenants"] |= {
        "retired": {"disabled": True, "api_keys": [{"id": "k1", "sha256": sha256("retired-key")}]},
        "tracer": {"routes": {"metrics": [], "logs": []}, "api_keys": [{"id": "k1", "sha256": sha256("tracer-key")}]},
        "strict": {"claims": "refuse", "api_keys": [{"id": "k1", "sha256": sha256("strict-key")}]},
        "slow": {
            "quotas": {"traces": {"items_per_second": 10, "burst": 20}},
            "api_keys": [{"id": "k1", "sha256": sha256("slow-key")}],
        },
        "slow2": {
            "quotas": {"traces": {"items_per_second": 10, "burst": 20}},
            "api_keys": [{"id": "k1", "sha256": sha256("slow2-key")}],
        },
    }
    with run_gateway(folder, config) as gateway:
        yield gateway
        assert gateway.unaccounted() == 0


def assert_refused(answer: Answer, code: str, http_status: int, *, retry: bool = False) -> None:
    assert answer.code == code, answer
    assert answer.message, "a refusal says why"
    assert (answer.retry_after_s is not None) is retry
    if answer.http_status is not None:
        assert answer.headers is not None
        assert answer.http_status == http_status
        assert ("retry-after" in answer.headers) is retry


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_accepted_is_ok_with_partial_success_unset(table: Gateway, send: Any, signal: str) -> None:
    answer = send(table, BUILDERS[signal](3).SerializeToString(), signal=signal, headers=ACME)
    assert answer.code == "OK"
    assert not RESPONSES[signal].FromString(answer.body).HasField("partial_success")


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_an_empty_request_is_a_success(table: Gateway, send: Any, signal: str) -> None:
    assert send(table, b"", signal=signal, headers=ACME).code == "OK"


@pytest.mark.parametrize("signal", SIGNALS)
def test_json_is_answered_in_json(table: Gateway, signal: str) -> None:
    for body in (b"{}", b'{"resource%s": []}' % signal.encode().replace(b"traces", b"spans").title()):
        answer = send_http(table, body, signal=signal, headers=ACME, content_type="application/json; charset=utf-8")
        assert answer.http_status == 200
        assert answer.headers is not None
        assert answer.headers["content-type"] == "application/json"


def test_an_unknown_json_shape_is_taken_with_a_warning(table: Gateway) -> None:
    answer = send_http(table, b'{"spans": [1]}', headers=ACME, content_type="application/json")
    assert answer.http_status == 200
    partial = json.loads(answer.body)["partialSuccess"]
    assert int(partial.get("rejectedSpans", 0)) == 0
    assert "resourceSpans" in partial["errorMessage"]


def bad_payloads() -> dict[str, bytes]:
    short_id = traces()
    short_id.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    not_utf8 = traces(name="~~~~").SerializeToString().replace(b"~~~~", b"\xff\xfe\xff\xfe")
    deep = logs()
    value = deep.resource_logs[0].scope_logs[0].log_records[0].body
    for _ in range(90):
        value = value.array_value.values.add()
    return {
        "truncated": traces().SerializeToString()[:-3],
        "random": b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        "a trace id of 5 bytes": short_id.SerializeToString(),
        "a name that is not UTF-8": not_utf8,
    }


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize(
    ("name", "payload"), bad_payloads().items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_malformed_is_invalid_argument(table: Gateway, send: Any, name: str, payload: bytes) -> None:
    assert_refused(send(table, payload, headers=ACME), "INVALID_ARGUMENT", 400)


def test_malformed_json_is_answered_in_json(table: Gateway) -> None:
    for body in (b"{", b'{"resourceSpans": 3}', b'{"resourceSpans": []} trailing', b"[" * 100_000):
        answer = send_http(table, body, headers=ACME, content_type="application/json")
        assert_refused(answer, "INVALID_ARGUMENT", 400)
        assert answer.headers is not None
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("nobody"),
        basic("acme", "wrong"),
        basic("globex", "acme-key"),
        {"x-api-key": "nope"},
        {"authorization": "acme-key"},
    ],
    ids=["none", "bearer", "basic", "basic-of-another", "x-api-key", "no-scheme"],
)
def test_no_or_unknown_credential_is_unauthenticated(table: Gateway, send: Any, headers: dict[str, str]) -> None:
    assert_refused(send(table, traces().SerializeToString(), headers=headers), "UNAUTHENTICATED", 401)


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize(
    "headers", [bearer("acme-key"), basic("acme", "acme-key"), basic("k1", "acme-key"), {"x-api-key": "acme-key"}]
)
def test_every_form_of_a_key_is_known(table: Gateway, send: Any, headers: dict[str, str]) -> None:
    assert send(table, traces().SerializeToString(), headers=headers).code == "OK"


@pytest.mark.parametrize("send", SENDERS)
def test_a_disabled_tenant_and_a_signal_not_allowed_are_permission_denied(table: Gateway, send: Any) -> None:
    assert_refused(send(table, traces().SerializeToString(), headers=bearer("retired-key")), "PERMISSION_DENIED", 403)
    answer = send(table, metrics().SerializeToString(), signal="metrics", headers=bearer("tracer-key"))
    assert_refused(answer, "PERMISSION_DENIED", 403)


@pytest.mark.parametrize("send", SENDERS)
def test_a_claim_of_another_tenant_is_refused_where_policy_says_so(table: Gateway, send: Any) -> None:
    claim = traces(tenant="globex").SerializeToString()
    assert_refused(send(table, claim, headers=bearer("strict-key")), "PERMISSION_DENIED", 403)
    assert send(table, traces(tenant="strict").SerializeToString(), headers=bearer("strict-key")).code == "OK"


@pytest.mark.parametrize("send", SENDERS)
def test_too_large_is_never_worth_a_retry(table: Gateway, send: Any) -> None:
    large = traces(name="x" * (1 << 20)).SerializeToString()
    assert_refused(send(table, large, headers=ACME), "RESOURCE_EXHAUSTED", 413)


@pytest.mark.parametrize("pack", [gzip.compress, zstd_compress], ids=["gzip", "zstd"])
def test_too_large_after_decompression_is_the_same(table: Gateway, pack: Any) -> None:
    bomb = pack(b"\0" * (64 << 20))
    encoding = "gzip" if pack is gzip.compress else "zstd"
    answer = send_http(table, bomb, headers={**ACME, "content-encoding": encoding})
    assert_refused(answer, "RESOURCE_EXHAUSTED", 413)
    grpc_answer = send_grpc(table, b"\0" * (2 << 20), headers=ACME, compression=grpc.Compression.Gzip)
    assert_refused(grpc_answer, "RESOURCE_EXHAUSTED", 413)


@pytest.mark.parametrize(("encoding", "pack"), [("identity", bytes), ("gzip", gzip.compress), ("zstd", zstd_compress)])
def test_every_known_encoding_is_undone(table: Gateway, encoding: str, pack: Any) -> None:
    payload = pack(traces(5).SerializeToString())
    assert send_http(table, payload, headers={**ACME, "content-encoding": encoding}).code == "OK"


def test_grpc_gzip_is_undone(table: Gateway) -> None:
    payload = traces(5).SerializeToString()
    assert send_grpc(table, payload, headers=ACME, compression=grpc.Compression.Gzip).code == "OK"


def test_unknown_type_or_encoding_is_unsupported(table: Gateway) -> None:
    payload = traces().SerializeToString()
    assert_refused(send_http(table, payload, headers=ACME, content_type="text/plain"), "UNIMPLEMENTED", 415)
    assert_refused(send_http(table, payload, headers={**ACME, "content-encoding": "br"}), "UNIMPLEMENTED", 415)
    answer = send_grpc(table, payload, headers=ACME, compression=grpc.Compression.Deflate)
    assert_refused(answer, "UNIMPLEMENTED", 415)


def test_damaged_compression_is_malformed(table: Gateway) -> None:
    for encoding, body in (
        ("gzip", zlib.compress(b"not gzip")),
        ("zstd", b"not zstd"),
        ("gzip", gzip.compress(b"x")[:-4]),
    ):
        answer = send_http(table, body, headers={**ACME, "content-encoding": encoding})
        assert_refused(answer, "INVALID_ARGUMENT", 400)


@pytest.mark.parametrize(("send", "key"), [(send_grpc, "slow-key"), (send_http, "slow2-key")], ids=["grpc", "http"])
def test_over_quota_is_retryable_after_the_real_refill_time(table: Gateway, send: Any, key: str) -> None:
    headers = bearer(key)
    assert send(table, traces(20).SerializeToString(), headers=headers).code == "OK"
    answer = send(table, traces(10).SerializeToString(), headers=headers)
    assert_refused(answer, "RESOURCE_EXHAUSTED", 429, retry=True)
    assert answer.retry_after_s == pytest.approx(1.0, abs=0.3)
    if answer.headers is not None:
        assert answer.headers["retry-after"] in ("1", "2")


def test_a_full_gateway_is_unavailable_to_everybody_until_there_is_room(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["listen"] |= {"max_request_bytes": "1MiB", "max_inflight_bytes": "1MiB"}
    payload = traces().SerializeToString()
    with run_gateway(tmp_path, config) as gateway, http_connection(gateway) as slow:
        slow.putrequest("POST", "/v1/traces")
        for name, value in {**ACME, "content-type": "application/x-protobuf", "content-length": str(1 << 20)}.items():
            slow.putheader(name, value)
        slow.endheaders(b"\0" * ((1 << 20) - 10))
        others = [bearer("acme-key"), bearer("globex-key")]
        # Nobody else sends before, or the slow one is refused for want of room.
        wait_until(lambda: gateway.total("gateway_inflight_bytes") >= (1 << 20) - 10, "the slow one's bytes")
        for send in (send_grpc, send_http):
            for headers in others:
                large = traces(20).SerializeToString()
                assert_refused(send(gateway, large, headers=headers), "UNAVAILABLE", 503, retry=True)
        slow.close()
        for send in (send_grpc, send_http):
            wait_until(lambda send=send: send(gateway, payload, headers=ACME).code == "OK", "room")  # type: ignore[misc]
        assert gateway.unaccounted() == 0


@pytest.mark.parametrize("path", ["/", "/v1/profiles", "/v1/traces/extra"])
def test_an_unknown_path_is_not_found(table: Gateway, path: str) -> None:
    assert send_http(table, b"", headers=ACME, path=path).http_status == 404


def test_an_unknown_method_is_refused(table: Gateway) -> None:
    answer = send_http(table, b"", headers=ACME, method="PUT")
    assert answer.http_status == 405
    assert answer.headers is not None
    assert answer.headers["allow"] == "POST"
    assert send_grpc(table, b"", headers=ACME, method="/some.Service/Method").code == "UNIMPLEMENTED"


def test_a_connection_goes_on_after_every_refusal(table: Gateway) -> None:
    good = traces().SerializeToString()
    with http_connection(table) as connection:
        for payload in [*bad_payloads().values(), b"", b"\x00"]:
            send_http(table, payload, headers=ACME, connection=connection)
            assert send_http(table, good, headers=ACME, connection=connection).code == "OK"


def test_health_is_served_over_grpc(table: Gateway) -> None:
    with grpc.insecure_channel(table.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=30) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as unknown:
            check(b"\x0a\x04nope", timeout=30)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30)
        assert next(iter(watch)) == b"\x08\x01"
        watch.cancel()


def test_garbage_on_a_port_harms_nobody(table: Gateway) -> None:
    for address in (table.grpc, table.http):
        host, port = address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=30) as stream:
            stream.sendall(b"\x16\x03\x01garbage\r\n\r\n" * 10)
    assert send_grpc(table, traces().SerializeToString(), headers=ACME).code == "OK"
    assert send_http(table, traces().SerializeToString(), headers=ACME).code == "OK"
