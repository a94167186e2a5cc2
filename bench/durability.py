"""What durability costs: `python -m bench.durability` prints four figures, each beside its goal.

    drain    how fast a backlog leaves for a backend that keeps up                     goal: 100 MB/s
    memory   of the process, with a large backlog of many tenants, and at the restart  goal: 300 MB
    answers  the 99th percentile of answer times with `ack: durable` at half load      goal: 3 fsyncs + 10 ms
    cpu      of a request with `ack: durable`, in those with `ack: memory`             goal: 1.3

Bounded in bytes and requests. Needs h2load for the last two, and room for the backlog on the disk of --folder.
"""

import argparse
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.__main__ import is_open, measure
from bench.fill import fill
from bench.systems import ROWS, SINK_PORT
from gateway.send import payloads
from tests.support.gateway import Gateway, base_config, run_gateway, sha256
from tests.support.ports import free_port
from tests.support.processes import Process

GIB, MB = 1 << 30, 1_000_000
MOST_SECONDS = 1800
ITEMS = 100
CPU_PAIRS = 5
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@dataclass(frozen=True)
class Options:
    folder: Path
    drain_gib: float
    drain_tenants: int
    memory_gib: float
    memory_tenants: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.durability")
    parser.add_argument("--parts", default=",".join(PARTS), help="which figures, by their names")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; by default where temporary files are")
    parser.add_argument("--drain-gib", type=float, default=2.0)
    parser.add_argument("--drain-tenants", type=int, default=8)
    parser.add_argument("--memory-gib", type=float, default=10.0)
    parser.add_argument("--memory-tenants", type=int, default=10_000)
    given = parser.parse_args()
    missed = 0
    for part in given.parts.split(","):
        with tempfile.TemporaryDirectory(prefix="gateway-durability-", dir=given.folder) as name:
            options = Options(Path(name), given.drain_gib, given.drain_tenants, given.memory_gib, given.memory_tenants)
            missed += not PARTS[part](options)
    return 1 if missed else 0


def drain(options: Options) -> bool:
    port = free_port()
    tenants = [f"t{number}" for number in range(options.drain_tenants)]
    with run_gateway(options.folder, _config(options, tenants, port)) as gateway:
        filled = _fill(gateway, tenants, options.drain_gib)
        queued = gateway.total("gateway_queue_bytes")
        with _sink(port, options.folder):
            began = time.monotonic()
            _wait_drained(gateway)
            took = time.monotonic() - began
        assert gateway.unaccounted() == 0
        assert gateway.total("gateway_dropped_items_total") == 0
        memory = _memory_mb(gateway)
    speed = queued / MB / took
    print(
        f"drain: {queued / GIB:.2f} GiB of {len(tenants)} tenants in {took:.1f} s, {speed:.0f} MB/s (goal 100); "
        f"filled at {filled:.0f} MB/s; peak RSS {memory['VmHWM']:.0f} MB",
        flush=True,
    )
    return speed >= 100


def memory(options: Options) -> bool:
    tenants = [f"t{number}" for number in range(options.memory_tenants)]
    config = _config(options, tenants, free_port())
    with run_gateway(options.folder, config) as gateway:
        idle = _memory_mb(gateway)
        _fill(gateway, tenants, options.memory_gib)
        full = _memory_mb(gateway)
        gateway.process.kill()
    began = time.monotonic()
    with run_gateway(options.folder, config) as gateway:
        start_s = time.monotonic() - began
        time.sleep(5)
        again = _memory_mb(gateway)
    shown = " ".join(
        f"{when} RSS {one['VmRSS']:.0f}, of it anonymous {one['RssAnon']:.0f}, peak {one['VmHWM']:.0f} MB;"
        for when, one in (("idle:", idle), ("full:", full), ("restarted:", again))
    )
    # Pages of the queue's file that the kernel has cached are mapped, not ours: they go when somebody needs memory.
    ours = max(full["RssAnon"], again["RssAnon"])
    print(
        f"memory: {options.memory_gib:g} GiB of {len(tenants)} tenants: {shown} restart in {start_s:.1f} s; "
        f"anonymous {ours:.0f} MB (goal 300)",
        flush=True,
    )
    return ours <= 300


def answers(options: Options) -> bool:
    port = free_port()
    syncs = {size: _sync_times_s(options.folder / "sync", size) for size in (4 << 10, 1 << 20)}
    with _sink(port, options.folder), run_gateway(options.folder, _config(options, ["t0"], port)) as gateway:
        _load(gateway, options.folder, requests=2000)
        began = time.monotonic()
        full_load = _load(gateway, options.folder, requests=10_000)
        per_second = len(full_load) / (time.monotonic() - began)
        half = _load(gateway, options.folder, requests=6000, per_second=per_second / 2)
    p99 = _p99(half)
    sync = _p99(syncs[1 << 20])
    goal = 3 * sync + 0.010
    shown = ", ".join(
        f"{size >> 10} KiB median {statistics.median(times) * 1e3:.2f} p99 {_p99(times) * 1e3:.2f} ms"
        for size, times in syncs.items()
    )
    print(
        f"answers: p99 {p99 * 1e3:.1f} ms at {per_second / 2:.0f} requests/s of {ITEMS} spans, half of the most "
        f"(goal {goal * 1e3:.1f}); median {statistics.median(half) * 1e3:.1f} ms; append and fdatasync: {shown}",
        flush=True,
    )
    return p99 <= goal


