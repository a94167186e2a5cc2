"""Child processes that tests start, wait for and always stop."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Poll until `condition` holds. Raises TimeoutError, naming `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.02)


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        # A test may run the same thing twice: each reads its own lines only.
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self.child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.child.poll() is None

    def output(self) -> str:
        return self.log.read_bytes()[self._log_start :].decode(errors="replace")

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until `ready`; a process that ends meanwhile fails at once, with its output."""

        def ready_or_dead() -> bool:
            if not self.running:
                raise AssertionError(f"{self.child.args} ended with {self.child.returncode}:\n{self.output()[-4000:]}")
            return ready()

        try:
            wait_until(ready_or_dead, f"{self.child.args} to be ready", timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.output()[-4000:]}") from error

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        return self.child.wait(timeout_s)

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM, then SIGKILL for the whole process group; the exit code."""
        if self.running:
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(timeout_s)
        self.kill()
        return self.child.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL for the whole process group."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.child.wait(15)
