"""The test's hand on the scripted backend."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fault.harness.behaviour import EVERYBODY, Behaviour
from tests.support.ports import free_port
from tests.support.processes import Process


@dataclass(frozen=True)
class Arrivals:
    """What the backend stored."""

    times: dict[str, list[tuple[float, bool]]]
    """By item name, for each time that it came: monotonic seconds, and whether the sender was told that it is kept."""
    complaints: dict[str, int]
    """What was unreadable, or came under another tenant's name."""


class ScriptedBackend:
    """A running backend. Its tenants tell themselves apart by X-Scope-OrgID."""

    def __init__(self, port: int, control_port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", control_port), timeout=30)
        self._lines = self._socket.makefile("rb")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def destinations(self, **common: Any) -> dict[str, Any]:
        """This backend as the three kinds of destinations; `common` is set for each."""
        common = {"tenant_header": "X-Scope-OrgID", "retry": {"initial": "50ms", "max": "500ms"}, **common}
        return {
            "jaeger": {"type": "otlp", "endpoint": self.url, "protocol": "http", **common},
            "loki": {"type": "loki", "url": f"{self.url}/loki/api/v1/push", **common},
            "prometheus": {"type": "remote_write", "url": f"{self.url}/api/v1/write", **common},
        }

    def treat(self, *plan: Behaviour, tenant: str = EVERYBODY) -> None:
        """From now on, requests are treated by this plan."""
        self._ask({"do": "plan", "tenant": tenant, "plan": [one.as_json() for one in plan]})

    def arrivals(self) -> Arrivals:
        answer = self._ask({"do": "arrivals"})
        times = {name: [(at, told) for at, told in came] for name, came in answer["arrivals"].items()}
        return Arrivals(times, answer["complaints"])

    def stored_items(self) -> int:
        """Different items so far."""
        return int(self._ask({"do": "count"})["items"])

    def requests(self, tenant: str) -> int:
        return int(self._ask({"do": "count"})["requests"].get(tenant, 0))

    def _ask(self, order: dict[str, Any]) -> Any:
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        return json.loads(self._lines.readline())

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def _opens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def run_backend(folder: Path, *, seed: int = 1) -> Iterator[ScriptedBackend]:
    """Start a backend, and end it afterwards. It outlives every gateway that is started meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    port, control_port = free_port(), free_port()
    command = [sys.executable, "-m", "tests.fault.harness.backend", str(port), str(control_port), str(seed)]
    process = Process(command, log=folder / "backend.log")
    try:
        process.wait_ready(lambda: _opens(port) and _opens(control_port))
        backend = ScriptedBackend(port, control_port)
        try:
            yield backend
        finally:
            backend.close()
    finally:
        process.kill()
