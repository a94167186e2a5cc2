"""A restart that nobody notices: a new process takes over from the one that serves, under load."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.clients import Answer, bearer, http_connection, send_grpc, send_http
from tests.support.gateway import Gateway, base_config, run_gateway, start_and_fail
from tests.support.payloads import traces
from tests.support.processes import free_port, wait_until

ACME = bearer("acme-key")
TAKE_OVER = ("--take-over",)


class Clients:
    """Clients of every kind that send all the time and try nothing twice."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.answered: list[str] = []
        """Names of the spans that were answered OK."""
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self._stop = threading.Event()
        kinds = (self.fresh_http, self.keeping_http, self.fresh_grpc, self.keeping_grpc, self.slow_http, self.admin)
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, kind: Callable[[], None]) -> None:
        try:
            kind()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
            self.failures.append(f"{kind.__name__}: {error!r}")

    def _send(self, kind: str, pause_s: float, send: Callable[[bytes], Answer]) -> None:
        number = 0
        while not self._stop.is_set():
            name = f"{kind}-{number}"
            number += 1
            answer = send(traces(name=name).SerializeToString())
            if answer.code == "OK":
                self.answered.append(name)
                self.counts[kind] += 1
            else:
                self.failures.append(f"{kind}: {answer.code} {answer.message}")
            time.sleep(pause_s)

    def fresh_http(self) -> None:
        self._send("fresh_http", 0.001, lambda payload: send_http(self.gateway, payload, headers=ACME))

    def keeping_http(self) -> None:
        with http_connection(self.gateway) as connection:
            self._send(
                "keeping_http",
                0.003,
                lambda payload: send_http(self.gateway, payload, headers=ACME, connection=connection),
            )

    def fresh_grpc(self) -> None:
        # A channel of its own: the library shares connections among channels of the same options.
        options = [("grpc.use_local_subchannel_pool", 1)]

        def send(payload: bytes) -> Answer:
            with grpc.insecure_channel(self.gateway.grpc, options=options) as channel:
                return send_grpc(self.gateway, payload, headers=ACME, channel=channel)

        self._send("fresh_grpc", 0.005, send)

    def keeping_grpc(self) -> None:
        with grpc.insecure_channel(self.gateway.grpc) as channel:
            self._send(
                "keeping_grpc", 0.001, lambda payload: send_grpc(self.gateway, payload, headers=ACME, channel=channel)
            )

    def slow_http(self) -> None:
        """Its bodies come in two halves."""

        def send(payload: bytes) -> Answer:
            with http_connection(self.gateway) as connection:
                connection.putrequest("POST", "/v1/traces")
                for name, value in {**ACME, "content-type": "application/x-protobuf"}.items():
                    connection.putheader(name, value)
                connection.putheader("content-length", str(len(payload)))
                connection.endheaders(payload[:10])
                time.sleep(0.2)
                connection.send(payload[10:])
                response = connection.getresponse()
                return Answer("OK" if response.status == 200 else str(response.status), "", None, response.read())

        self._send("slow_http", 0.01, send)

    def admin(self) -> None:
        while not self._stop.is_set():
            with urllib.request.urlopen(f"{self.gateway.admin_url}/-/healthy", timeout=20) as response:
                self.counts["admin"] += response.status == 200
            time.sleep(0.01)


def delivered(folder: Path) -> Counter[str]:
    """How often each span is in the file."""
    names = re.findall(rb'"name":"([a-z_]+-\d+)"', (folder / "out" / "acme.jsonl").read_bytes())
    return Counter(name.decode() for name in names)


@pytest.mark.parametrize("ack", ["durable", "memory"])
def test_no_connection_is_refused_and_no_request_fails_over_several_hand_overs(tmp_path: Path, ack: str) -> None:
    config = base_config(tmp_path)
    config["queue"]["ack"] = ack
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(run_gateway(tmp_path, config))
        with Clients(gateway) as clients:
            for _ in range(4):
                before = Counter(clients.counts)
                successor = stack.enter_context(run_gateway(tmp_path, config, TAKE_OVER))
                assert (successor.grpc, successor.http, successor.admin) == (
                    gateway.grpc,
                    gateway.http,
                    gateway.admin,
                )
                assert gateway.process.wait(10) == 0
                gateway = successor
                wait_until(
                    lambda before=before: all(clients.counts[kind] > before[kind] + 5 for kind in before),
                    "every client to be served by the new process",
                    10,
                )
        assert clients.failures == []
        gateway.wait_delivered()
        assert gateway.unaccounted() == 0
        assert gateway.stop() == 0
    found = delivered(tmp_path)
    assert [name for name in clients.answered if name not in found] == []
    # What is sent to a backend at the moment of a hand-over may be sent again; nothing else is.
    assert sum(found.values()) - len(found) < 0.1 * len(found)
