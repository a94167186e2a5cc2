"""The real backends: Prometheus, VictoriaLogs (it speaks Loki push) and Jaeger, built by `make backends`."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.processes import Process

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "telemetry-gateway" / "backends"


def binary(name: str) -> Path:
    """The built backend; without it the test is skipped, or fails under CI=true."""
    path = CACHE / name
    if not path.exists():
        message = f"{name} is not built: run `make backends` first"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def get(url: str, **query: str) -> bytes:
    """The body of a GET; raises urllib.error.URLError."""
    if query:
        url = f"{url}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as response:
        body: bytes = response.read()
        return body


def answers(url: str) -> bool:
    try:
        get(url)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True


@dataclass(frozen=True)
class Prometheus:
    url: str

    @property
    def write_url(self) -> str:
        return f"{self.url}/api/v1/write"

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result vector of an instant query."""
        answer = json.loads(get(f"{self.url}/api/v1/query", query=promql))
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def everything(self) -> str:
        """Every series with its labels and metadata, as text: for looking for what must not be there."""
        series = get(f"{self.url}/api/v1/series", **{"match[]": '{__name__=~".+"}'})
        exemplars = get(f"{self.url}/api/v1/query_exemplars", query='{__name__=~".+"}', start="0", end="9999999999")
        return (series + exemplars + get(f"{self.url}/api/v1/metadata")).decode()


@dataclass(frozen=True)
class VictoriaLogs:
    url: str

    @property
    def push_url(self) -> str:
        return f"{self.url}/insert/loki/api/v1/push"

    def query(self, logsql: str) -> list[dict[str, str]]:
        """The matching log entries with all their fields."""
        return [json.loads(line) for line in get(f"{self.url}/select/logsql/query", query=logsql).splitlines()]

    def everything(self) -> str:
        return get(f"{self.url}/select/logsql/query", query="*", limit="100000").decode()


@dataclass(frozen=True)
class Jaeger:
    url: str
    grpc: str
    http: str

    def traces(self, service: str) -> list[dict[str, Any]]:
        answer = json.loads(get(f"{self.url}/api/traces", service=service, limit="1000"))
        result: list[dict[str, Any]] = answer["data"]
        return result

    def services(self) -> list[str]:
        answer = json.loads(get(f"{self.url}/api/services"))
        return answer["data"] or []

    def everything(self) -> str:
        return json.dumps([self.traces(service) for service in self.services()])


@contextmanager
def run_prometheus(
    folder: Path, otlp: Mapping[str, Any] | None = None, *, receives: bool = True
) -> Iterator[Prometheus]:
    """Prometheus that scrapes nothing; `otlp` is that section of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1h"}, "otlp": otlp or {}}))
    command = [
        binary("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage,metadata-wal-records",
        *(("--web.enable-remote-write-receiver", "--web.enable-otlp-receiver") if receives else ()),
    ]
    process = Process(command, log=folder / "prometheus.log")
    try:
        process.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/-/ready"))
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.stop()


@contextmanager
def run_victoria_logs(folder: Path) -> Iterator[VictoriaLogs]:
    port = free_port()
    command = [
        binary("victoria-logs"),
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={folder / 'victoria-logs'}",
        "-inmemoryDataFlushInterval=100ms",
        "-retentionPeriod=10y",
    ]
    process = Process(command, log=folder / "victoria-logs.log")
    try:
        process.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield VictoriaLogs(f"http://127.0.0.1:{port}")
    finally:
        process.stop()


JAEGER_CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {{metrics: {{level: none}}, logs: {{level: info}}}}
extensions:
  jaeger_storage: {{backends: {{mem: {{memory: {{max_traces: 100000}}}}}}}}
  jaeger_query:
    storage: {{traces: mem}}
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
  healthcheckv2: {{use_v2: true, http: {{endpoint: "127.0.0.1:{health}"}}}}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  jaeger_storage_exporter: {{trace_storage: mem}}
"""


@contextmanager
def run_jaeger(folder: Path) -> Iterator[Jaeger]:
    ports = {name: free_port() for name in ("query", "query_grpc", "health", "grpc", "http")}
    config = folder / "jaeger.yaml"
    config.write_text(JAEGER_CONFIG.format(**ports))
    process = Process(
        [binary("jaeger"), "--config", config], log=folder / "jaeger.log", env={"OTEL_TRACES_SAMPLER": "always_off"}
    )
    query = f"http://127.0.0.1:{ports['query']}"
    try:
        process.wait_ready(lambda: answers(f"{query}/api/services"))
        yield Jaeger(query, grpc=f"http://127.0.0.1:{ports['grpc']}", http=f"http://127.0.0.1:{ports['http']}")
    finally:
        process.stop()
