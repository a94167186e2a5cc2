"""Thousands of connections at once, from one thread: each sends requests over HTTP, and all stay open to the end."""

import asyncio
import itertools
import time
from collections.abc import Sequence

from tests.fault.harness.clients import NO_ANSWER, Attempt, Sent
from tests.fault.harness.items import SIGNALS, Items

_CODES = {200: "OK", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
# Not all of them in the same instant: a listener's backlog is finite.
_OPENING_AT_ONCE = 200


def crowd(
    http: str,
    *,
    tenants: Sequence[str],
    connections: int,
    requests: int,
    signals: Sequence[str] = SIGNALS,
    padding: int = 0,
    timeout_s: float = 60.0,
) -> Sent:
    """Every connection sends `requests` of two items, of the next tenant each time. Raises TimeoutError.

    `padding` bytes are added to each item.
    """
    return asyncio.run(asyncio.wait_for(_crowd(http, tenants, connections, requests, signals, padding), timeout_s))


async def _crowd(
    http: str, tenants: Sequence[str], connections: int, requests: int, signals: Sequence[str], padding: int
) -> Sent:
    sent = Sent()
    host, port = http.rsplit(":", 1)
    opening = asyncio.Semaphore(_OPENING_AT_ONCE)
    all_open = asyncio.Barrier(connections)
    numbers, turns = itertools.count(0, 2), itertools.cycle(tenants)

    async def one(index: int) -> None:
        async with opening:
            reader, writer = await asyncio.open_connection(host, int(port))
        # Everybody is connected before anybody sends, and until everybody has its answers.
        await all_open.wait()
        for request in range(requests):
            items = Items(next(turns), signals[(index + request) % len(signals)], next(numbers), 2)
            await _send(items, items.payload(padding=padding), reader, writer, sent)
        await all_open.wait()
        writer.close()

    await asyncio.gather(*(one(index) for index in range(connections)))
    return sent


async def _send(
    items: Items, payload: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: Sent
) -> None:
    started = time.monotonic()
    writer.write(
        f"POST /v1/{items.signal} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {items.tenant}-key\r\n"
        f"content-type: application/x-protobuf\r\ncontent-length: {len(payload)}\r\n\r\n".encode()
        + payload
    )
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        sent.attempts.append(Attempt(items, NO_ANSWER, started, time.monotonic()))
        return
    status = int(lines[0].split()[1])
    code = _CODES.get(status, str(status))
    sent.attempts.append(Attempt(items, code, started, time.monotonic(), http_status=status))
