"""Files that others may change: secrets and certificates of destinations."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from gateway.delivery.threads import in_thread
from gateway.stamps import stamps_of

# A file is looked at when something is sent, but no more often than this.
LOOK_INTERVAL_S = 1.0

_T = TypeVar("_T")


class Watched(Generic[_T]):
    """What was made of some files, made again when one of them has changed.

    Looked at by time and inode, not notified: secrets mounted into containers change by swapped symlinks.
    """

    def __init__(
        self,
        files: Sequence[Path],
        make: Callable[[], _T],
        failed: Callable[[Exception], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` reads the files, and is called here and later in a thread. Raises what it raises, here.

        `failed` is told of an OSError or ValueError that it raised later; then what was there before stays.
        """
        self._files = tuple(files)
        self._make = make
        self._failed = failed
        self._monotonic = monotonic
        # Looked at before it is read: what changes in between is seen at the next look.
        self._stamp = stamps_of(self._files)
        self._value = make()
        self._next_look = monotonic() + LOOK_INTERVAL_S

    async def get(self, *, look: bool = False) -> _T:
        """As new as the last look, which is a second old at most, or under way. With `look` there is one now."""
        now = self._monotonic()
        if self._files and (look or now >= self._next_look):
            self._next_look = now + LOOK_INTERVAL_S
            await in_thread(self._refresh)
        return self._value

    def _refresh(self) -> None:
        stamp = stamps_of(self._files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._value = self._make()
        except (OSError, ValueError) as error:
            self._failed(error)
