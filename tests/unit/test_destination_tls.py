"""TLS towards destinations: what is shown and believed follows the files, and names can be others than the URL's."""

import shutil
import ssl
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.config.tls import ClientTls, ServerTls
from gateway.delivery.senders import watched
from gateway.delivery.senders.destinations import Sender
from gateway.delivery.senders.outcome import Delivered, Outcome, Retry
from gateway.delivery.senders.tls import client_context
from gateway.types import Lane, Signal
from tests.support.certificates import Authority, Certificate
from tests.support.scripted import Backend, scripted, scripted_grpc
from tests.support.sender import opened

PROTOCOLS = {"http": scripted, "grpc": scripted_grpc}


@pytest.fixture(autouse=True)
def looked_at_with_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "LOOK_INTERVAL_S", 0.0)


def sender_to(backend: Backend, protocol: str, tls: dict[str, Any]) -> AbstractAsyncContextManager[Sender]:
    return opened({"type": "otlp", "endpoint": backend.url, "protocol": protocol, "timeout": "2s", "tls": tls})


async def send(sender: Sender) -> Outcome:
    return await sender.send(Lane("acme", "backend", Signal.TRACES), [b"something"])


def server_tls(certificate: Certificate, authority: Authority) -> ServerTls:
    return ServerTls(cert_file=certificate.cert_file, key_file=certificate.key_file, client_ca_file=authority.file)


def put(certificate: Certificate, folder: Path) -> dict[str, Path]:
    """The certificate where a destination's configuration names it."""
    shutil.copy(certificate.cert_file, folder / "tls.crt")
    shutil.copy(certificate.key_file, folder / "tls.key")
    return {"cert_file": folder / "tls.crt", "key_file": folder / "tls.key"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_certificate_that_is_replaced_is_shown_by_new_connections(tmp_path: Path, protocol: str) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    backend_tls = server_tls(authority.issue("backend"), authority)
    folder = tmp_path / "mounted"
    folder.mkdir()
    pair = put(stranger.issue("old"), folder)
    async with (
        PROTOCOLS[protocol](tls=backend_tls) as backend,
        sender_to(backend, protocol, {"ca_file": authority.file, **pair}) as sender,
    ):
        assert isinstance(await send(sender), Retry), "the backend does not know who signed it"
        put(authority.issue("new"), folder)
        assert await send(sender) == Delivered()
        (folder / "tls.crt").write_text("half")
        with capture_logs() as logs:
            assert await send(sender) == Delivered(), "what cannot be used is not used"
            assert await send(sender) == Delivered()
        assert [entry["log_level"] for entry in logs] == ["warning"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_ca_that_is_replaced_is_believed_by_new_connections(tmp_path: Path, protocol: str) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    shown = authority.issue("gateway")
    ca_file = tmp_path / "ca.crt"
    shutil.copy(stranger.file, ca_file)
    tls = {"ca_file": ca_file, "cert_file": shown.cert_file, "key_file": shown.key_file}
    async with (
        PROTOCOLS[protocol](tls=server_tls(authority.issue("backend"), authority)) as backend,
        sender_to(backend, protocol, tls) as sender,
    ):
        assert isinstance(await send(sender), Retry)
        shutil.copy(authority.file, ca_file)
        assert await send(sender) == Delivered()
        shutil.copy(stranger.file, ca_file)
        assert isinstance(await send(sender), Retry), "no connection from before is used"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_certificate_may_bear_another_name_than_the_url(tmp_path: Path, protocol: str) -> None:
    authority = Authority(tmp_path)
    shown = authority.issue("gateway")
    served = authority.issue("backend", dns_names=["backend.example"])
    tls = {"ca_file": authority.file, "cert_file": shown.cert_file, "key_file": shown.key_file}
    async with PROTOCOLS[protocol](tls=server_tls(served, authority)) as backend:
        async with sender_to(backend, protocol, {**tls, "server_name": "backend.example"}) as sender:
            assert await send(sender) == Delivered()
        async with sender_to(backend, protocol, {**tls, "server_name": "other.example"}) as sender:
            assert isinstance(await send(sender), Retry)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_files_that_cannot_be_used_are_an_error_when_a_destination_is_opened(
    tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "a").write_text("nothing")
    for tls in ({"ca_file": tmp_path / "no"}, {"cert_file": tmp_path / "a", "key_file": tmp_path / "a"}):
        with pytest.raises((OSError, ValueError)):
            async with sender_to(Backend(url="https://127.0.0.1:1"), protocol, tls):
                pass


async def test_over_grpc_the_cas_of_the_machine_are_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    shown = authority.issue("gateway")
    tls = {"cert_file": shown.cert_file, "key_file": shown.key_file}
    async with scripted_grpc(tls=server_tls(authority.issue("backend"), authority)) as backend:
        async with sender_to(backend, "grpc", tls) as sender:
            assert isinstance(await send(sender), Retry)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        async with sender_to(backend, "grpc", tls) as sender:
            assert await send(sender) == Delivered()


async def test_over_tls_too_requests_one_after_another_use_one_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shown = authority.issue("gateway")
    tls = {"ca_file": authority.file, "cert_file": shown.cert_file, "key_file": shown.key_file}
    async with (
        scripted(tls=server_tls(authority.issue("backend"), authority)) as backend,
        sender_to(backend, "http", tls) as sender,
    ):
        assert [await send(sender) for _ in range(5)] == [Delivered()] * 5
        assert len(backend.peers) == 1


def test_tls_is_1_2_at_least(tmp_path: Path) -> None:
    context = client_context(ClientTls(ca_file=Authority(tmp_path).file))
    assert isinstance(context, ssl.SSLContext)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert ssl.create_default_context().minimum_version >= ssl.TLSVersion.TLSv1_2, "that of sessions"
