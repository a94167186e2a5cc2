"""The way out of the engine: every request that was begun is answered, and nothing comes after that."""

import asyncio
import time

import structlog

from gateway._engine import Engine

log = structlog.get_logger(__name__)

# Clients over HTTP/1.1 hear with an answer that they are to come again: an idle connection that is closed may meet the
# next request half-way, and some clients do not look before they use it. SDKs of OpenTelemetry send every 5 s.
_NOTICE_S = 6.0
# By then every connection has heard of it.
_SHORTEST_NOTICE_S = 0.1
# What a slow client may cost the others in a hand-over: their connections wait for it to be over.
_HAND_OVER_PATIENCE_S = 3.0
# Connections that were told to go and have no request under way; most are gone after one round trip.
_GOODBYE_S = 0.5
# What is left of the time when requests are still coming in: for those that are, and for the disk.
_RESERVE = 0.25
_LOOK_S = 0.01


async def empty(engine: Engine, *, to_successor: bool, delay_s: float, timeout_s: float) -> None:
    """Take nothing new, answer what is under way, and close every batch.

    `delay_s`: how long clients and load balancers are told before connections are refused. `timeout_s`: what is still
    coming in after most of this is refused as UNAVAILABLE, for the client to send again.
    """
    engine.leave(to_successor=to_successor)
    if to_successor:
        await _clients_hear(engine)
    else:
        await asyncio.sleep(delay_s)
    started = time.monotonic()
    engine.close_listeners()
    patience_s = timeout_s * (1 - _RESERVE)
    if to_successor:
        patience_s = min(patience_s, _HAND_OVER_PATIENCE_S)
    await _requests_end(engine, started, patience_s)
    # From here on no request gets to the pipeline, so that what is taken now is the last.
    engine.close_intake()
    while True:
        engine.flush()
        await asyncio.sleep(_LOOK_S)
        _, requests, taken, batches = engine.under_way()
        if taken == 0 and batches == 0:
            break
        if time.monotonic() - started > timeout_s:
            log.warning("requests were still under way at the end", requests=taken, batches=batches)
            return
    if requests:
        log.warning("requests did not come in to their end; their clients are told to retry", requests=requests)


async def _clients_hear(engine: Engine) -> None:
    """Until each client over HTTP/1.1 had an answer, or will not ask soon. Connections are taken meanwhile."""
    deadline = time.monotonic() + _NOTICE_S
    await asyncio.sleep(_SHORTEST_NOTICE_S)
    while engine.awaited_connections() and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_S)


async def _requests_end(engine: Engine, started: float, patience_s: float) -> None:
    """Wait for the requests under way, and for those on connections that were accepted a moment ago."""
    while True:
        engine.flush()
        await asyncio.sleep(_LOOK_S)
        connections, requests, _, batches = engine.under_way()
        elapsed = time.monotonic() - started
        if requests == 0 and batches == 0 and (connections == 0 or elapsed > min(_GOODBYE_S, patience_s)):
            return
        if elapsed > patience_s:
            return


async def answers_end(engine: Engine, timeout_s: float) -> None:
    """Give clients that are still sending the time to hear that they are refused."""
    deadline = time.monotonic() + timeout_s
    while engine.under_way()[1] and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_S)
