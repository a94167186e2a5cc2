"""Masking reaches every text of the schema: something is planted in each place, and looked for in all that leaves."""

import asyncio
import base64
import json
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import cramjam
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from tests.support.clients import REQUESTS, Answer, bearer, send_grpc, send_http
from tests.support.gateway import ADMIN_TOKEN, Gateway, base_config, run_gateway
from tests.support.places import IDS, Path, message_places, plant, plant_unknown, text_places
from tests.support.scripted import Backend, scripted, scripted_grpc

SIGNALS = ("traces", "metrics", "logs")
LISTED = FilePath(__file__).with_name("masking_places.txt")
MASKED, PLAIN = bearer("acme-key"), bearer("globex-key")


def local_part(number: int) -> str:
    # No part of it is one of another.
    return f"planted{number:05}q"


def secret(number: int) -> str:
    return f"{local_part(number)}@customer.example.com"


def spellings(text: str) -> list[bytes]:
    """As it is, in hexadecimal, and in base64 wherever in the encoded bytes it begins."""
    raw = text.encode()
    shifted = [base64.b64encode(b"\0" * shift + raw + b"\0\0") for shift in range(3)]
    # Characters that hold bits of neighbours are left out.
    inner = [encoded[cut : cut + len(raw) * 4 // 3 - 2] for encoded, cut in zip(shifted, (0, 2, 3), strict=True)]
    return [raw, raw.hex().encode(), raw.hex().upper().encode(), *inner]


def places_in(everything: bytes, places: Sequence[tuple[str, Path]]) -> list[str]:
    return [
        f"{signal} {'.'.join(path) or '(the request)'}"
        for number, (signal, path) in enumerate(places)
        if any(spelling in everything for spelling in spellings(local_part(number)))
    ]


@dataclass
class Outlets:
    """All that leaves a gateway."""

    folder: FilePath
    backends: dict[str, Backend] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    pages: list[bytes] = field(default_factory=list)

    def of_otlp(self) -> bytes:
        return b"\n".join(body for name in ("grpc", "http") for body in self.backends[name].bodies)

    def of_files(self) -> bytes:
        return b"\n".join(path.read_bytes() for path in (self.folder / "out").glob("*"))

    def everything(self) -> bytes:
        decoded = [
            bytes(cramjam.snappy.decompress_raw(body))
            for name in ("loki", "prometheus")
            for body in self.backends[name].bodies
        ]
        said = [answer.message.encode() + answer.body + str(answer.headers).encode() for answer in self.answers]
        headers = [str(backend.headers).encode() for backend in self.backends.values()]
        log = (self.folder / "gateway.log").read_bytes()
        return b"\n".join([self.of_otlp(), self.of_files(), log, *decoded, *said, *headers, *self.pages])


def config_for(folder: FilePath, backends: dict[str, Backend]) -> dict[str, Any]:
    config = base_config(folder)
    config["destinations"] |= {
        "grpc": {"type": "otlp", "endpoint": backends["grpc"].url},
        "http": {"type": "otlp", "endpoint": backends["http"].url.removesuffix("/push"), "protocol": "http"},
        "loki": {"type": "loki", "url": backends["loki"].url},
        "prometheus": {"type": "remote_write", "url": backends["prometheus"].url},
    }
    config["defaults"]["routes"] = {
        "traces": ["disk", "grpc", "http"],
        "metrics": ["disk", "grpc", "http", "prometheus"],
        "logs": ["disk", "grpc", "http", "loki"],
    }
    config["tenants"]["acme"]["mask"] = {"detectors": ["email"]}
    return config


def json_of(request: Message) -> bytes:
    """OTLP/JSON: ids in hexadecimal, enums as numbers."""

    def with_hexadecimal_ids(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: base64.b64decode(inner).hex() if name in ("traceId", "spanId", "parentSpanId")
                else with_hexadecimal_ids(inner)
                for name, inner in value.items()
            }  # fmt: skip
        return [with_hexadecimal_ids(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(with_hexadecimal_ids(json_format.MessageToDict(request, use_integers_for_enums=True))).encode()


def send_all(gateway: Gateway, requests: Iterable[tuple[str, Message]], headers: dict[str, str]) -> Iterator[Answer]:
    """Over gRPC, HTTP and as JSON."""
    for signal, request in requests:
        payload = request.SerializeToString()
        yield send_grpc(gateway, payload, signal=signal, headers=headers)
        yield send_http(gateway, payload, signal=signal, headers=headers)
        yield send_http(gateway, json_of(request), signal=signal, headers=headers, content_type="application/json")


async def deliver(
    folder: FilePath, requests: Sequence[tuple[str, Message]], headers: dict[str, str], *, broken: bool = False
) -> Outlets:
    """Everything that leaves a gateway that takes these requests, and, if wanted, their broken halves."""
    outlets = Outlets(folder)

    def use_gateway() -> None:
        with run_gateway(folder, config_for(folder, outlets.backends)) as gateway:
            answers = list(send_all(gateway, requests, headers))
            assert {answer.code for answer in answers} == {"OK"}, answers
            outlets.answers += answers
            for signal, request in requests if broken else ():
                for payload, kind in ((request.SerializeToString(), "x-protobuf"), (json_of(request), "json")):
                    content_type = f"application/{kind}"
                    refused = send_http(
                        gateway, payload[:-3], signal=signal, headers=headers, content_type=content_type
                    )
                    assert refused.http_status == 400
                    outlets.answers.append(refused)
            gateway.wait_delivered()
            page = urllib.request.Request(
                f"{gateway.admin_url}/_metrics", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
            )
            with urllib.request.urlopen(page, timeout=10) as response:
                outlets.pages.append(response.read())
            assert gateway.unaccounted() == 0

    async with AsyncExitStack() as stack:
        outlets.backends["grpc"] = await stack.enter_async_context(scripted_grpc())
        for name in ("http", "loki", "prometheus"):
            outlets.backends[name] = await stack.enter_async_context(scripted())
        # An OTLP backend says OK with an empty response, by the script and not by 204.
        outlets.backends["http"].script += [(200, {"content-type": "application/x-protobuf"})] * 50
        await asyncio.to_thread(use_gateway)
    return outlets


def all_places() -> list[tuple[str, Path]]:
    return [(signal, path) for signal in SIGNALS for path in text_places(signal)]


def planted(places: Sequence[tuple[str, Path]], how: Any) -> list[tuple[str, Message]]:
    """A request a signal, with one resource for each place."""
    requests: dict[str, Message] = {signal: REQUESTS[signal]() for signal in SIGNALS}
    for number, (signal, path) in enumerate(places):
        how(requests[signal], path, secret(number))
    return list(requests.items())


def test_every_place_of_the_schema_is_listed() -> None:
    """A newer opentelemetry-proto has more: see to it that they are masked (`engine/src/otlp/walk`), then list them."""
    known = [line for line in LISTED.read_text().splitlines() if line and not line.startswith("#")]
    found = [f"{signal} {'.'.join(path)}" for signal, path in all_places()]
    assert known == sorted(known)
    assert sorted(found) == known
    assert all(IDS.values())


async def test_nothing_planted_anywhere_leaves_a_masking_tenant(tmp_path: FilePath) -> None:
    places = all_places()
    outlets = await deliver(tmp_path, planted(places, plant), MASKED, broken=True)
    assert all(backend.bodies for backend in outlets.backends.values())
    assert places_in(outlets.everything(), places) == []


async def test_everything_planted_leaves_a_tenant_without_masking(tmp_path: FilePath) -> None:
    """Else the test above would show nothing."""
    places = all_places()
    outlets = await deliver(tmp_path, planted(places, plant), PLAIN)
    for everything in (outlets.of_otlp(), outlets.of_files()):
        assert places_in(everything, places) == [f"{signal} {'.'.join(path)}" for signal, path in places]


@pytest.mark.parametrize(("headers", "kept"), [(MASKED, False), (PLAIN, True)], ids=["masking", "plain"])
async def test_fields_that_the_schema_lacks(tmp_path: FilePath, headers: dict[str, str], kept: bool) -> None:
    """Nobody knows what they hold: a tenant that masks drops them, all others keep them."""
    places = [(signal, path) for signal in SIGNALS for path in message_places(signal)]
    outlets = await deliver(tmp_path, planted(places, plant_unknown), headers)
    expected = [f"{signal} {'.'.join(path) or '(the request)'}" for signal, path in places] if kept else []
    assert places_in(outlets.of_otlp() if kept else outlets.everything(), places) == expected
