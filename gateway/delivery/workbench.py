"""Reading from disk and compressing: work in threads, whose turns are fair over tenants."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from gateway.delivery.fair_slots import FairSlots
from gateway.delivery.threads import in_thread

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Both let go of the GIL; more threads than a small machine has cores would only take turns.
_THREADS = 2
# What they work on at once, before what they make of it.
_MAX_BYTES = 32 << 20
# Less work than this takes less time than handing it to a thread.
_INLINE_BYTES = 64 << 10


class Workbench:
    """Two threads for all destinations: who has much to do waits for who has little."""

    def __init__(self) -> None:
        self._slots = FairSlots(_THREADS, _MAX_BYTES)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="delivery")

    async def run(self, tenant: str, size: int, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the function, which will work on `size` bytes, in a turn of the tenant; small work at once, here."""
        if size <= _INLINE_BYTES:
            return function(*args, **kwargs)
        async with self._slots.turn(tenant, size):
            return await in_thread(lambda: function(*args, **kwargs), self._threads)

    def close(self) -> None:
        """Does not wait for work whose result nobody wants any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
