"""Hand-over: a new process takes the listening sockets of the one that runs, so that a restart refuses no connection.

The sockets themselves are passed (SCM_RIGHTS, unix(7)). The queue of connections that wait to be accepted belongs to
the socket, not to a process, so none is lost. Two sockets on one port (SO_REUSEPORT) have a queue each, and what waits
in the older one's is reset when it closes.

They meet at a Unix socket in the queue folder, which only the gateway's user may enter. What they say, a JSON object a
message, the new process first: `hello`; the sockets; `go`, from where on the old one stops; `released`, when the queue
is free; `serving`. If the new process goes away before that, the old one carries on, if need be anew.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import structlog

from gateway.sockets import Port, Sockets, StartError

log = structlog.get_logger(__name__)

_NAME = "hand-over.sock"
_MAX_MESSAGE = 4096
# For an answer that takes no work.
_ANSWER_TIMEOUT_S = 5.0
# Between its hello and its go the new process builds what it can.
_PREPARE_TIMEOUT_S = 60.0
# sun_path of unix(7) holds 108 bytes with the closing NUL.
_MAX_PATH = 107


class Predecessor:
    """The process that serves now, as the new one sees it. Its methods block."""

    def __init__(self, channel: socket.socket, pid: int, ports: dict[str, Port]) -> None:
        self._channel = channel
        self.pid = pid
        self.ports = ports
        """Its sockets, by name."""

    @classmethod
    def find(cls, folder: Path) -> "Predecessor | None":
        """Ask the gateway that uses this queue folder for its sockets; None if none answers there.

        Raises StartError if it does not give them. It serves on, whatever happens, until `go`.
        """
        channel = _socket()
        channel.settimeout(_ANSWER_TIMEOUT_S)
        try:
            with _address(folder) as address:
                channel.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            # No gateway runs here, or one was killed.
            channel.close()
            return None
        except OSError as error:
            channel.close()
            raise StartError(f"cannot ask for a hand-over in {folder}: {error.strerror or error}") from None
        try:
            pid = _pid_of_same_user(channel)
            channel.send(orjson.dumps({"say": "hello"}))
            data, descriptors, _, _ = socket.recv_fds(channel, _MAX_MESSAGE, 16)
            sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            offered = _message(data).get("ports", {})
            ports = {
                name: Port(address, bound) for (name, address), bound in zip(offered.items(), sockets, strict=True)
            }
        except (OSError, ValueError) as error:
            channel.close()
            raise StartError(f"the gateway that uses {folder} hands nothing over: {error}") from None
        if not ports:
            channel.close()
            raise StartError(f"the gateway that uses {folder} is handing over to another process")
        return cls(channel, pid, ports)

    def go(self, timeout_s: float) -> None:
        """Let it stop; returns when it has left the queue. Raises StartError if it takes longer."""
        self._channel.settimeout(timeout_s)
        try:
            self._channel.send(orjson.dumps({"say": "go"}))
            # An end without a word: it died, and the queue is free as well.
            self._channel.recv(_MAX_MESSAGE)
        except TimeoutError:
            self._channel.close()
            raise StartError(
                f"process {self.pid} has not left the queue within {timeout_s:g} s; it serves on"
            ) from None
        except OSError as error:
            log.warning("the predecessor went away", pid=self.pid, error=str(error))

    def serving(self) -> None:
        """Let it end: from here on this process serves."""
        # It may be gone already.
        with contextlib.suppress(OSError):
            self._channel.send(orjson.dumps({"say": "serving"}))
        self._channel.close()

    def close(self) -> None:
        """Serve after all: it carries on."""
        self._channel.close()
        for port in self.ports.values():
            port.bound.close()


class Successor:
    """The process that takes over, as the old one sees it after its go."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel = channel
        self.pid = pid

    def release(self) -> None:
        """The queue is free."""
        # If it is gone, `serves` tells.
        with contextlib.suppress(OSError):
            self._channel.send(orjson.dumps({"say": "released"}))

    async def serves(self) -> bool:
        """Wait until it serves: True; or until it ends without: False."""
        try:
            said = await asyncio.get_running_loop().sock_recv(self._channel, _MAX_MESSAGE)
            return bool(said) and _message(said).get("say") == "serving"
        except (OSError, ValueError):
            return False
        finally:
            self._channel.close()


class HandOver:
    """Where a running daemon waits for its successor."""

    def __init__(self, folder: Path, sockets: Sockets, on_go: Callable[[Successor], None]) -> None:
        """`on_go` is called once, when a successor is ready: this process is to stop."""
        self._folder = folder
        self._ports = sockets.by_name()
        self._on_go = on_go
        self._door: socket.socket | None = None
        self._waiting: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Wait from now on. The queue folder is locked for this process, so what lies there is a dead one's."""
        door = _socket()
        try:
            (self._folder / _NAME).unlink(missing_ok=True)
            with _address(self._folder) as address:
                door.bind(address)
            door.listen(4)
        except OSError as error:
            door.close()
            log.warning("no other process will be able to take over", folder=str(self._folder), error=str(error))
            return
        door.setblocking(False)
        self._door = door
        self._waiting = asyncio.create_task(self._wait(door), name="hand-over")

    def close(self) -> None:
        """Wait no more."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._shut()

    def _shut(self) -> None:
        if self._door is None:
            return
        self._door.close()
        self._door = None
        with contextlib.suppress(OSError):
            (self._folder / _NAME).unlink(missing_ok=True)

    async def _wait(self, door: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            channel, _ = await loop.sock_accept(door)
            channel.setblocking(False)
            try:
                pid = _pid_of_same_user(channel)
                if await self._prepare(channel, pid):
                    # Before the successor opens one of its own.
                    self._shut()
                    self._on_go(Successor(channel, pid))
                    return
                log.info("a process that wanted to take over went away", pid=pid)
            except (OSError, ValueError) as error:
                log.warning("a hand-over failed; this process serves on", error=str(error) or type(error).__name__)
            channel.close()

    async def _prepare(self, channel: socket.socket, pid: int) -> bool:
        """Give it the sockets. True when it says go, False if it goes away. Raises OSError or ValueError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            if not await loop.sock_recv(channel, _MAX_MESSAGE):
                return False
        offer = orjson.dumps({"ports": {name: port.configured for name, port in self._ports.items()}})
        socket.send_fds(channel, [offer], [port.bound.fileno() for port in self._ports.values()])
        log.info("a process prepares to take over", pid=pid)
        async with asyncio.timeout(_PREPARE_TIMEOUT_S):
            said = await loop.sock_recv(channel, _MAX_MESSAGE)
        return bool(said) and _message(said).get("say") == "go"


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def _message(data: bytes) -> dict[str, Any]:
    """Raises ValueError for what is no message."""
    message = orjson.loads(data)
    if not isinstance(message, dict):
        raise ValueError("not a message of a hand-over")  # noqa: TRY004 - of JSON, not of Python
    return message


def _pid_of_same_user(channel: socket.socket) -> int:
    """Raises PermissionError if another user is on the other side."""
    pid, uid, _ = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid not in (os.geteuid(), 0):
        raise PermissionError(f"process {pid} is another user's")
    return int(pid)


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's path; of a folder whose path is too long for unix(7) by way of an open descriptor of it."""
    path = str(folder / _NAME)
    if len(os.fsencode(path)) <= _MAX_PATH:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)
