"""What tells that a file was changed, without reading it."""

from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[int, int, int] | None
"""Time of the last change, size and inode; None: the file cannot be looked at.

The inode, since secrets mounted into containers change by swapped symlinks.
"""


def stamp_of(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def stamps_of(files: Iterable[Path]) -> tuple[Stamp, ...]:
    return tuple(map(stamp_of, files))
