"""The scripted backend: a process that takes remote write, Loki push and OTLP/HTTP, and misbehaves as it is told.

    python -m tests.fault.harness.backend PORT CONTROL_PORT SEED

Every item that it stored is remembered by its name, with when it came and whether its sender was told. The control port
takes one JSON object a line and answers each with one (`backend_control.py`).
"""

import asyncio
import contextlib
import random
import socket
import struct
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import cramjam
import orjson
import uvloop
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.sink.proto import loki_push_pb2, remote_write_1_pb2
from tests.fault.harness.behaviour import EVERYBODY, OK, Behaviour, Kind
from tests.fault.harness.items import NAME

_MESSAGES: dict[str, Any] = {
    "/api/v1/write": remote_write_1_pb2.WriteRequest,
    "/loki/api/v1/push": loki_push_pb2.PushRequest,
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}
_DECOMPRESS: dict[str, Callable[[bytes], Any]] = {
    "": bytes,
    "gzip": cramjam.gzip.decompress,
    "zstd": cramjam.zstd.decompress,
    "snappy": cramjam.snappy.decompress_raw,
}
_SIP, _SIP_PAUSE_S = 4096, 0.01
_NO_LINGER = struct.pack("ii", 1, 0)


class Store:
    """What came, and what is wrong with it."""

    def __init__(self) -> None:
        self.arrivals: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
        """By item name: monotonic time, and whether the sender was told that it is kept."""
        self.requests: Counter[str] = Counter()
        """By tenant, whatever was answered."""
        self.complaints: Counter[str] = Counter()

    def keep(self, tenant: str, path: str, encoding: str, body: bytes, behaviour: Behaviour) -> None:
        try:
            # Loki push is snappy without a header that says so.
            plain = bytes(_DECOMPRESS["snappy" if path.startswith("/loki") else encoding](body))
            _MESSAGES[path].FromString(plain)
        except (cramjam.DecompressionError, DecodeError, KeyError) as error:
            self.complaints[f"{path}: {error!r}"] += 1
            return
        found = NAME.findall(plain)
        now = time.monotonic()
        # Only OTLP can say that a part is refused.
        kept = len(found) - (behaviour.refuses if path.startswith("/v1/") else 0)
        for owner, signal, number in found[:kept]:
            if owner.decode() != tenant:
                self.complaints[f"an item of {owner.decode()} came as {tenant}'s"] += 1
            name = f"item-{owner.decode()}-{signal.decode()}-{number.decode()}"
            self.arrivals[name].append((now, behaviour.answers_well))


class Backend:
    """One HTTP server; connections are kept open."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.plans: dict[str, list[Behaviour]] = {EVERYBODY: [OK]}
        self.store = Store()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.take_one(reader, writer):
                pass
        self.connections -= 1
        writer.close()

    async def take_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False: the connection is at its end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split()[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        tenant = headers.get("x-scope-orgid", "?")
        length = int(headers["content-length"])
        plan = self.plans.get(tenant, self.plans[EVERYBODY])
        behaviour = self.dice.choices(plan, [one.share for one in plan])[0] if len(plan) > 1 else plan[0]
        self.store.requests[tenant] += 1
        if behaviour.kind is Kind.RESET:
            await reader.readexactly(length // 2)
            return self.reset(writer)
        body = await self.read(reader, length, slowly=behaviour.kind is Kind.SLOW_READ)
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.keeps_items:
            self.store.keep(tenant, path, headers.get("content-encoding", ""), body, behaviour)
        return await self.answer(behaviour, reader, writer)

    async def read(self, reader: asyncio.StreamReader, length: int, *, slowly: bool) -> bytes:
        if not slowly:
            return await reader.readexactly(length)
        body = b""
        while len(body) < length:
            body += await reader.readexactly(min(_SIP, length - len(body)))
            await asyncio.sleep(_SIP_PAUSE_S)
        return body

    async def answer(self, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        body = bytes.fromhex(behaviour.body)
        lines = [f"HTTP/1.1 {behaviour.status} as scripted", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in behaviour.headers.items()]
        whole = "\r\n".join([*lines, "", ""]).encode() + body
        match behaviour.kind:
            case Kind.ANSWER | Kind.SLOW_READ:
                writer.write(whole)
                await writer.drain()
                return True
            case Kind.HANG:
                # Until the other side has enough of it.
                await reader.read(1)
                return False
            case Kind.CUT:
                writer.write(whole[: len(whole) // 2])
                return False
            case Kind.GARBAGE:
                writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
                return False
            case Kind.RESET | Kind.RESET_AFTER:
                return self.reset(writer)

    def reset(self, writer: asyncio.StreamWriter) -> bool:
        """RST instead of FIN."""
        plain: socket.socket = writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        writer.transport.abort()
        return False

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(orjson.dumps(self.obey(orjson.loads(line)), option=orjson.OPT_APPEND_NEWLINE))
            await writer.drain()
        writer.close()

    def obey(self, order: dict[str, object]) -> dict[str, object]:
        match order:
            case {"do": "plan", "tenant": str(tenant), "plan": list(plan)}:
                self.plans[tenant] = [Behaviour.from_json(one) for one in plan]
                return {}
            case {"do": "arrivals"}:
                return {"arrivals": self.store.arrivals, "complaints": self.store.complaints}
            case {"do": "count"}:
                return {
                    "items": len(self.store.arrivals),
                    "requests": self.store.requests,
                    "connections": self.connections,
                }
            case _:
                raise ValueError(f"no such order: {order}")


async def main(port: int, control_port: int, seed: int) -> None:
    backend = Backend(seed)
    await asyncio.start_server(backend.serve, "127.0.0.1", port, limit=1 << 20, backlog=1024)
    await asyncio.start_server(backend.control, "127.0.0.1", control_port, limit=1 << 24)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:4])))
