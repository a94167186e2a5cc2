"""Tests that measure time run alone, also where several workers share the machine."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """One for each worker of a run, on the same folder; the locks end with the process."""

    def __init__(self, folder: Path) -> None:
        self._door, self._room = (
            os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o600) for name in ("door.lock", "room.lock")
        )
        self._stays = False

    @contextmanager
    def turn(self, *, alone: bool, stays: bool = False) -> Iterator[None]:
        """Wait until the others let this one in, which then keeps them out if it is to be `alone`.

        `stays`: the next turn is alone too, and follows without letting anybody in: each wait for the others is one for
        the longest of their tests.
        """
        if not self._stays:
            self._come_in(fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._stays = alone and stays
        try:
            yield
        finally:
            if not self._stays:
                fcntl.flock(self._room, fcntl.LOCK_UN)

    def _come_in(self, how: int) -> None:
        # Who waits for the room to be empty stands in the door, so that nobody goes in before.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, how)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
