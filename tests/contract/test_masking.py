"""Masking through the running gateway: what each action leaves, what is left alone, and what is counted."""

import asyncio
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from gateway.pseudonyms.keys import derive
from gateway.pseudonyms.pseudonym import Form, pseudonym
from tests.support.clients import Answer, bearer, send_grpc, send_http
from tests.support.gateway import ADMIN_TOKEN, Gateway, base_config, run_gateway, sha256
from tests.support.masked import SIGNALS, attributes, delivered, items, request
from tests.support.scripted import scripted

KEY = bytes(range(32))
MAIL, ADDRESS, PASSWORD = "bob@example.com", "10.42.7.19", "correct horse battery"

PERSONAL = {"keys": "password", "detectors": ["email", "ipv4"]}
MASKS: dict[str, dict[str, Any]] = {
    "default": {},
    "redact": PERSONAL,
    "remove": {**PERSONAL, "action": "remove"},
    "partial": {**PERSONAL, "action": "partial"},
    "pseudonymise": {**PERSONAL, "action": "pseudonymise"},
    "pseudonymise-too": {**PERSONAL, "action": "pseudonymise"},
    "format_preserving": {"rules": [{"detectors": "ipv4", "action": "format_preserving"}], **PERSONAL},
    "drop_item": {"rules": [{"detectors": "email", "action": "drop_item"}], "keys": [], "detectors": []},
    "named": {
        "rules": [
            {"name": "order", "regex": r"ORD-\d+"},
            {"name": "customer", "words": ["Miller & Co", "Zwickel"], "action": "remove"},
        ],
        "keys": [],
        "detectors": [],
    },
    "allow": {**PERSONAL, "allow": {"keys": ["reply-*"], "services": ["relay"]}},
    "dry": {**PERSONAL, "dry_run": True},
    "dry-too": {**PERSONAL, "dry_run": True},
    "budget": {"keys": [], "detectors": "email", "budget": {"item_bytes": "1MiB", "item_time": "10s"}},
}


def credential(tenant: str) -> dict[str, str]:
    return bearer(f"{tenant}-key")


def masking_config(folder: Path) -> dict[str, Any]:
    config = base_config(folder)
    config["pseudonym_keys"] = {"main": {"versions": [{"version": 1, "key": KEY.hex()}]}}
    config["tenants"] = {
        name: {"api_keys": [{"id": "k1", "sha256": sha256(f"{name}-key")}], "mask": mask}
        for name, mask in MASKS.items()
    }
    config["admin"]["tokens"].append({"name": "dry", "token": "dry-sees", "tenant": "dry-too"})
    return config


@pytest.fixture(scope="module")
def masking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("masking")
    with run_gateway(folder, masking_config(folder)) as gateway:
        gateway.extra["folder"] = folder
        yield gateway
        assert gateway.unaccounted() == 0


Send = Callable[..., Answer]
BOTH = pytest.mark.parametrize("send", [send_grpc, send_http], ids=["grpc", "http"])
EVERY_SIGNAL = pytest.mark.parametrize("signal", SIGNALS)


def through(gateway: Gateway, tenant: str, send: Send, signal: str, **content: str) -> list[dict[str, Any]]:
    """The items that leave when a request comes in."""
    before = len(delivered(gateway, tenant))
    payload = request(signal, **content).SerializeToString()
    answer = send(gateway, payload, signal=signal, headers=credential(tenant))
    assert answer.code == "OK", answer
    return [item for line in delivered(gateway, tenant)[before:] for item in items(line)]


def of_tenant(tenant: str, value: str, form: Form) -> str:
    return pseudonym(derive(bytearray(KEY), tenant), 1, value.encode(), form)


# Action, and what it leaves of an e-mail address, an IPv4 address and the value of a sensitive key.
LEFT = [
    ("redact", "[email]", "[ipv4]", "[redacted]"),
    ("remove", "", "", None),
    ("partial", "****@example.com", "10.42.7.0/24", "****tery"),
    (
        "pseudonymise",
        of_tenant("pseudonymise", MAIL, Form.EMAIL),
        of_tenant("pseudonymise", ADDRESS, Form.ADDRESS),
        of_tenant("pseudonymise", PASSWORD, Form.TEXT),
    ),
]


@BOTH
@EVERY_SIGNAL
@pytest.mark.parametrize(("action", "mail", "address", "password"), LEFT)
def test_each_action_leaves_of_every_signal_what_it_says(
    masking: Gateway, send: Send, signal: str, action: str, mail: str, address: str, password: str | None
) -> None:
    first, second = through(
        masking, action, send, signal, contact=f"to {MAIL} at {ADDRESS}.", password=PASSWORD, other="as it was"
    )
    expected = {"contact": f"to {mail} at {address}.", "other": "as it was"}
    assert attributes(first) == (expected if password is None else {**expected, "password": password})
    assert attributes(second) == {}


