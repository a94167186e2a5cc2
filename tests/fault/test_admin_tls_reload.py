"""Certificates and CAs of the admin port that change while it is read."""

import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.clients import bearer
from tests.support.gateway import ADMIN_TOKEN, base_config, run_gateway, start_and_fail
from tests.support.processes import Process, wait_until

OPERATOR = bearer(ADMIN_TOKEN)


@dataclass
class AdminPort:
    """An admin port with TLS, its files, and the authorities behind them."""

    folder: Path
    servers: Authority
    operators: Authority
    server: Certificate
    address: str = ""
    process: Process | None = None

    def config(self) -> dict[str, Any]:
        config = base_config(self.folder)
        config["admin"]["tls"] = {
            "cert_file": str(self.server.cert_file),
            "key_file": str(self.server.key_file),
            "client_ca_file": str(self.operators.file),
        }
        return config

    @contextmanager
    def connection(
        self, trusted: Authority | None = None, shown: Certificate | None = None
    ) -> Iterator[http.client.HTTPSConnection]:
        context = ssl.create_default_context(cafile=(trusted or self.servers).file)
        if shown is not None:
            context.load_cert_chain(shown.cert_file, shown.key_file)
        host, port = self.address.split(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
        try:
            yield connection
        finally:
            connection.close()

    def status(self, trusted: Authority | None = None, shown: Certificate | None = None) -> int | None:
        """Of a page for operators, over a new connection. None: no handshake."""
        with self.connection(trusted, shown) as connection:
            try:
                return ask(connection, {} if shown else OPERATOR)
            except (ssl.SSLError, ConnectionError):
                return None

    def output(self) -> str:
        assert self.process is not None
        return self.process.output()


def ask(connection: http.client.HTTPSConnection, headers: dict[str, str]) -> int:
    connection.request("GET", "/_metrics", headers=headers)
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.fixture
def port(tmp_path: Path) -> Iterator[AdminPort]:
    servers = Authority(tmp_path, "servers")
    port = AdminPort(tmp_path, servers, Authority(tmp_path, "operators"), servers.issue("server"))
    with run_gateway(tmp_path, port.config()) as gateway:
        port.address, port.process = gateway.admin, gateway.process
        yield port


def test_a_new_certificate_is_taken_with_no_request_failed(port: AdminPort) -> None:
    new = Authority(port.folder, "new-servers")
    both = Authority(port.folder, "both")
    both.file.write_bytes(port.servers.file.read_bytes() + new.file.read_bytes())
    statuses: Counter[int | None] = Counter()
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            statuses[port.status(both)] += 1

    scraper = threading.Thread(target=scrape)
    with port.connection() as kept:
        assert ask(kept, OPERATOR) == 200
        scraper.start()
        assert port.status(new) is None
        served = new.issue("new-server")
        port.server.key_file.write_bytes(served.key_file.read_bytes())
        time.sleep(0.1)
        port.server.cert_file.write_bytes(served.cert_file.read_bytes())
        wait_until(lambda: port.status(new) == 200, "the new certificate")
        assert port.status(port.servers) is None
        stop.set()
        scraper.join()
        kept.auto_open = 0
        assert ask(kept, OPERATOR) == 200, "an open connection stays open"
    assert set(statuses) == {200}
    assert "admin.tls were reloaded" in port.output()


def test_a_ca_that_is_taken_out_lets_nobody_in_and_one_that_is_added_does(port: AdminPort) -> None:
    new = Authority(port.folder, "new-operators")
    old_certificate, new_certificate = port.operators.issue("old"), new.issue("new")
    old_ca, new_ca = port.operators.file.read_bytes(), new.file.read_bytes()
    with port.connection(shown=old_certificate) as kept:
        assert ask(kept, {}) == 200
        assert port.status(shown=new_certificate) is None
        port.operators.file.write_bytes(old_ca + new_ca)
        wait_until(lambda: port.status(shown=new_certificate) == 200, "the new CA")
        assert port.status(shown=old_certificate) == 200
        assert ask(kept, {}) == 200, "its CA is there still"
        port.operators.file.write_bytes(new_ca)
        wait_until(lambda: port.status(shown=old_certificate) is None, "the old CA to be gone")
        assert port.status(shown=new_certificate) == 200
        kept.auto_open = 0
        assert ask(kept, {}) == 401, "the certificate of an open connection is nobody's now"
        assert ask(kept, OPERATOR) == 200


@pytest.mark.parametrize(
    ("name", "content"), [("cert_file", b"no PEM"), ("key_file", b""), ("client_ca_file", b"no PEM")]
)
def test_a_bad_file_leaves_the_old_one_in_use_and_is_told(port: AdminPort, name: str, content: bytes) -> None:
    path = Path(port.config()["admin"]["tls"][name])
    good = path.read_bytes()
    path.write_bytes(content)
    # A certificate and its key are one pair: what is wrong with either is told of the certificate.
    key = {"key_file": "cert_file"}.get(name, name)
    wait_until(lambda: f"stay in use: admin.tls.{key}: " in port.output(), "the bad file to be told")
    assert port.status() == 200
    assert metric(port, "gateway_tls_last_reload_successful") == "0.0"
    path.write_bytes(good)
    wait_until(lambda: metric(port, "gateway_tls_last_reload_successful") == "1.0", "the good file to be back")


def metric(port: AdminPort, name: str) -> str:
    with port.connection() as connection:
        connection.request("GET", "/_metrics", headers=OPERATOR)
        lines = connection.getresponse().read().decode().splitlines()
    return next(line.split()[-1] for line in lines if line.startswith(f"{name} "))


def test_a_ca_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    servers = Authority(tmp_path, "servers")
    port = AdminPort(tmp_path, servers, Authority(tmp_path, "operators"), servers.issue("server"))
    port.operators.file.write_bytes(b"no PEM")
    refused = start_and_fail(tmp_path, port.config())
    assert refused.returncode == 2
    assert "admin.tls.client_ca_file" in refused.stderr
