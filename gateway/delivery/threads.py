"""Work that would hold up the event loop, in a thread if there is one to be had."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

import structlog

log = structlog.get_logger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class OneThread(Executor):
    """One thread that does what it is given, in that order. It is there from the start (else RuntimeError).

    `post` is for who needs no future: to make and wait for one costs as much as a small commit.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            try:
                work()
            except Exception:
                # A bug in one must not stop the others.
                log.exception("work of a thread failed", thread=self._thread.name)
            # What it holds on to is not to wait for the next one.
            del work

    def post(self, work: Callable[[], object]) -> None:
        """Do this; what it raises goes to the log."""
        if self._ended:
            raise RuntimeError("the thread has ended")
        self._work.put(work)

    def submit(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future: Future[_T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the future's
                future.set_exception(error)
            else:
                future.set_result(result)

        self.post(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """What was given before is done first."""
        if not self._ended:
            self._ended = True
            self._work.put(None)
        if wait:
            self._thread.join()


async def in_thread(work: Callable[[], _T], threads: Executor | None = None) -> _T:
    """What `work` returns, done by one of `threads`, or of the loop's.

    On a machine that has no thread left it is done here: late is better than not sent.
    """
    try:
        future = asyncio.get_running_loop().run_in_executor(threads, work)
    except RuntimeError:
        return work()
    return await future
