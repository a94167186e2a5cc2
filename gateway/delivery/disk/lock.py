"""One queue folder, one gateway."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

LOCK_FILE = "gateway.lock"
_LOOK_S = 0.05


class LockedError(Exception):
    """Another process has the folder; the message says which."""


def lock_folder(folder: Path, wait_s: float) -> IO[str]:
    """The lock file, open and locked, with our process id in it. Raises LockedError after `wait_s`, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.fdopen(os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_LOOK_S)
                continue
            owner = lock.read(20).strip()
            lock.close()
            who = f" (process {owner})" if owner.isdecimal() else ""
            raise LockedError(
                f"another gateway uses the queue in {folder}{who}; stop it, take over from it (run --take-over), "
                "or name another queue.dir"
            ) from None
        except OSError:
            lock.close()
            raise
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return lock
