"""Pages of a mapped file that were read once need not stay in our memory: the kernel keeps them, and maps them again.

Without this, a backlog that is read through makes the process as large as the backlog, in its own eyes and in those of
whoever kills processes that are too large.
"""

import ctypes
import mmap
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Mapping:
    """Where a file is mapped, shared and read-only, in this process."""

    def __init__(self, file: Path, drop_every_bytes: int) -> None:
        """Look it up; a mapping that is not found is never dropped. Raises OSError."""
        self._ranges = _ranges(file)
        self._every = drop_every_bytes
        self._read = 0

    def has_read(self, size: int) -> None:
        """So much was read through the mapping; now and then that drops its pages.

        MADV_DONTNEED on a shared mapping of a file loses nothing: the next access takes the page from the page cache
        (madvise(2)). So it may happen while others read.
        """
        self._read += size
        if self._read < self._every:
            return
        self._read = 0
        for start, length in self._ranges:
            _libc.madvise(start, length, mmap.MADV_DONTNEED)


def _ranges(file: Path) -> list[tuple[int, int]]:
    status = file.stat()
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        # address, permissions, offset, device, inode, path: proc(5). A file system in layers may name a device of its
        # own here, so that inode and name tell which file it is.
        addresses, permissions, _, _, inode, *name = line.split(maxsplit=5)
        if int(inode) == status.st_ino and permissions == "r--s" and name and Path(name[0]).name == file.name:
            start, end = (int(address, 16) for address in addresses.split("-"))
            found.append((start, end - start))
    return found