@BOTH
@EVERY_SIGNAL
def test_a_format_preserving_action_leaves_another_address(masking: Gateway, send: Send, signal: str) -> None:
    addresses = [ADDRESS, "10.42.7.20", "192.0.2.1"]
    first, _ = through(masking, "format_preserving", send, signal, contact=" ".join(addresses))
    others = attributes(first)["contact"].split()
    assert not set(others) & set(addresses)
    masked = [int(ipaddress.IPv4Address(other)) for other in others]
    assert masked[0] >> 8 == masked[1] >> 8, "what is of one network stays in one"
    assert masked[0] >> 8 != masked[2] >> 8


@BOTH
@EVERY_SIGNAL
def test_a_dropped_item_counts_as_filtered(masking: Gateway, send: Send, signal: str) -> None:
    def counted(name: str) -> float:
        return masking.total(f"gateway_{name}_items_total", tenant="drop_item", signal=signal)

    names = ("received", "filtered", "accepted")
    before = [counted(name) for name in names]
    (left,) = through(masking, "drop_item", send, signal, contact=MAIL)
    assert attributes(left) == {}
    assert [counted(name) - old for name, old in zip(names, before, strict=True)] == [2, 1, 1]
    assert masking.unaccounted() == 0


def test_regexes_and_words_are_masked_under_their_names(masking: Gateway) -> None:
    first, _ = through(masking, "named", send_http, "logs", note="ORD-77 of MILLER & CO, not Zwickelbauer")
    assert attributes(first) == {"note": "[order] of , not Zwickelbauer"}
    for name in ("order", "customer"):
        assert masking.total("gateway_masked_values_total", tenant="named", signal="logs", detector=name) == 1


@EVERY_SIGNAL
def test_pseudonyms_are_equal_across_signals_and_differ_between_tenants(masking: Gateway, signal: str) -> None:
    one, other = (
        attributes(through(masking, tenant, send_grpc, signal, contact=MAIL)[0])["contact"]
        for tenant in ("pseudonymise", "pseudonymise-too")
    )
    assert one == of_tenant("pseudonymise", MAIL, Form.EMAIL)
    assert other == of_tenant("pseudonymise-too", MAIL, Form.EMAIL) != one


@BOTH
@EVERY_SIGNAL
def test_allowed_keys_and_services_are_left_as_they_are(masking: Gateway, send: Send, signal: str) -> None:
    sent = {"reply-to": MAIL, "contact": MAIL, "password": PASSWORD}
    first, _ = through(masking, "allow", send, signal, **sent)
    assert attributes(first) == {"reply-to": MAIL, "contact": "[email]", "password": "[redacted]"}
    first, _ = through(masking, "allow", send, signal, service="relay", **sent)
    assert attributes(first) == sent


@EVERY_SIGNAL
def test_a_mask_without_any_key_masks_secrets_and_the_default_detectors(masking: Gateway, signal: str) -> None:
    uuid = "550e8400-e29b-41d4-a716-446655440000"
    sent = {"note": f"{MAIL}, DE89370400440532013000, 078-05-1120, {uuid}", "client_secret": "x", "session.id": "s-1"}
    first, _ = through(masking, "default", send_grpc, signal, **sent)
    left = {"note": f"[email], [iban], [us_ssn], {uuid}", "client_secret": "[redacted]", "session.id": "s-1"}
    assert attributes(first) == left


# The dry run.


