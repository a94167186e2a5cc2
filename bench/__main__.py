"""`make bench`: drives each system with h2load over loopback, bounded, and prints ratios.

CPU is user + system time of the whole process tree, from the first request until the last batch has left.
"""

import argparse
import shutil
import socket
import statistics
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.systems import ROWS, SINK_PORT, Row, System
from gateway.send import payloads
from tests.support.processes import Process

_CONNECTIONS, _STREAMS = 4, 8
# About as many items in each run, so that each takes a few seconds of the slowest system.
_ITEMS_PER_RUN = 400_000
_MAX_REQUESTS = 12_000
_SETTLE_S = 1.5


@dataclass(frozen=True)
class Result:
    cpu_us: float
    rss_mib: float
    p50_ms: float
    p99_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--sizes", default="10,512", help="items a request: any of 1,10,100,512,2000")
    parser.add_argument("--acks", default="memory,durable")
    options = parser.parse_args()
    if shutil.which("h2load") is None:
        print("the bench drives with h2load: on Debian and Ubuntu, apt-get install nghttp2-client", file=sys.stderr)
        return 2
    sizes = [int(size) for size in options.sizes.split(",")]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        sink = Process([sys.executable, "-m", "bench.blackhole", str(SINK_PORT)], log=folder / "sink.log")
        sink.wait_ready(lambda: is_open(SINK_PORT))
        try:
            print(f"{'work':38}{'system':22}{'items':>6}{'CPU us/req':>12}{'ratio':>8}{'goal':>7}"
                  f"{'RSS MiB':>9}{'p50 ms':>8}{'p99 ms':>8}")  # fmt: skip
            for row in ROWS:
                for size in sizes:
                    missed += _row(row, size, options.acks.split(","), folder)
        finally:
            sink.stop()
    return 1 if missed else 0


def _row(row: Row, size: int, acks: list[str], folder: Path) -> int:
    peer = measure(row.peer, row.signal, size, folder)
    _print(row.work, row.peer.name, size, peer, None, None)
    goal = {10: row.at_10, 512: row.at_512}.get(size)
    missed = 0
    for ack in acks:
        ours = measure(row.gateway(ack), row.signal, size, folder)
        ratio = ours.cpu_us / peer.cpu_us
        # The goals are for ack: memory.
        wanted = goal if ack == "memory" else None
        missed += wanted is not None and ratio > wanted
        _print(row.work, f"gateway, ack: {ack}", size, ours, ratio, wanted)
    return missed


def _print(work: str, system: str, size: int, result: Result, ratio: float | None, goal: float | None) -> None:
    shown_ratio = "" if ratio is None else f"{ratio:.3f}"
    shown_goal = "" if goal is None else f"{goal:.2f}"
    print(
        f"{work:38}{system:22}{size:>6}{result.cpu_us:>12.1f}{shown_ratio:>8}{shown_goal:>7}"
        f"{result.rss_mib:>9.0f}{result.p50_ms:>8.2f}{result.p99_ms:>8.2f}",
        flush=True,
    )


def measure(system: System, signal: str, size: int, folder: Path, *, connections: int = _CONNECTIONS) -> Result:
    body = _payload(signal, size)
    if system.grpc:
        body = b"\0" + struct.pack(">I", len(body)) + body
    data = folder / "payload"
    data.write_bytes(body)
    requests = min(_MAX_REQUESTS, max(400, _ITEMS_PER_RUN // size))
    process = Process(system.command(folder), log=folder / "system.log")
    try:
        process.wait_ready(lambda: is_open(system.port))
        time.sleep(0.5)
        _load(system, signal, data, requests // 10, folder, connections)
        time.sleep(_SETTLE_S)
        before = _cpu_s(process)
        latencies = _load(system, signal, data, requests, folder, connections)
        time.sleep(_SETTLE_S)
        cpu = _cpu_s(process) - before
        rss = _peak_rss(process)
    finally:
        process.stop()
    percentiles = statistics.quantiles(latencies, n=100)
    return Result(cpu / requests * 1e6, rss / (1 << 20), percentiles[49] / 1e3, percentiles[98] / 1e3)


def _payload(signal: str, size: int) -> bytes:
    if signal == "metrics":
        return payloads.metrics(size).SerializeToString()
    builder = payloads.traces if signal == "traces" else payloads.logs
    return builder(size).SerializeToString()


def _load(system: System, signal: str, data: Path, requests: int, folder: Path, connections: int) -> list[float]:
    """Response times in microseconds. Fails if a request did not succeed."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    content_type = "application/grpc" if system.grpc else "application/x-protobuf"
    command = [
        "h2load", *([] if system.grpc else ["--h1"]), "-n", str(requests), "-c", str(connections),
        "-m", str(_STREAMS if system.grpc else 1), "-t", "1", "-d", data, f"--log-file={log}",
        "-H", f"content-type: {content_type}", *(["-H", "te: trailers"] if system.grpc else []),
        f"http://127.0.0.1:{system.port}{system.path(signal)}",
    ]  # fmt: skip
    h2load = Process(command, log=folder / "h2load.out")
    if h2load.wait(300) != 0:
        raise RuntimeError(f"h2load failed:\n{h2load.output()[-2000:]}")
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    failed = [row for row in rows if not row[1].startswith("2")]
    if failed or len(rows) < requests:
        raise RuntimeError(f"{system.name}: {len(failed)} of {len(rows)} requests failed")
    return [float(row[2]) for row in rows]


def _tree(process: Process) -> list[psutil.Process]:
    root = psutil.Process(process.child.pid)
    return [root, *root.children(recursive=True)]


def _cpu_s(process: Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in _tree(process))


def _peak_rss(process: Process) -> int:
    """VmHWM of the tree, in bytes."""
    total = 0
    for one in _tree(process):
        for line in Path(f"/proc/{one.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) << 10
    return total


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
