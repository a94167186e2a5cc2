"""Sends one payload again and again, of one tenant after the other, as fast as it is taken: to fill a queue."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence

_CONNECTIONS = 8
_RETRY_S = 0.2


def fill(http: str, tenants: Sequence[str], payload: bytes, *, requests: int) -> None:
    """OTLP/HTTP traces to `http`; a tenant's key is its name and `-key`. What is refused for now is sent again.

    Raises RuntimeError for any other answer than 200 and 503.
    """
    asyncio.run(_fill(http, tenants, payload, requests))


async def _fill(http: str, tenants: Sequence[str], payload: bytes, requests: int) -> None:
    turns = itertools.islice(itertools.cycle(tenants), requests)
    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(_send(http, turns, payload))


async def _send(http: str, turns: Iterator[str], payload: bytes) -> None:
    host, port = http.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    for tenant in turns:
        head = (
            f"POST /v1/traces HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {tenant}-key\r\n"
            f"content-type: application/x-protobuf\r\ncontent-length: {len(payload)}\r\n\r\n"
        ).encode()
        while not await _once(head, payload, reader, writer):
            await asyncio.sleep(_RETRY_S)
    writer.close()


async def _once(head: bytes, payload: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(head)
    writer.write(payload)
    await writer.drain()
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in answer if line.startswith("content-length:"))
    await reader.readexactly(length)
    status = int(answer[0].split()[1])
    if status not in (200, 503):
        raise RuntimeError(f"the gateway answered {status}")
    return status == 200
