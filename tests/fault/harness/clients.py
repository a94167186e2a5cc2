"""Clients that never send an item twice, and remember what became of each."""

import http.client
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc

from tests.fault.harness.items import SIGNALS, Items
from tests.support.clients import Answer, bearer, http_connection, send_grpc, send_http
from tests.support.gateway import Gateway

NO_ANSWER = "no answer"
"""The connection was refused or broke: the items may have been taken, or not."""
# While the gateway is away.
_AWAY_PAUSE_S = 0.1
# A channel of its own, that does not wait long before it tries again.
_CHANNEL = (("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: `code` is a gRPC status name (also over HTTP) or NO_ANSWER, the times are monotonic seconds."""

    items: Items
    code: str
    started: float
    ended: float
    retry_after_s: float | None = None
    http_status: int | None = None

    @property
    def took_s(self) -> float:
        return self.ended - self.started


@dataclass
class Sent:
    """All attempts of some clients."""

    attempts: list[Attempt] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What no client should see, such as an OK that takes only a part."""

    def names(self, code: str | None = None, *, tenant: str | None = None) -> set[str]:
        """Of items that got this answer; of all without one."""
        return {
            name
            for attempt in list(self.attempts)
            if (code is None or attempt.code == code) and (tenant is None or attempt.items.tenant == tenant)
            for name in attempt.items.names
        }

    def codes(self) -> Counter[str]:
        return Counter(attempt.code for attempt in list(self.attempts))

    def ok_count(self) -> int:
        return sum(attempt.items.count for attempt in list(self.attempts) if attempt.code == "OK")

    def answered(self, tenant: str, since: float = 0.0) -> list[Attempt]:
        return [
            attempt
            for attempt in list(self.attempts)
            if attempt.items.tenant == tenant and attempt.code == "OK" and attempt.started >= since
        ]


class Clients:
    """Senders, each in a thread with a connection of its own, half of them over gRPC; a context: they send inside.

    Args:
        tenants, signals: Drawn from at random for each request.
        threads: How many senders.
        count: Items a request.
        pause_s: Between a sender's requests.
        padding: Bytes added to each item.
        sent: Where attempts are noted; several may share one.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        tenants: Sequence[str],
        signals: Sequence[str] = SIGNALS,
        threads: int = 4,
        count: int = 5,
        pause_s: float = 0.01,
        padding: int = 0,
        seed: int = 1,
        sent: Sent | None = None,
    ) -> None:
        self.sent = sent if sent is not None else Sent()
        self._gateway = gateway
        self._tenants, self._signals = tenants, signals
        self._count, self._pause_s, self._padding = count, pause_s, padding
        self._stopped = threading.Event()
        # Beyond those of earlier clients that note in the same place.
        start = sum(attempt.items.count for attempt in self.sent.attempts)
        self._numbers = itertools.count(start, count)
        over = [self._over_http, self._over_grpc]
        self._threads = [
            threading.Thread(target=self._guard, args=(over[n % 2], random.Random(f"{seed}-{n}")), daemon=True)
            for n in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def _guard(self, work: Callable[[random.Random], None], dice: random.Random) -> None:
        try:
            work(dice)
        except Exception as error:
            # A thread that ends in silence would look like a sender at rest.
            self.sent.problems.append(repr(error))
            raise

    def _over_http(self, dice: random.Random) -> None:
        while not self._stopped.is_set():
            with http_connection(self._gateway) as connection:

                def send(items: Items, payload: bytes, connection: http.client.HTTPConnection = connection) -> Answer:
                    headers = bearer(f"{items.tenant}-key")
                    return send_http(
                        self._gateway, payload, signal=items.signal, headers=headers, connection=connection
                    )

                self._send_until_it_breaks(send, dice)

    def _over_grpc(self, dice: random.Random) -> None:
        while not self._stopped.is_set():
            with grpc.insecure_channel(self._gateway.grpc, options=_CHANNEL) as channel:

                def send(items: Items, payload: bytes, channel: grpc.Channel = channel) -> Answer:
                    headers = bearer(f"{items.tenant}-key")
                    return send_grpc(self._gateway, payload, signal=items.signal, headers=headers, channel=channel)

                self._send_until_it_breaks(send, dice)

    def _send_until_it_breaks(self, send: Callable[[Items, bytes], Answer], dice: random.Random) -> None:
        while not self._stopped.is_set():
            items = Items(dice.choice(self._tenants), dice.choice(self._signals), next(self._numbers), self._count)
            payload = items.payload(padding=self._padding)
            started = time.monotonic()
            try:
                answer = send(items, payload)
            except (OSError, http.client.HTTPException):
                answer = None
            # Over gRPC, the client library says UNAVAILABLE of a connection too, but has no RetryInfo for it.
            if answer is None or (answer.code == "UNAVAILABLE" and answer.retry_after_s is None):
                self.sent.attempts.append(Attempt(items, NO_ANSWER, started, time.monotonic()))
                self._stopped.wait(_AWAY_PAUSE_S)
                return
            ended = time.monotonic()
            self.sent.attempts.append(
                Attempt(items, answer.code, started, ended, answer.retry_after_s, answer.http_status)
            )
            if answer.code == "OK" and answer.body:
                self.sent.problems.append(f"an OK that takes a part only: {answer.body!r}")
            self._stopped.wait(self._pause_s)
