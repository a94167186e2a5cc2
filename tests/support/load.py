"""Senders that never rest while what they prove themselves with is changed under them."""

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc

from tests.support.clients import Answer, bearer, http_connection, send_grpc, send_http
from tests.support.gateway import Gateway
from tests.support.payloads import traces
from tests.support.processes import wait_until

# What one sender sends at most, so that a test that hangs does not send for ever.
_MOST_REQUESTS = 5000
_PAUSE_S = 0.02


def key_id(token: str) -> str:
    """Which key signed it, as the token says itself."""
    header = token.partition(".")[0]
    kid: str = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
    return kid


@dataclass
class TokenLoad:
    """Over each transport one sender for each of `renew_after_s`, which fetches a new token so often."""

    gateway: Gateway
    fetch: Callable[[], str]
    renew_after_s: Sequence[float]
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    signed_by: Counter[str] = field(default_factory=Counter)
    """Requests that were answered OK, by the key of their token."""

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._payload = traces().SerializeToString()
        workers = [(worker, pause) for worker in (self._over_grpc, self._over_http) for pause in self.renew_after_s]
        self._threads = [threading.Thread(target=worker, args=(pause,), daemon=True) for worker, pause in workers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_key(self, kid: str, requests: int = 20) -> None:
        """Until so many requests more with tokens of this key were answered OK."""
        goal = self.signed_by[kid] + requests
        wait_until(lambda: self.signed_by[kid] >= goal or bool(self.failures), f"senders with the key {kid}")

    def _over_grpc(self, renew_after_s: float) -> None:
        with grpc.insecure_channel(self.gateway.grpc) as channel:
            self._work(
                renew_after_s, lambda headers: send_grpc(self.gateway, self._payload, headers=headers, channel=channel)
            )

    def _over_http(self, renew_after_s: float) -> None:
        with http_connection(self.gateway) as connection:
            self._work(
                renew_after_s,
                lambda headers: send_http(self.gateway, self._payload, headers=headers, connection=connection),
            )

    def _work(self, renew_after_s: float, send: Callable[[dict[str, str]], Answer]) -> None:
        token, fetched_at = "", 0.0
        try:
            for _ in range(_MOST_REQUESTS):
                if self._stopped.is_set():
                    return
                if not token or time.monotonic() - fetched_at >= renew_after_s:
                    # Before it is asked for, since it may take a while.
                    fetched_at = time.monotonic()
                    token = self.fetch()
                answer = send(bearer(token))
                self.answers[answer.code] += 1
                if answer.code == "OK":
                    self.signed_by[key_id(token)] += 1
                else:
                    self.failures.append(f"{answer.code} {answer.message} with the key {key_id(token)}")
                time.sleep(_PAUSE_S)
        except Exception as error:
            # A thread that ends in silence would look like a sender at rest.
            self.failures.append(repr(error))
            raise