def page_of(gateway: Gateway, path: str, token: str = ADMIN_TOKEN) -> tuple[int, str]:
    asked = urllib.request.Request(f"{gateway.admin_url}{path}", headers=bearer(token))
    try:
        with urllib.request.urlopen(asked, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@EVERY_SIGNAL
def test_a_dry_run_changes_nothing_counts_and_shows_places_without_values(masking: Gateway, signal: str) -> None:
    sent = {"contact": f"to {MAIL} at {ADDRESS}", "password": PASSWORD}
    first, _ = through(masking, "dry", send_grpc, signal, **sent)
    assert attributes(first) == sent
    counted = {
        detector: masking.total("gateway_mask_dry_run_values_total", tenant="dry", signal=signal, detector=detector)
        for detector in ("email", "ipv4", "key")
    }
    assert counted == {"email": 1, "ipv4": 1, "key": 1}
    assert masking.total("gateway_masked_values_total", tenant="dry") == 0
    status, text = page_of(masking, "/-/masking?tenant=dry")
    assert status == 200
    shown = json.loads(text)
    assert shown["tenants"] == [{"tenant": "dry", "dry_run": True}]
    found = {"tenant": "dry", "signal": signal, "place": "attribute_value", "values": 1}
    assert [location for location in shown["locations"] if location["signal"] == signal] == [
        {**found, "key": "contact", "detector": "email"},
        {**found, "key": "contact", "detector": "ipv4"},
        {**found, "key": "password", "detector": "key"},
    ]
    assert not any(value in text for value in (MAIL, ADDRESS, PASSWORD, "bob"))


def test_a_tenants_credential_sees_its_own_dry_run_only(masking: Gateway) -> None:
    through(masking, "dry-too", send_grpc, "logs", contact=MAIL)
    status, text = page_of(masking, "/-/masking", "dry-sees")
    assert (status, {entry["tenant"] for entry in json.loads(text)["tenants"]}) == (200, {"dry-too"})
    assert {location["tenant"] for location in json.loads(text)["locations"]} == {"dry-too"}
    status, text = page_of(masking, "/-/masking?tenant=redact", "dry-sees")
    assert (status, text) == (403, "this credential sees the masking of tenant dry-too only\n")
    everybody = json.loads(page_of(masking, "/-/masking")[1])["tenants"]
    assert everybody == [{"tenant": tenant, "dry_run": tenant in ("dry", "dry-too")} for tenant in MASKS]


BAD_QUERIES = [
    ("/-/masking?tennant=dry", ADMIN_TOKEN, 400),
    ("/-/masking?tenant=a&tenant=b", ADMIN_TOKEN, 400),
    ("/-/masking", "nobody", 401),
]


@pytest.mark.parametrize(("path", "token", "status"), BAD_QUERIES)
def test_what_nobody_may_ask_is_refused(masking: Gateway, path: str, token: str, status: int) -> None:
    assert page_of(masking, path, token)[0] == status


# What cannot be searched, or is not known.


def test_what_is_over_the_budget_is_removed_and_counted(masking: Gateway) -> None:
    large = f"{MAIL} " + "x" * (6 << 20)
    before = len(delivered(masking, "budget"))
    payload = request("logs", body=large, contact="short").SerializeToString()
    assert send_grpc(masking, payload, signal="logs", headers=credential("budget")).code == "OK"
    (line,) = delivered(masking, "budget")[before:]
    first, _ = items(line)
    assert first["body"] == {"stringValue": "[removed]"}
    assert masking.total("gateway_mask_failures_total", tenant="budget", signal="logs", reason="size") >= 1


def test_a_small_item_is_searched_after_a_large_one(masking: Gateway) -> None:
    built = request("logs", body="x" * (2 << 20))
    built.resource_logs[0].scope_logs[0].log_records[1].body.CopyFrom(AnyValue(string_value=f"to {MAIL}"))
    before = len(delivered(masking, "budget"))
    assert send_http(masking, built.SerializeToString(), signal="logs", headers=credential("budget")).code == "OK"
    (line,) = delivered(masking, "budget")[before:]
    assert [item["body"]["stringValue"] for item in items(line)] == ["[removed]", "to [email]"]


UNKNOWN_FIELD = b"\xfa\x07\x0fbob@example.com"
"""Number 127, which OTLP does not have."""


@pytest.mark.parametrize(("mask", "kept"), [({"keys": [], "detectors": "email"}, False), (None, True)])
async def test_fields_that_nobody_knows_are_dropped_where_masking_is_on(
    tmp_path: Path, mask: dict[str, Any] | None, kept: bool
) -> None:
    """To an OTLP destination, since files hold JSON, which has known fields only."""
    built = request("logs", contact="fine")
    record = built.resource_logs[0].scope_logs[0].log_records[0]
    record.MergeFromString(UNKNOWN_FIELD)
    assert UNKNOWN_FIELD in built.SerializeToString()
    async with scripted(200) as backend:
        config = base_config(tmp_path)
        config["destinations"] = {"b": {"type": "otlp", "endpoint": backend.url, "protocol": "http"}}
        config["defaults"] = {"routes": {"logs": ["b"]}, **({"mask": mask} if mask else {})}

        def send() -> None:
            with run_gateway(tmp_path, config) as gateway:
                payload = built.SerializeToString()
                assert send_http(gateway, payload, signal="logs", headers=bearer("acme-key")).code == "OK"
                gateway.wait_delivered()

        await asyncio.to_thread(send)
    (body,) = backend.bodies
    assert (UNKNOWN_FIELD in body) is kept
    (resource,) = ExportLogsServiceRequest.FromString(body).resource_logs
    assert resource.scope_logs[0].log_records[0].attributes[0].value.string_value == "fine"
