"""What is measured: how each system starts, and where it takes which signal."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.backends import CACHE

SINK_PORT = 9999
PEERS = Path(__file__).parent / "peers"
GRPC_PATHS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


@dataclass(frozen=True)
class System:
    """A process to load. `target` is where h2load sends; `grpc`: with gRPC's framing over HTTP/2."""

    name: str
    command: Callable[[Path], list[str]]
    port: int
    grpc: bool
    path: Callable[[str], str]


def _gateway(ack: str, *, masked: bool, relabelled: bool) -> System:
    def command(folder: Path) -> list[str]:
        sink = f"http://127.0.0.1:{SINK_PORT}"
        config = {
            "listen": {"grpc": "127.0.0.1:4317", "http": "127.0.0.1:4318"},
            "admin": {"address": "127.0.0.1:0"},
            "identity": [{"anonymous": {"tenant": "acme"}}],
            "destinations": {
                "otlp": {"type": "otlp", "endpoint": sink, "protocol": "http"},
                "loki": {"type": "loki", "url": f"{sink}/loki/api/v1/push"},
                "prometheus": {"type": "remote_write", "url": f"{sink}/api/v1/write"},
            },
            "queue": {"dir": str(folder / f"queue-{ack}"), "ack": ack},
            "defaults": {
                "routes": {"traces": ["otlp"], "logs": ["loki"], "metrics": ["prometheus"]},
                "relabel": {
                    "resource": [{"target_label": "deployment", "replacement": "bench"}],
                    "metrics": [{"action": "labeldrop", "regex": "server_address"}],
                },
            },
            "tenants": {"acme": {}},
        }
        if masked:
            config["defaults"]["mask"] = {"detectors": "default"}  # type: ignore[index]
        if not relabelled:
            del config["defaults"]["relabel"]  # type: ignore[attr-defined]
        path = folder / f"gateway-{ack}-{masked}-{relabelled}.yaml"
        path.write_text(yaml.safe_dump(config))
        return [sys.executable, "-m", "gateway", "run", "-c", str(path)]

    return System(f"gateway, ack: {ack}", command, 4317, True, GRPC_PATHS.__getitem__)


def _collector(config: str) -> System:
    command = [str(CACHE / "otelcol"), "--config", str(PEERS / config)]
    return System("collector", lambda _: command, 4317, True, GRPC_PATHS.__getitem__)


ROTEL = System(
    "rotel",
    lambda _: [
        str(CACHE / "rotel"), "start", "--exporter", "otlp",
        "--otlp-exporter-endpoint", f"http://127.0.0.1:{SINK_PORT}", "--otlp-exporter-protocol", "http",
        "--otlp-exporter-compression", "none",
    ],
    4317,
    True,
    GRPC_PATHS.__getitem__,
)  # fmt: skip
VMAGENT = System(
    "vmagent",
    lambda folder: [
        str(CACHE / "vmagent"), f"-remoteWrite.url=http://127.0.0.1:{SINK_PORT}/api/v1/write",
        "-remoteWrite.forcePromProto", "-httpListenAddr=127.0.0.1:4318",
        f"-remoteWrite.tmpDataPath={folder / 'vmagent'}",
    ],
    4318,
    False,
    lambda _signal: "/opentelemetry/v1/metrics",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the table: one job, the peer that does the same, and what to reach at 10 and 512 items."""

    work: str
    signal: str
    peer: System
    masked: bool
    relabelled: bool
    at_10: float
    at_512: float

    def gateway(self, ack: str) -> System:
        return _gateway(ack, masked=self.masked, relabelled=self.relabelled)


ROWS = (
    Row("traces: masked, labelled, forwarded", "traces", _collector("otelcol-masked.yaml"), True, True, 0.20, 0.10),
    Row("logs: masked, to Loki push", "logs", _collector("otelcol-masked.yaml"), True, True, 0.20, 0.10),
    Row("metrics: relabelled, to remote write", "metrics", VMAGENT, False, True, 0.60, 0.50),
    Row("traces: forwarded only", "traces", ROTEL, False, False, 0.30, 0.20),
)
