"""Certificates, CAs and CRLs that change while the gateway serves: at once for new connections, fairly for old ones."""

import datetime
import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.gateway import Gateway, run_gateway
from tests.support.payloads import traces
from tests.support.processes import wait_until
from tests.support.tls_clients import Client, Deployment, GrpcClient, HandshakeRefusedError, HttpClient

SPAN = traces().SerializeToString()
CLIENTS = [pytest.param(GrpcClient, id="grpc"), pytest.param(HttpClient, id="http")]
COMMON_NAME = {"mtls": {"tenant_from": "common_name"}}


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A gateway that knows clients by common name and holds a CRL, of which nobody is part yet."""
    deployment = Deployment(tmp_path)
    crl = tmp_path / "crl.pem"
    crl.write_bytes(deployment.clients.revocation_list())
    with run_gateway(tmp_path, deployment.config(COMMON_NAME, crl_file=str(crl))) as gateway:
        deployment.gateway = gateway
        yield deployment
        assert gateway.unaccounted() == 0


def reloads(gateway: Gateway, result: str = "success") -> float:
    return gateway.total("gateway_tls_reloads_total", result=result)


def reload_after(gateway: Gateway, change: Callable[[], Any], result: str = "success", *, ask: bool = True) -> None:
    """Make the change and wait until the gateway has seen it, by itself or because it was asked to reload."""
    before = reloads(gateway, result)
    change()
    if ask:
        gateway.process.signal(signal.SIGHUP)
    wait_until(lambda: reloads(gateway, result) > before, f"a reload with {result}", 20)


def never_ok(client: Client) -> bool:
    try:
        return client.send(SPAN).code == "UNAUTHENTICATED"
    except HandshakeRefusedError:
        return True


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_revoked_certificate_ends_its_connections_alone(deployment: Deployment, kind: type[Client]) -> None:
    acme, globex = (deployment.clients.issue(name) for name in ("acme", "globex"))
    revoked = deployment.clients.revocation_list([acme])
    with deployment.client(kind, acme) as bad, deployment.client(kind, globex) as good:
        assert bad.send(SPAN).code == good.send(SPAN).code == "OK"
        protocol = "http" if kind is HttpClient else "grpc"
        assert deployment.gateway.total("gateway_connections", protocol=protocol) == 2
        reload_after(deployment.gateway, lambda: (deployment.folder / "crl.pem").write_bytes(revoked))
        assert never_ok(bad)
        assert good.send(SPAN).code == "OK"
        assert never_ok(bad)
        if kind is HttpClient:
            wait_until(lambda: deployment.gateway.total("gateway_connections", protocol=protocol) == 1, "it to close")
    with deployment.client(kind, acme) as again, pytest.raises(HandshakeRefusedError):
        again.send(SPAN)
    assert deployment.failed_handshakes("revoked") > 0


@pytest.mark.parametrize("kind", CLIENTS)
def test_an_expired_certificate_ends_its_connections(deployment: Deployment, kind: type[Client]) -> None:
    acme = deployment.clients.issue("acme", lifetime=datetime.timedelta(seconds=3))
    expires = acme.x509().not_valid_after_utc.timestamp()
    with deployment.client(kind, acme) as client:
        assert client.send(SPAN).code == "OK"
        time.sleep(max(0.0, expires + 1.1 - time.time()))
        answer = client.send(SPAN)
        assert answer.code == "UNAUTHENTICATED"
        assert "has expired" in answer.message
    assert deployment.refused("certificate_expired") == 1
    with deployment.client(kind, acme) as again, pytest.raises(HandshakeRefusedError):
        again.send(SPAN)
    assert deployment.failed_handshakes("expired") > 0


def test_a_ca_without_a_crl_in_force_lets_nobody_in(deployment: Deployment) -> None:
    crl, acme = deployment.folder / "crl.pem", deployment.clients.issue("acme")
    other = deployment.strangers.revocation_list()
    lapsed = deployment.clients.revocation_list(lifetime=-datetime.timedelta(hours=1))
    for useless in (other, lapsed):
        reload_after(deployment.gateway, lambda text=useless: crl.write_bytes(text))  # type: ignore[misc]
        with deployment.client(HttpClient, acme) as client, pytest.raises(HandshakeRefusedError):
            client.send(SPAN)
    assert deployment.failed_handshakes("no_valid_crl") == 2
    reload_after(deployment.gateway, lambda: crl.write_bytes(other + deployment.clients.revocation_list()))
    with deployment.client(HttpClient, acme) as client:
        assert client.send(SPAN).code == "OK"


def test_the_whole_chain_is_looked_up_in_the_crls(deployment: Deployment) -> None:
    crl = deployment.folder / "crl.pem"
    branch = Authority(deployment.folder, "branch", deployment.clients)
    acme = branch.issue("acme")
    both = branch.revocation_list() + deployment.clients.revocation_list()
    reload_after(deployment.gateway, lambda: crl.write_bytes(both))
    with deployment.client(HttpClient, acme) as client:
        assert client.send(SPAN).code == "OK"
        without_branch = branch.revocation_list() + deployment.clients.revocation_list([branch])
        reload_after(deployment.gateway, lambda: crl.write_bytes(without_branch))
        assert never_ok(client)
    with deployment.client(HttpClient, acme) as client, pytest.raises(HandshakeRefusedError):
        client.send(SPAN)


@pytest.mark.parametrize("file", ["cert_file", "key_file", "client_ca_file", "crl_file"])
def test_a_bad_new_file_leaves_the_old_one_running(deployment: Deployment, file: str) -> None:
    paths = {
        "cert_file": deployment.server.cert_file,
        "key_file": deployment.server.key_file,
        "client_ca_file": deployment.clients.file,
        "crl_file": deployment.folder / "crl.pem",
    }
    gateway, path, acme = deployment.gateway, paths[file], deployment.clients.issue("acme")
    good = path.read_bytes()

    def state() -> float:
        return gateway.total("gateway_tls_last_reload_successful")

    assert state() == 1
    reload_after(gateway, lambda: path.write_bytes(good[:-40]), "failure")
    assert state() == 0
    time.sleep(3)
    with deployment.client(HttpClient, acme) as client:
        assert client.send(SPAN).code == "OK"
    complaints = [line for line in gateway.process.output().splitlines() if "the old ones stay" in line]
    assert len(complaints) == 1
    assert f"listen.tls.{file}: " in complaints[0]
    path.write_bytes(good)
    wait_until(lambda: state() == 1, "the good file to be seen")


# How many connections the load is spread over; each is made anew after so many requests.
HTTP_WORKERS, GRPC_WORKERS, REQUESTS_A_CONNECTION = 12, 6, 25


class Load:
    """Clients that never rest, each with the newest certificate when it connects."""

    def __init__(self, deployment: Deployment, trusted: Path, certificate: Certificate) -> None:
        self.deployment, self.trusted, self.certificate = deployment, trusted, certificate
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()
        self.held: dict[int, Certificate] = {}
        self.stopped = threading.Event()
        kinds: list[type[Client]] = [HttpClient] * HTTP_WORKERS + [GrpcClient] * GRPC_WORKERS
        self.threads = [
            threading.Thread(target=self.work, args=(index, kind), daemon=True) for index, kind in enumerate(kinds)
        ]

    def work(self, index: int, kind: type[Client]) -> None:
        while not self.stopped.is_set():
            certificate = self.certificate
            try:
                with kind(self.deployment.gateway, self.trusted, certificate) as client:
                    for _ in range(REQUESTS_A_CONNECTION):
                        self.answers[client.send(SPAN).code] += 1
                        self.held[index] = certificate
                        time.sleep(0.01)
            except HandshakeRefusedError as error:
                self.failures.append(str(error))

    def all_hold(self, certificate: Certificate) -> bool:
        held = list(self.held.values())
        return len(held) == len(self.threads) and all(one is certificate for one in held)

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)


def test_certificates_and_cas_are_rotated_under_load_without_a_failed_request(deployment: Deployment) -> None:
    folder, gateway = deployment.folder, deployment.gateway
    new_servers, new_clients = Authority(folder, "new-servers"), Authority(folder, "new-clients")
    old, new = deployment.clients.issue("acme"), new_clients.issue("globex")
    trusted = folder / "trusted.pem"
    trusted.write_bytes(deployment.servers.file.read_bytes() + new_servers.file.read_bytes())
    old_ca, new_ca = deployment.clients.file.read_bytes(), new_clients.file.read_bytes()
    both_crls = deployment.clients.revocation_list() + new_clients.revocation_list()
    server = new_servers.issue("new-server")

    def rotate_server() -> None:
        # One after the other, as tools do: between the two writes they do not go together.
        deployment.server.cert_file.write_bytes(server.cert_file.read_bytes())
        deployment.server.key_file.write_bytes(server.key_file.read_bytes())

    with Load(deployment, trusted, old) as load:
        wait_until(lambda: load.all_hold(old), "every client to be at work")
        reload_after(gateway, rotate_server, ask=False)
        reload_after(gateway, lambda: (folder / "crl.pem").write_bytes(both_crls), ask=False)
        reload_after(gateway, lambda: deployment.clients.file.write_bytes(old_ca + new_ca), ask=False)
        load.certificate = new
        wait_until(lambda: load.all_hold(new), "every client to have the new certificate")
        reload_after(gateway, lambda: deployment.clients.file.write_bytes(new_ca))
        before = load.answers.total()
        wait_until(lambda: load.answers.total() > before + 500, "work to go on")
    assert load.failures == []
    assert set(load.answers) == {"OK"}
    assert reloads(gateway, "failure") == 0
    with HttpClient(gateway, new_servers.file, new) as client:
        assert client.send(SPAN).code == "OK"
    with HttpClient(gateway, trusted, old) as client, pytest.raises(HandshakeRefusedError):
        client.send(SPAN)


def test_connections_stay_open_over_reloads(deployment: Deployment) -> None:
    acme = deployment.clients.issue("acme")
    servers = itertools.cycle([deployment.servers.issue("second"), deployment.servers.issue("third")])
    with deployment.client(HttpClient, acme) as client:
        assert client.send(SPAN).code == "OK"
        for _ in range(2):
            server = next(servers)

            def rotate(server: Certificate = server) -> None:
                deployment.server.key_file.write_bytes(server.key_file.read_bytes())
                deployment.server.cert_file.write_bytes(server.cert_file.read_bytes())

            reload_after(deployment.gateway, rotate)
            # The client never connects anew: a dropped connection would be an error here.
            assert client.send(SPAN).code == "OK"
