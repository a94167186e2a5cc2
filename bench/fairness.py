"""Fairness: what nine tenants feel of a tenth that sends a hundred times its quota. Paired runs, alternating, bounded.

    python -m bench.fairness

Each of the nine sends at a fixed rate with h2load; their answers' 99th percentile and throughput with the tenth tenant
are set against those without it, in the median of the pairs.
"""

import shutil
import statistics
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.__main__ import is_open
from bench.systems import SINK_PORT
from gateway.send import payloads
from tests.support.gateway import sha256
from tests.support.processes import Process, wait_until

NEIGHBOURS = 9
PAIRS = 3
SECONDS = 8
ITEMS = 100
REQUESTS_PER_SECOND = 20
# Of the noisy tenant: its quota in items a second, and how many times that it sends.
QUOTA, TIMES = 1000, 100
PORT = 4317
PATH = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@dataclass(frozen=True)
class Felt:
    """By the nine together."""

    p99_ms: float
    per_second: float


def main() -> int:
    if shutil.which("h2load") is None:
        print("the bench drives with h2load: on Debian and Ubuntu, apt-get install nghttp2-client", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="gateway-fairness-") as name:
        folder = Path(name)
        body = payloads.traces(ITEMS).SerializeToString()
        (folder / "payload").write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
        sink = Process([sys.executable, "-m", "bench.blackhole", str(SINK_PORT)], log=folder / "sink.log")
        gateway = Process(_gateway(folder), log=folder / "gateway.log")
        try:
            for port in (SINK_PORT, PORT):
                wait_until(lambda port=port: is_open(port), f"port {port} to open")
            _run(folder, noisy=False, seconds=2)
            pairs = [(_run(folder, noisy=False), _run(folder, noisy=True)) for _ in range(PAIRS)]
        finally:
            gateway.stop()
            sink.stop()
    print(
        f"{NEIGHBOURS} tenants at {REQUESTS_PER_SECOND} requests/s of {ITEMS} spans; "
        f"a tenth sends {TIMES} times its quota"
    )
    for alone, beside in pairs:
        print(f"  alone: p99 {alone.p99_ms:6.2f} ms, {alone.per_second:6.1f}/s"
              f"   beside it: p99 {beside.p99_ms:6.2f} ms, {beside.per_second:6.1f}/s")  # fmt: skip
    p99 = statistics.median(beside.p99_ms / alone.p99_ms for alone, beside in pairs)
    throughput = statistics.median(beside.per_second / alone.per_second for alone, beside in pairs)
    print(f"  ratio of the medians: p99 {p99:.3f} (goal 1.10), throughput {throughput:.3f} (goal 0.90)")
    return 0 if p99 <= 1.10 and throughput >= 0.90 else 1


def _gateway(folder: Path) -> list[str]:
    keys = {f"t{number}": f"key-{number}" for number in range(NEIGHBOURS + 1)}
    tenants = {
        tenant: {
            "api_keys": [{"id": "k1", "sha256": sha256(key)}],
            "quotas": {"traces": {"items_per_second": QUOTA if tenant == "t0" else 10 * ITEMS * REQUESTS_PER_SECOND}},
        }
        for tenant, key in keys.items()
    }
    config = {
        "listen": {"grpc": f"127.0.0.1:{PORT}", "http": "127.0.0.1:0"},
        "admin": {"address": "127.0.0.1:0"},
        "destinations": {"otlp": {"type": "otlp", "endpoint": f"http://127.0.0.1:{SINK_PORT}", "protocol": "http"}},
        "queue": {"dir": str(folder / "queue"), "ack": "memory"},
        "defaults": {"routes": {"traces": ["otlp"]}, "mask": {"detectors": ["email", "credit_card"]}},
        "tenants": tenants,
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "gateway", "run", "-c", str(path)]


def _run(folder: Path, *, noisy: bool, seconds: int = SECONDS) -> Felt:
    neighbours = [
        _sender(folder, number, REQUESTS_PER_SECOND, seconds, clients=1) for number in range(1, NEIGHBOURS + 1)
    ]
    flood = [_sender(folder, 0, QUOTA * TIMES // ITEMS // 4, seconds, clients=4)] if noisy else []
    began = time.monotonic()
    for process in [*neighbours, *flood]:
        if process.wait(seconds + 60) != 0:
            raise RuntimeError(f"h2load failed:\n{process.output()[-2000:]}")
    took = time.monotonic() - began
    rows = [
        line.split("\t")
        for number in range(1, NEIGHBOURS + 1)
        for line in _log(folder, number).read_text().splitlines()
    ]
    if any(not row[1].startswith("2") for row in rows):
        raise RuntimeError("a neighbour's request failed")
    latencies = [float(row[2]) for row in rows]
    return Felt(statistics.quantiles(latencies, n=100)[98] / 1e3, len(rows) / took)


def _log(folder: Path, number: int) -> Path:
    return folder / f"h2load-{number}.log"


def _sender(folder: Path, number: int, per_client: int, seconds: int, *, clients: int) -> Process:
    _log(folder, number).unlink(missing_ok=True)
    command = [
        "h2load", "-n", str(per_client * clients * seconds), "-c", str(clients), "-m", "4", "-t", "1",
        f"--rps={per_client}", "-d", str(folder / "payload"), f"--log-file={_log(folder, number)}",
        "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", f"x-api-key: key-{number}",
        f"http://127.0.0.1:{PORT}{PATH}",
    ]  # fmt: skip
    return Process(command, log=folder / f"h2load-{number}.out")


if __name__ == "__main__":
    sys.exit(main())
