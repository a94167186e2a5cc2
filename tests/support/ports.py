"""Ports that nobody else takes between the moment they are found and the moment they are used."""

import socket
from collections.abc import Iterator
from pathlib import Path

_FIRST, _BLOCK = 10_000, 500
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_ELSEWHERE = 32_768
# Sockets that keep this process's blocks for it, until it ends.
_claims: list[socket.socket] = []


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free, and that no test of this machine is given again while this process lives.

    It is below the ports that the kernel hands out by itself: one of those could go to an outgoing connection, or to a
    listener on port 0, before it is used here. Raises RuntimeError when there are no more.
    """
    return next(_ports)


def _free_ports() -> Iterator[int]:
    for block in range(_FIRST, _first_ephemeral() - _BLOCK + 1, _BLOCK):
        if _claim(block):
            yield from filter(_can_be_bound, range(block, block + _BLOCK))
    raise RuntimeError("no free port is left for tests")


def _first_ephemeral() -> int:
    return int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _EPHEMERAL_ELSEWHERE


def _claim(block: int) -> bool:
    """Whether the block is this process's now. Workers and runs beside it have others: a name is bound only once."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0telemetry-gateway-test-ports-{block}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ports = _free_ports()
