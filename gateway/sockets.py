"""The three ports, bound before anything else starts, or taken from the process that served them before."""

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields

from gateway.config.models import Config

_BACKLOG = 1024
# A client that is gone without a word is noticed after so many probes. Those of the interval's end.
_PROBES = 3


class StartError(Exception):
    """The daemon cannot start; the message says why and what to do. Nothing is listening."""


class AddressInUseError(StartError):
    """A port is taken, perhaps by a gateway that is about to stop."""


@dataclass(frozen=True)
class Port:
    """A bound and listening socket, and the address in the configuration that it was bound for."""

    configured: str
    bound: socket.socket

    @property
    def address(self) -> str:
        """Where it listens: with port 0 the kernel chose."""
        host, port = self.bound.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def duplicate(self) -> socket.socket:
        """For whoever accepts: it is closed without ending the listening as long as this one is open."""
        return self.bound.dup()


@dataclass(frozen=True)
class Sockets:
    """Bound and listening: a port that is taken stops the start."""

    grpc: Port
    http: Port
    admin: Port

    @classmethod
    def bind(cls, config: Config, inherited: Mapping[str, Port] | None = None) -> "Sockets":
        """Where `inherited` has a port for the configured address it is taken, else bound. Raises StartError."""
        wanted = {
            "grpc": ("listen.grpc", config.listen.grpc),
            "http": ("listen.http", config.listen.http),
            "admin": ("admin.address", config.admin.address),
        }
        given, ports = dict(inherited or {}), {}
        for name, (key, address) in wanted.items():
            old = given.get(name)
            if old is not None and old.configured == address:
                ports[name] = given.pop(name)
            else:
                ports[name] = Port(address, _bind(address, key))
            _notice_vanished_clients(ports[name].bound, config.listen.keepalive_interval)
        for port in given.values():
            # The configuration has moved away from it.
            port.bound.close()
        return cls(**ports)

    def by_name(self) -> dict[str, Port]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def close(self) -> None:
        """Nothing listens any more, but for duplicates that are still open."""
        for port in self.by_name().values():
            port.bound.close()


def _bind(address: str, key: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        # create_server repeats the address in its own words.
        reason = (error.strerror or str(error)).lower().partition(" (while attempting")[0]
        kind = AddressInUseError if error.errno == errno.EADDRINUSE else StartError
        raise kind(f"cannot listen on {address} ({key}): {reason}") from None


def _notice_vanished_clients(listening: socket.socket, interval_s: float) -> None:
    """Accepted connections inherit these (tcp(7)): they end when the other side is no longer there."""
    interval = max(1, round(interval_s))
    probe_interval = max(1, interval // 6)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe_interval)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    # Answers that nobody acknowledges: the kernel's own patience is a quarter of an hour.
    patience_ms = 1000 * (interval + _PROBES * probe_interval)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