def cpu(options: Options) -> bool:
    good = True
    with _sink(SINK_PORT, options.folder):
        for row in ROWS[:3]:
            # A commit costs the same however many requests share it: with 4 connections there are no more than 32.
            for size, connections in ((10, 4), (10, 64), (512, 4)):
                pairs = []
                for _ in range(CPU_PAIRS):
                    durable, held = (
                        measure(row.gateway(ack), row.signal, size, options.folder, connections=connections).cpu_us
                        for ack in ("durable", "memory")
                    )
                    pairs.append((durable / held, durable, held))
                pairs.sort()
                ratio, durable, held = pairs[CPU_PAIRS // 2]
                good &= ratio <= 1.3
                print(
                    f"cpu: {row.work}, {size} items, {connections} connections: durable {durable:.0f} us, "
                    f"memory {held:.0f} us, ratio {ratio:.2f} of {pairs[0][0]:.2f} to {pairs[-1][0]:.2f} (goal 1.30)",
                    flush=True,
                )
    return good


PARTS: dict[str, Callable[[Options], bool]] = {"drain": drain, "memory": memory, "answers": answers, "cpu": cpu}


def _config(options: Options, tenants: list[str], sink_port: int) -> dict[str, Any]:
    config = base_config(options.folder)
    config["queue"]["max_bytes"] = int(max(options.drain_gib, options.memory_gib) * 1.2 * GIB) + GIB
    config["destinations"] = {
        "otlp": {
            "type": "otlp",
            "endpoint": f"http://127.0.0.1:{sink_port}",
            "protocol": "http",
            "retry": {"initial": "200ms", "max": "1s"},
        }
    }
    config["defaults"] = {"routes": {"traces": ["otlp"]}}
    config["tenants"] = {tenant: {"api_keys": [{"id": "k1", "sha256": sha256(f"{tenant}-key")}]} for tenant in tenants}
    return config


def _fill(gateway: Gateway, tenants: list[str], gib: float) -> float:
    """Send until about so much is queued; MB/s of OTLP."""
    payload = payloads.traces(1000).SerializeToString()
    began = time.monotonic()
    fill(gateway.http, tenants, payload, requests=int(gib * GIB / len(payload)))
    return gib * GIB / MB / (time.monotonic() - began)


def _wait_drained(gateway: Gateway) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while gateway.total("gateway_queued_items") > 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the backlog is not gone after {MOST_SECONDS} s")
        time.sleep(0.25)


@contextmanager
def _sink(port: int, folder: Path) -> Iterator[None]:
    """A backend that takes everything."""
    process = Process([sys.executable, "-m", "bench.blackhole", str(port)], log=folder / "sink.log")
    try:
        process.wait_ready(lambda: is_open(port))
        yield
    finally:
        process.stop()


def _load(gateway: Gateway, folder: Path, *, requests: int, per_second: float | None = None) -> list[float]:
    """Answer times in seconds. Raises RuntimeError if a request failed."""
    body = payloads.traces(ITEMS).SerializeToString()
    (folder / "payload").write_bytes(b"\0" + struct.pack(">I", len(body)) + body)
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    clients = 4
    pace = [f"--rps={max(1, round(per_second / clients))}"] if per_second is not None else []
    command = [
        "h2load", "-n", str(requests), "-c", str(clients), "-m", "8", "-t", "1", *pace, "-d", str(folder / "payload"),
        f"--log-file={log}", "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "x-api-key: t0-key",
        f"http://{gateway.grpc}{_EXPORT}",
    ]  # fmt: skip
    h2load = Process(command, log=folder / "h2load.out")
    if h2load.wait(MOST_SECONDS) != 0:
        raise RuntimeError(f"h2load failed:\n{h2load.output()[-2000:]}")
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    if len(rows) < requests or any(not row[1].startswith("2") for row in rows):
        raise RuntimeError(f"of {requests} requests, {len(rows)} were answered, not all of them well")
    return [float(row[2]) / 1e6 for row in rows]


def _sync_times_s(path: Path, size: int, count: int = 200) -> list[float]:
    """Of appending `size` bytes and fdatasync."""
    block, times = os.urandom(size), []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            began = time.monotonic()
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            times.append(time.monotonic() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return times


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def _memory_mb(gateway: Gateway) -> dict[str, float]:
    """MB by the names of /proc/PID/status."""
    text = Path(f"/proc/{gateway.process.child.pid}/status").read_text()
    lines = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 / MB for words in lines}


if __name__ == "__main__":
    sys.exit(main())
