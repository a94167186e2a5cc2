"""The daemon under fire: killed, stopped and started again on the same ports and the same queue."""

import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.fault.harness.backend_control import ScriptedBackend
from tests.fault.harness.disk_faults import DiskFaults
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.ports import free_port
from tests.support.processes import Process, wait_until


def config_for(folder: Path, backend: ScriptedBackend, tenants: list[str], **common: Any) -> dict[str, Any]:
    """Every signal of every tenant to the scripted backend, from fixed ports; a tenant's key is its name and `-key`."""
    config = base_config(folder)
    config["listen"] = {"grpc": f"127.0.0.1:{free_port()}", "http": f"127.0.0.1:{free_port()}"}
    config["admin"]["address"] = f"127.0.0.1:{free_port()}"
    config["destinations"] = backend.destinations(**common)
    config["defaults"] = {"routes": {"traces": ["jaeger"], "metrics": ["prometheus"], "logs": ["loki"]}}
    config["tenants"] = {tenant: {"api_keys": [{"id": "k1", "sha256": sha256(f"{tenant}-key")}]} for tenant in tenants}
    config["drain_timeout"] = "10s"
    return config


class Daemon:
    """One queue folder and one configuration, and the processes that run on them one after the other. A context."""

    def __init__(self, folder: Path, config: dict[str, Any], faults: DiskFaults | None = None) -> None:
        self.folder = folder
        self.config = config
        self.interruptions: list[float] = []
        """Monotonic seconds of each kill and stop."""
        self.dropped: Counter[str] = Counter()
        """Items dropped by reason, of the processes before; known of those that were asked before they ended."""
        self.peak_rss_mib = 0.0
        self.start_s = 0.0
        """How long the last start took, until it listened."""
        self._env = faults.env if faults is not None else None
        self._running = ExitStack()
        self._gateway: Gateway | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._running.close()

    @property
    def gateway(self) -> Gateway:
        assert self._gateway is not None, "it is started first"
        return self._gateway

    def start(self) -> None:
        """Start, and wait until it listens."""
        began = time.monotonic()
        self._gateway = self._running.enter_context(run_gateway(self.folder, self.config, env=self._env))
        self.start_s = time.monotonic() - began

    def start_to_die(self, timeout_s: float = 30.0) -> None:
        """Start a process that something, or after `timeout_s` we, will kill before or while it listens."""
        command = [sys.executable, "-m", "gateway", "run", "-c", str(self.folder / "gateway.yaml")]
        process = Process(command, log=self.folder / "gateway.log", env=self._env)
        deadline = time.monotonic() + timeout_s
        while process.running and time.monotonic() < deadline:
            time.sleep(0.005)
        self.interruptions.append(time.monotonic())
        process.kill()

    def kill(self) -> None:
        """kill -9, and what the process was at that moment is gone."""
        self._note_memory()
        self.gateway.process.kill()
        self.interruptions.append(time.monotonic())
        self._running.close()

    def wait_killed(self, timeout_s: float = 20.0) -> None:
        """The disk shim kills it. Raises TimeoutError if it does not."""
        process = self.gateway.process
        wait_until(lambda: not process.running, "the process to be killed", timeout_s)
        self.interruptions.append(time.monotonic())
        assert process.child.returncode == -signal.SIGKILL, process.output()[-4000:]
        self._running.close()

    def stop(self) -> int:
        """SIGTERM, to its end; the exit code."""
        self._note()
        self.interruptions.append(time.monotonic())
        code = self.gateway.stop()
        self.interruptions.append(time.monotonic())
        self._running.close()
        return code

    def write_config(self) -> None:
        """So that a reload finds what `config` has become."""
        (self.folder / "gateway.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def all_dropped(self) -> Counter[str]:
        """Items dropped by reason, since the first start, up to now."""
        return self.dropped + self._dropped_now()

    def memory(self) -> dict[str, float]:
        """MiB by the names of /proc/PID/status, such as VmHWM, VmRSS and RssAnon."""
        self._note_memory()
        return _memory(self.gateway.process.child.pid)

    def at_rest(self, timeout_s: float = 30.0) -> None:
        """Wait until nothing is queued or under way; then every item is accounted for."""
        waited_s, deadline = 0.02, time.monotonic() + timeout_s
        while any((now := self.ledger()).values()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout_s} s these were not 0: {now}")
            # A page of thousands of tenants is not asked for again at once.
            time.sleep(waited_s)
            waited_s = min(1.0, waited_s * 1.5)
        self._note_memory()

    def ledger(self) -> dict[str, float]:
        """What is 0 at rest: the sums of these metrics, of `gateway_unaccounted_items` regardless of sign."""
        sums = dict.fromkeys(("gateway_queued_items", "gateway_active_requests", "gateway_unaccounted_items"), 0.0)
        for line in self.gateway.metrics_page(timeout_s=60).splitlines():
            name = line.partition("{")[0].partition(" ")[0]
            if name in sums:
                sums[name] += abs(float(line.rpartition(" ")[2]))
        return sums

    def _note(self) -> None:
        self.dropped += self._dropped_now()
        self._note_memory()

    def _dropped_now(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in self.gateway.metrics_page(timeout_s=60).splitlines():
            if line.startswith("gateway_dropped_items_total{"):
                reason = line.partition('reason="')[2].partition('"')[0]
                found[reason] += int(float(line.rpartition(" ")[2]))
        return +found

    def _note_memory(self) -> None:
        # One that is dead, but not waited for yet, has no memory.
        if self.gateway.process.running:
            peak = _memory(self.gateway.process.child.pid).get("VmHWM", 0.0)
            self.peak_rss_mib = max(self.peak_rss_mib, peak)


def _memory(pid: int) -> dict[str, float]:
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines}
