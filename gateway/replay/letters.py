"""A file of dead letters that a running gateway may still be writing to."""

import os
from collections.abc import Iterator
from pathlib import Path

from gateway.delivery.dead_letter import BadLetterError, Letter

_SUFFIX = ".replaying"


class LetterFile:
    """Taken out of the gateway's way for as long as its letters are sent.

    The gateway opens its file for each letter, so from the renaming on it begins a new one. If the replay is broken
    off, the letters are in FILE.replaying, which can be replayed as well.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, or FileExistsError if an earlier replay of the file was broken off."""
        self.path = path
        self.taken = path if path.name.endswith(_SUFFIX) else path.with_name(path.name + _SUFFIX)
        if self.taken != path:
            if self.taken.exists():
                raise FileExistsError(f"{self.taken} is left from a replay that was broken off: replay it first")
            path.rename(self.taken)

    def letters(self) -> Iterator[tuple[bytes, Letter | BadLetterError]]:
        """Each line and what it says, also those written while this goes on."""
        return read_letters(self.taken)

    def leave(self, rest: list[bytes]) -> Path | None:
        """Only these lines stay, in the file that is returned; None: there are none, and no file."""
        if not rest:
            self.taken.unlink()
            return None
        fresh = self.taken.with_name(self.taken.name + ".new")
        with fresh.open("wb") as file:
            file.writelines(rest)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.taken)
        return self.taken


def read_letters(path: Path) -> Iterator[tuple[bytes, Letter | BadLetterError]]:
    """Raises OSError."""
    with path.open("rb") as file:
        for line in file:
            if line.isspace():
                continue
            try:
                yield line, Letter.parse(line)
            except BadLetterError as error:
                yield line, error
