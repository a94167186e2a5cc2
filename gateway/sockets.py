"""The three ports, bound before anything else starts."""

import socket
from dataclasses import dataclass

from gateway.config.models import Config

_BACKLOG = 1024


class StartError(Exception):
    """The daemon cannot start; the message says why and what to do. Nothing is listening."""


@dataclass
class Sockets:
    """Bound and listening: a port that is taken stops the start."""

    grpc: socket.socket
    http: socket.socket
    admin: socket.socket
    grpc_address: str
    http_address: str
    admin_address: str

    @classmethod
    def bind(cls, config: Config) -> "Sockets":
        """Raises StartError."""
        grpc = _bind(config.listen.grpc, "listen.grpc")
        http = _bind(config.listen.http, "listen.http")
        admin = _bind(config.admin.address, "admin.address")
        return cls(grpc, http, admin, _name(grpc), _name(http), _name(admin))


def _bind(address: str, key: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        # create_server repeats the address in its own words.
        reason = (error.strerror or str(error)).lower().partition(" (while attempting")[0]
        raise StartError(f"cannot listen on {address} ({key}): {reason}") from None


def _name(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
