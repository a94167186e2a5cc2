"""Work that would hold up the event loop, in a thread if there is one to be had."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T], threads: Executor | None = None) -> _T:
    """What `work` returns, done by one of `threads`, or of the loop's.

    On a machine that has no thread left it is done here: late is better than not sent.
    """
    try:
        future = asyncio.get_running_loop().run_in_executor(threads, work)
    except RuntimeError:
        return work()
    return await future
