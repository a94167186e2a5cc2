"""A gateway under test: the real daemon in its own process, on free ports."""

import hashlib
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.audit.keys import generate
from tests.support.processes import Process, wait_until

ADMIN_TOKEN = "operator-token-of-the-tests"


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Gateway:
    """Addresses of a running daemon, and what its operator can see."""

    process: Process
    config_path: Path
    grpc: str = ""
    http: str = ""
    admin: str = ""
    tls: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def http_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.http}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.admin}"

    def metrics_page(self, timeout_s: float = 10) -> str:
        """`/_metrics`, as its operator sees it."""
        request = urllib.request.Request(
            f"{self.admin_url}/_metrics", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            page: str = response.read().decode()
        return page

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of `/_metrics`, by name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.metrics_page())
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> float:
        """Sum of the metric's samples that carry these labels."""
        wanted = set(labels.items())
        return sum(value for (known, have), value in self.metrics().items() if known == name and wanted <= have)

    def settled(self) -> bool:
        """Nothing is queued or under way."""
        return self.total("gateway_queued_items") == 0 and self.total("gateway_active_requests") == 0

    def wait_delivered(self, timeout_s: float = 30.0) -> None:
        wait_until(self.settled, "the queue to drain", timeout_s)

    def unaccounted(self) -> float:
        samples = self.metrics()
        return sum(abs(value) for (name, _), value in samples.items() if name == "gateway_unaccounted_items")

    def reload(self) -> None:
        """Take the configuration anew."""
        request = urllib.request.Request(
            f"{self.admin_url}/-/reload", method="POST", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200

    def stop(self) -> int:
        self.process.signal(signal.SIGTERM)
        return self.process.wait()


def base_config(folder: Path) -> dict[str, Any]:
    """Two tenants with a key each, everything to files; free ports."""
    return {
        "listen": {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0"},
        "admin": {
            "address": "127.0.0.1:0",
            "tokens": [{"name": "ops", "token": ADMIN_TOKEN, "tenant": "*"}],
        },
        "queue": {"dir": str(folder / "queue"), "max_bytes": "256MiB"},
        "destinations": {"disk": {"type": "file", "path": str(folder / "out" / "{tenant}.jsonl")}},
        "defaults": {"routes": {"traces": ["disk"], "metrics": ["disk"], "logs": ["disk"]}},
        "tenants": {
            "acme": {"api_keys": [{"id": "k1", "sha256": sha256("acme-key")}]},
            "globex": {"api_keys": [{"id": "k1", "sha256": sha256("globex-key")}]},
        },
    }


def accounted_config(folder: Path) -> dict[str, Any]:
    """`base_config` with an audit trail, usage and a pseudonym key; the trail's key is made if it is not there."""
    key_file = folder / "audit.key"
    if not key_file.exists():
        generate(key_file)
    return {
        **base_config(folder),
        "pseudonym_keys": {"main": {"versions": [{"version": 1, "key": "ab" * 32}]}},
        "audit": {"dir": str(folder / "audit"), "key_file": str(key_file)},
        "usage": {
            "path": str(folder / "usage.db"),
            "interval": "200ms",
            "prices": {"traces": {"per_gb": 10, "per_million_items": 0.5}},
        },
    }


def start_and_fail(
    folder: Path, config: dict[str, Any] | str, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """`gateway run` with a configuration, or in a place, that it must refuse."""
    path = folder / "gateway.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    command = [sys.executable, "-m", "gateway", "run", "-c", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@contextmanager
def run_gateway(
    folder: Path,
    config: dict[str, Any] | None = None,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """Start `gateway run`, with `env` added to its environment, wait until it accepts, and stop it afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config or base_config(folder), sort_keys=False))
    command = [sys.executable, "-m", "gateway", "run", "-c", path, *options]
    process = Process(command, log=folder / "gateway.log", env=env)
    gateway = Gateway(process, path, tls="tls" in (config or {}).get("listen", {}))

    def listening() -> bool:
        for line in process.output().splitlines():
            if line.startswith("{") and json.loads(line).get("message") == "listening":
                addresses = json.loads(line)["metadata"]
                gateway.grpc, gateway.http = addresses["grpc"], addresses["http"]
                gateway.admin = addresses["admin"]
                return True
        return False

    try:
        process.wait_ready(listening)
        yield gateway
    finally:
        process.stop()
