"""sd_notify(3): tells systemd, or whoever set NOTIFY_SOCKET, how the daemon is."""

import os
import socket


def notify(*states: str) -> None:
    """Send states such as `READY=1`. Does nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto("\n".join(states).encode(), _path(address))
        except OSError as error:
            import structlog

            structlog.get_logger(__name__).warning("systemd could not be notified", error=str(error))


def _path(address: str) -> str:
    """An address that begins with @ is in the abstract namespace, which the kernel marks with NUL."""
    return f"\0{address[1:]}" if address.startswith("@") else address
