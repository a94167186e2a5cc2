"""How a process comes by its ports and its queue: they are free, it waits for them, or they are handed over."""

import asyncio
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from gateway.config.models import Config
from gateway.delivery.queue import QueueInUseError
from gateway.handover import Predecessor
from gateway.sockets import AddressInUseError, Sockets

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LOOK_S = 0.1
# A process that ends lets go of its files one after the other.
_SETTLE_S = 5.0
# What a predecessor may take beyond its drain_timeout.
_MARGIN_S = 10.0
# Files beside the connections: listeners, the queue, connections to backends.
_OTHER_FILES = 512


class Entrance:
    """The way in, once a process."""

    def __init__(self, *, take_over: bool = False, wait_s: float = 0.0, kept: Sockets | None = None) -> None:
        """`take_over`: from the gateway that uses the queue folder, if there is one. `wait_s`: how long to wait for
        ports and queue that are in use. `kept`: of an earlier run of this process.
        """
        self._take_over = take_over
        self._wait_s = wait_s if kept is None else _SETTLE_S
        self._kept = kept
        self._predecessor: Predecessor | None = None

    async def sockets(self, config: Config) -> Sockets:
        """Raises StartError."""
        if self._kept is not None:
            return self._kept
        if self._take_over:
            self._predecessor = await asyncio.to_thread(Predecessor.find, config.queue.dir)
            if self._predecessor is None:
                log.info("no gateway runs on this queue; there is nothing to take over", queue=str(config.queue.dir))
        inherited = self._predecessor.ports if self._predecessor is not None else None
        return await self._patiently(AddressInUseError, lambda: _now(lambda: Sockets.bind(config, inherited)))

    async def queue(self, config: Config, open_queue: Callable[[], Awaitable[T]]) -> T:
        """What `open_queue` opens, when the queue is free. A predecessor stops now. Raises StartError or QueueError."""
        if self._predecessor is not None:
            log.info("taking over", predecessor=self._predecessor.pid)
            await asyncio.to_thread(self._predecessor.go, config.drain_timeout + _MARGIN_S)
            self._wait_s = max(self._wait_s, _SETTLE_S)
        return await self._patiently(QueueInUseError, open_queue)

    @property
    def serves_on(self) -> str:
        """To be said beside what is wrong: who serves, if this process does not."""
        return "; the gateway that runs serves on" if self._predecessor is not None else ""

    def serving(self) -> None:
        """This process serves; a predecessor may end."""
        if self._predecessor is None:
            return
        self._predecessor.serving()
        log.info("took over", predecessor=self._predecessor.pid)
        self._predecessor = None

    async def _patiently(self, in_use: type[Exception], attempt: Callable[[], Awaitable[T]]) -> T:
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return await attempt()
            except in_use as error:
                if time.monotonic() >= deadline:
                    raise
                if self._wait_s > _SETTLE_S:
                    log.info("waiting", reason=str(error), seconds=round(deadline - time.monotonic()))
            await asyncio.sleep(min(_LOOK_S, max(0.0, deadline - time.monotonic())))


async def _now(make: Callable[[], T]) -> T:
    return make()


async def start_successor() -> None:
    """Start this command again, to take over from this process; returns when it ends, which it should not before."""
    arguments = [*sys.orig_argv]
    if "--take-over" not in arguments:
        arguments.append("--take-over")
    try:
        child = await asyncio.create_subprocess_exec(*arguments)
    except OSError as error:
        log.error("no successor can be started; this process serves on", error=str(error))
        return
    log.info("started a successor", pid=child.pid)
    code = await child.wait()
    log.error("the successor ended; this process serves on", pid=child.pid, exit_code=code)


def allow_files(max_connections: int) -> None:
    """Raise the limit of open files as far as it goes; say so if the connections do not fit."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + _OTHER_FILES
    allowed = needed if most == resource.RLIM_INFINITY else min(needed, most)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    if most != resource.RLIM_INFINITY and most < needed:
        log.warning(
            "fewer files may be open than connections; raise the limit (LimitNOFILE=, ulimit -n) or lower "
            "listen.max_connections",
            allowed=most,
            needed=needed,
        )
