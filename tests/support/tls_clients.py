"""A gateway behind TLS, and OTLP clients with or without a certificate of their own."""

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.support.certificates import Authority, Certificate
from tests.support.clients import Answer, send_grpc, send_http
from tests.support.gateway import Gateway, base_config


class HandshakeRefusedError(Exception):
    """The gateway ended the connection instead of answering."""


@dataclass
class HttpClient:
    """One HTTP/1.1 connection, made by its first request and never made again."""

    gateway: Gateway
    trusted: Path
    """CAs of the gateway's certificate."""
    certificate: Certificate | None = None
    _connection: http.client.HTTPSConnection = field(init=False)

    def __post_init__(self) -> None:
        context = ssl.create_default_context(cafile=self.trusted)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate.cert_file, self.certificate.key_file)
        host, port = self.gateway.http.rsplit(":", 1)
        self._connection = http.client.HTTPSConnection(host, int(port), timeout=20, context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._connection.close()

    def send(self, payload: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises HandshakeRefusedError; with TLS 1.3 a client sees only here that its certificate is not taken."""
        try:
            answer = send_http(self.gateway, payload, headers=headers, connection=self._connection)
        except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected, http.client.NotConnected) as error:
            self._connection.close()
            raise HandshakeRefusedError(str(error)) from error
        # A lost connection must show, not heal.
        self._connection.auto_open = 0
        return answer


@dataclass
class GrpcClient:
    """One channel with a connection of its own."""

    gateway: Gateway
    trusted: Path
    certificate: Certificate | None = None
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        pair = (None, None)
        if self.certificate is not None:
            pair = (self.certificate.key_file.read_bytes(), self.certificate.cert_file.read_bytes())
        credentials = grpc.ssl_channel_credentials(self.trusted.read_bytes(), *pair)
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.secure_channel(self.gateway.grpc, credentials, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.channel.close()

    def send(self, payload: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises HandshakeRefusedError."""
        answer = send_grpc(self.gateway, payload, headers=headers, channel=self.channel)
        if answer.code == "UNAVAILABLE" and answer.retry_after_s is None:
            raise HandshakeRefusedError(answer.message)
        return answer


Client = HttpClient | GrpcClient


@dataclass
class Deployment:
    """A gateway, the authorities of its own and of its clients' certificates, and one of neither."""

    folder: Path
    gateway: Gateway = field(init=False)

    def __post_init__(self) -> None:
        self.servers = Authority(self.folder, "servers")
        self.clients = Authority(self.folder, "clients")
        self.strangers = Authority(self.folder, "strangers")
        self.server = self.servers.issue("server")

    def config(self, *identity: dict[str, Any], **tls: Any) -> dict[str, Any]:
        config = base_config(self.folder)
        config["identity"] = list(identity)
        config["listen"]["tls"] = {
            "cert_file": str(self.server.cert_file),
            "key_file": str(self.server.key_file),
            "client_ca_file": str(self.clients.file),
            **tls,
        }
        return config

    def client(self, kind: type[Client], certificate: Certificate | None) -> Client:
        return kind(self.gateway, self.servers.file, certificate)

    def refused(self, reason: str) -> float:
        return self.gateway.total("gateway_unauthenticated_requests_total", reason=reason)

    def failed_handshakes(self, reason: str) -> float:
        return self.gateway.total("gateway_tls_handshake_failures_total", reason=reason)

    def accepted(self, tenant: str) -> float:
        return self.gateway.total("gateway_accepted_items_total", tenant=tenant)
