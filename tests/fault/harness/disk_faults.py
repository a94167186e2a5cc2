"""The test's hand on the shim `disk_faults.c`: which call of the daemon's disk kills, fails or takes long."""

import errno
import mmap
import os
import shutil
import struct
import subprocess
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_SOURCE = Path(__file__).with_name("disk_faults.c")
# In the order of `struct control`; the last one is signed.
_FIELDS = ("processes", "calls", "syncs", "written", "kill_at", "kill_how", "fail_from", "fail_calls", "fail_errno",
           "failed", "room", "sync_delay_us", "clock_offset_ns")  # fmt: skip
FOREVER = (1 << 64) - 1


class Kill(IntEnum):
    """When the process dies, seen from the call that kills it."""

    BEFORE = 0
    AFTER = 1
    TORN = 2
    """With the first half of the bytes written."""


def compile_shim(folder: Path) -> Path:
    """The shared object, built in `folder`. Without a C compiler the test fails, in one line."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.fail("fault tests need a C compiler: install gcc or clang, or name one in CC", pytrace=False)
    built = folder / "disk_faults.so"
    command = [compiler, "-std=gnu11", "-O2", "-shared", "-fPIC", "-o", str(built), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return built


class DiskFaults:
    """A control file, and the environment that makes a daemon obey it. Counts go on over restarts of the daemon."""

    def __init__(self, shim: Path, folder: Path, control: Path) -> None:
        """`folder` is whose files are concerned; `control` is created."""
        folder.mkdir(parents=True, exist_ok=True)
        control.write_bytes(bytes(8 * len(_FIELDS)))
        self.env = {
            "LD_PRELOAD": str(shim),
            "DISK_FAULTS_FOLDER": str(folder),
            "DISK_FAULTS_CONTROL": str(control),
        }
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.heal()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._map.close()

    def __getitem__(self, name: str) -> int:
        form = "<q" if name == _FIELDS[-1] else "<Q"
        (value,) = struct.unpack_from(form, self._map, 8 * _FIELDS.index(name))
        return int(value)

    def __setitem__(self, name: str, value: int) -> None:
        form = "<q" if name == _FIELDS[-1] else "<Q"
        struct.pack_into(form, self._map, 8 * _FIELDS.index(name), value)

    def kill_at(self, calls_from_now: int, how: Kill) -> None:
        """The process ends with the call that is so many calls away; 1 is the next."""
        self["kill_how"] = how
        self["kill_at"] = self["calls"] + calls_from_now

    def fail(self, *, calls: int = FOREVER, after: int = 0, error: int = errno.EIO) -> None:
        """The next calls fail, so many of them, but for the first `after`."""
        self["fail_calls"] = calls
        self["fail_errno"] = error
        self["fail_from"] = self["calls"] + 1 + after

    def leave_room(self, size: int) -> None:
        """Files may grow by so many bytes together; beyond, there is no space left on the device."""
        self["room"] = size

    def slow_syncs(self, seconds: float) -> None:
        self["sync_delay_us"] = round(seconds * 1e6)

    def shift_clock(self, seconds: float) -> None:
        """The daemon's wall clock is off by so much from now on."""
        self["clock_offset_ns"] = round(seconds * 1e9)

    def heal(self) -> None:
        """The disk is well again, and has room; the clock stays as it is."""
        for name in ("kill_at", "fail_from", "sync_delay_us"):
            self[name] = 0
        self["room"] = FOREVER
