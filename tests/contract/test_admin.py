"""The admin port: who may look and reload, by which credential, over TLS."""

import asyncio
import base64
import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from gateway.admin import auth
from gateway.admin.app import AdminApp
from gateway.admin.auth import FailureLimiter, Gatekeeper
from gateway.admin.masking import MaskingView
from gateway.admin.metrics import DaemonState
from gateway.audit.audit import Audit
from gateway.config.models import Admin, AdminToken
from gateway.usage.usage import Sources, Usage
from tests.support.certificates import Authority
from tests.support.clients import basic, bearer, send_http
from tests.support.gateway import ADMIN_TOKEN, Gateway, base_config, run_gateway
from tests.support.payloads import traces
from tests.support.processes import wait_until

OPERATOR = bearer(ADMIN_TOKEN)
METRICS = ["/metrics", "/_metrics"]


@dataclass(frozen=True)
class Page:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Port:
    """An admin port, and how to speak to it."""

    gateway: Gateway
    tls: ssl.SSLContext | None = None
    folder: Path = Path()

    def get(
        self,
        path: str,
        headers: Mapping[str, Any] | None = None,
        *,
        method: str = "GET",
        tls: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
    ) -> Page:
        """One request on a connection of its own, from the address `source`."""
        host, port = self.gateway.admin.split(":")
        context = tls or self.tls
        connection = (
            http.client.HTTPSConnection(host, int(port), timeout=30, context=context, source_address=(source, 0))
            if context is not None
            else http.client.HTTPConnection(host, int(port), timeout=30, source_address=(source, 0))
        )
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Page(answer.status, answer.headers, answer.read().decode())
        finally:
            connection.close()

    def samples(self, path: str, headers: Mapping[str, str]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        page = self.get(path, headers)
        assert page.status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """TLS, and every kind of credential; both tenants have sent something."""
    folder = tmp_path_factory.mktemp("admin")
    authority = Authority(folder)
    served = authority.issue("server")
    config = base_config(folder)
    config["admin"] |= {
        "tls": {
            "cert_file": str(served.cert_file),
            "key_file": str(served.key_file),
            "client_ca_file": str(authority.file),
        },
        "tokens": [
            {"name": "ops", "token": ADMIN_TOKEN},
            {"name": "acme", "token": "acme-sees", "tenant": "acme"},
            {"name": "nobody", "token": ""},
        ],
        "basic": [
            {"name": "ops", "password": "pässword"},
            {"name": "globex", "password": "globex-sees", "tenant": "globex"},
        ],
    }
    with run_gateway(folder, config) as gateway:
        for key in ("acme-key", "globex-key"):
            assert send_http(gateway, traces().SerializeToString(), headers=bearer(key)).code == "OK"
        yield Port(gateway, ssl.create_default_context(cafile=authority.file), folder)


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """No credential, and no TLS."""
    folder = tmp_path_factory.mktemp("admin-unguarded")
    config = base_config(folder)
    config["admin"]["tokens"] = [{"name": "ops", "token": ""}]
    with run_gateway(folder, config) as gateway:
        yield Port(gateway)


@pytest.mark.parametrize("headers", [{}, bearer(""), bearer(ADMIN_TOKEN), basic("", ""), basic("ops", "")])
@pytest.mark.parametrize(("method", "path"), [("GET", "/metrics"), ("GET", "/_metrics"), ("POST", "/-/reload")])
def test_without_a_credential_configured_nobody_may_look(
    unguarded: Port, method: str, path: str, headers: dict[str, str]
) -> None:
    page = unguarded.get(path, headers, method=method)
    assert page.status == 403
    assert "add admin.tokens" in page.text
    assert "gateway_" not in page.text


GOOD = {
    "bearer": OPERATOR,
    "bearer in lower case": {"authorization": f"bearer {ADMIN_TOKEN}"},
    "basic": basic("ops", "pässword"),
    "tenant's bearer": bearer("acme-sees"),
    "tenant's basic": basic("globex", "globex-sees"),
}
BAD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "empty bearer": bearer(""),
    "wrong bearer": bearer("wrong"),
    "a password as bearer": bearer("globex-sees"),
    "a key of telemetry": bearer("acme-key"),
    "wrong password": basic("ops", "wrong"),
    "another's password": basic("ops", "globex-sees"),
    "a token as password": basic("ops", ADMIN_TOKEN),
    "no scheme": {"authorization": ADMIN_TOKEN},
    "unknown scheme": {"authorization": f"Digest {ADMIN_TOKEN}"},
    "basic that is not base64": {"authorization": "Basic ops:pässword".encode()},
    "basic that is not UTF-8": {"authorization": b"Basic " + base64.b64encode(b"ops:\xff")},
    "bearer that is not UTF-8": {"authorization": b"Bearer \xff\xfe"},
}


@pytest.mark.parametrize("path", METRICS)
@pytest.mark.parametrize("headers", GOOD.values(), ids=GOOD)
def test_every_good_credential_may_look(guarded: Port, path: str, headers: dict[str, str]) -> None:
    page = guarded.get(path, headers)
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/plain; version=")
    assert "gateway_received_items_total" in page.text


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
def test_every_bad_credential_is_asked_for_a_good_one(guarded: Port, headers: dict[str, Any]) -> None:
    # An address of its own, since failures are counted by address.
    page = guarded.get("/_metrics", headers, source=f"127.0.1.{1 + list(BAD.values()).index(headers)}")
    assert page.status == 401
    assert page.headers["www-authenticate"] == 'Bearer realm="gateway", Basic realm="gateway"'
    assert "gateway_" not in page.text


@pytest.mark.parametrize(
    ("headers", "own", "other"),
    [(bearer("acme-sees"), "acme", "globex"), (basic("globex", "globex-sees"), "globex", "acme")],
)
def test_a_tenants_credential_sees_its_own_series_only(
    guarded: Port, headers: dict[str, str], own: str, other: str
) -> None:
    page = guarded.get("/_metrics", headers).text
    assert f'gateway_received_items_total{{signal="traces",tenant="{own}"}} 1.0' in page
    assert other not in page
    tenants = {dict(labels).get("tenant") for _, labels in guarded.samples("/_metrics", headers)}
    assert tenants == {own}, "no series of the process either"
    everybody = {dict(labels).get("tenant") for _, labels in guarded.samples("/_metrics", OPERATOR)}
    assert {"acme", "globex", None} <= everybody


def test_metrics_is_the_same_page_as_underscore_metrics(guarded: Port) -> None:
    first, second = (guarded.samples(path, OPERATOR) for path in METRICS)
    assert first.keys() == second.keys()
    received = ("gateway_received_items_total", frozenset({("tenant", "acme"), ("signal", "traces")}))
    assert first[received] == second[received] == 1


def test_open_metrics_is_spoken_to_those_who_ask(guarded: Port) -> None:
    page = guarded.get("/_metrics", {**OPERATOR, "accept": "application/openmetrics-text; version=1.0.0"})
    assert page.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert page.text.endswith("# EOF\n")


def client_context(port: Port, authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=port.folder / "authority.crt")
    shown = authority.issue("prometheus")
    context.load_cert_chain(shown.cert_file, shown.key_file)
    return context


def test_a_client_certificate_of_the_authority_is_an_operators_credential(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    served = authority.issue("server")
    config = base_config(tmp_path)
    config["admin"]["tokens"] = []
    config["admin"]["tls"] = {
        "cert_file": str(served.cert_file),
        "key_file": str(served.key_file),
        "client_ca_file": str(authority.file),
    }
    with run_gateway(tmp_path, config) as gateway:
        port = Port(gateway, folder=tmp_path)
        known = client_context(port, authority)
        assert "gateway_build_info" in port.get("/_metrics", tls=known).text
        assert port.get("/-/reload", tls=known, method="POST").status == 200
        without = ssl.create_default_context(cafile=authority.file)
        assert port.get("/-/healthy", tls=without).status == 200
        assert port.get("/_metrics", tls=without).status == 401
        (tmp_path / "others").mkdir()
        unknown = client_context(port, Authority(tmp_path / "others"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            port.get("/_metrics", tls=unknown)


def test_a_tls_port_speaks_nothing_else(guarded: Port) -> None:
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        Port(guarded.gateway).get("/-/healthy")
    old = ssl.create_default_context(cafile=guarded.folder / "authority.crt")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert guarded.get("/-/healthy", tls=old).status == 200


METHODS = [
    ("GET", "/-/healthy", 200),
    ("HEAD", "/-/healthy", 200),
    ("POST", "/-/healthy", 405),
    ("GET", "/-/ready", 200),
    ("DELETE", "/-/ready", 405),
    ("POST", "/-/masking", 405),
    ("POST", "/_metrics", 405),
    ("POST", "/metrics", 405),
    ("GET", "/-/reload", 405),
    ("DELETE", "/-/reload", 405),
    ("GET", "/", 404),
    ("GET", "/_metrics/", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), METHODS)
def test_every_path_takes_its_methods_only_and_is_never_cached(
    guarded: Port, method: str, path: str, status: int
) -> None:
    page = guarded.get(path, OPERATOR, method=method)
    assert page.status == status
    assert ("allow" in page.headers) is (status == 405)
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["server"] == "gateway"


def test_health_and_readiness_are_for_everybody(guarded: Port) -> None:
    assert guarded.get("/-/healthy").text == "healthy\n"
    ready = json.loads(guarded.get("/-/ready").text)
    checks = {"listening": True, "policy": True, "queue": True}
    assert ready == {"ready": True, "checks": checks, "missing_pseudonym_keys": {}}


def test_reload_is_for_operators(guarded: Port) -> None:
    assert guarded.get("/-/reload", method="POST", source="127.0.2.1").status == 401
    assert guarded.get("/-/reload", bearer("acme-sees"), method="POST").status == 403
    generation = ("gateway_policy_generation", frozenset[tuple[str, str]]())
    before = guarded.samples("/_metrics", OPERATOR)[generation]
    for method in ("POST", "PUT"):
        page = guarded.get("/-/reload", OPERATOR, method=method)
        assert (page.status, page.text) == (200, "reloaded\n")
    assert guarded.samples("/_metrics", OPERATOR)[generation] == before + 2


def test_guessing_is_slowed_down_for_the_address_that_guesses(guarded: Port) -> None:
    denied = ("gateway_admin_denied_total", frozenset[tuple[str, str]]())
    before = guarded.samples("/_metrics", OPERATOR)[denied]
    began = time.monotonic()
    guesses = [guarded.get("/_metrics", bearer(f"guess-{n}"), source="127.0.3.1").status for n in range(26)]
    assert guesses == [401] * 20 + [429] * 6
    assert time.monotonic() - began >= 5 * 0.2, "one after the other, five a second"
    assert guarded.get("/-/healthy", source="127.0.3.1").status == 200
    assert guarded.samples("/_metrics", OPERATOR)[denied] == before + 26


def test_a_good_credential_works_from_an_address_that_guesses(guarded: Port) -> None:
    """Behind one proxy, one wrong scraper must not keep every operator out."""

    def guess(number: int) -> int:
        return guarded.get("/_metrics", bearer(f"guess-{number}"), source="127.0.3.2").status

    for number in range(20):
        assert guess(number) == 401
    with ThreadPoolExecutor(4) as guessers:
        guesses = guessers.map(guess, range(8))
        good = [guarded.get("/_metrics", headers, source="127.0.3.2").status for headers in GOOD.values()]
    assert good == [200] * len(GOOD)
    assert set(guesses) == {429}


def test_a_flood_of_guesses_is_not_looked_at(guarded: Port) -> None:
    source = "127.0.3.3"
    for number in range(20):
        guarded.get("/_metrics", bearer(f"guess-{number}"), source=source)
    with ThreadPoolExecutor(40) as guessers:
        pages = list(guessers.map(lambda _: guarded.get("/_metrics", bearer("guess"), source=source), range(40)))
    assert {page.status for page in pages} == {429}
    # In a turn that takes 3 s at most, and 0.2 s each.
    looked_at = [page for page in pages if page.headers["retry-after"] == "60"]
    assert 0 < len(looked_at) <= 3 / 0.2 + 2
    wait_until(lambda: guarded.get("/_metrics", OPERATOR, source=source).status == 200, "the flood to be over")


def test_an_address_is_listened_to_at_once_after_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(auth.time, "monotonic", lambda: now)
    limiter = FailureLimiter()
    for _ in range(20):
        assert not limiter.limited("192.0.2.1")
        limiter.failed("192.0.2.1")
    assert limiter.limited("192.0.2.1")
    now += 61
    assert not limiter.limited("192.0.2.1")
    limiter.failed("192.0.2.1")
    assert not limiter.limited("192.0.2.1"), "the count starts anew"


def test_what_is_looked_at_of_an_address_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(auth.time, "monotonic", lambda: now)
    limiter = FailureLimiter()
    looked_at = 0
    for _ in range(6000):
        now += 0.01
        if not limiter.limited("192.0.2.1") or limiter.turn("192.0.2.1") is not None:
            looked_at += 1
            limiter.failed("192.0.2.1")
    # A minute of a hundred guesses a second: those of the window, five a second, and those who still wait.
    assert looked_at <= 20 + 60 * 5 + 16


def test_the_memory_of_addresses_is_bounded() -> None:
    limiter = FailureLimiter()
    for number in range(10_000):
        limiter.failed(f"address {number}")
    assert len(limiter._records) == 4096


async def small_app(collectors: Sequence[Collector] = (), tokens: tuple[AdminToken, ...] = ()) -> AdminApp:
    async def reload(_actor: str) -> Any:
        raise AssertionError("nobody asked")

    return AdminApp(
        gatekeeper=Gatekeeper(Admin(tokens=tokens)),
        state=DaemonState("1"),
        checks=lambda: {"listening": True, "queue": False},
        collectors=lambda _tenant: collectors,
        reload=reload,
        witness=Audit.open(None, lambda: 1),
        usage=await Usage.open(None, Sources(bytes, dict)),
        masking=lambda: MaskingView({}, ()),
        missing_keys=lambda: {"main": 2},
    )


class SlowCollector(Collector):
    """Of so many tenants that a page takes long."""

    def __init__(self) -> None:
        self.at_once = self.most_at_once = 0

    def collect(self) -> Iterator[Metric]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.3)
        self.at_once -= 1
        yield GaugeMetricFamily("gateway_slow", "x", value=1)


@pytest.mark.alone
async def test_a_page_that_takes_long_holds_up_nothing_else() -> None:
    slow = SlowCollector()
    app = await small_app([slow], (AdminToken(name="ops", token=ADMIN_TOKEN),))
    async with TestClient(TestServer(app.application())) as client:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        pages = [asyncio.create_task(client.get("/_metrics", headers=headers)) for _ in range(3)]
        waits = []
        while not all(page.done() for page in pages):
            began = time.monotonic()
            assert (await client.get("/-/healthy")).status == 200
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
        assert [(await page).status for page in pages] == [200] * 3
        assert slow.most_at_once == 1
        assert max(waits) < 0.25


async def test_readiness_names_the_part_that_is_not_ready() -> None:
    app = await small_app()
    async with TestClient(TestServer(app.application())) as client:
        answer = await client.get("/-/ready")
        assert answer.status == 503
        assert await answer.json() == {
            "ready": False,
            "checks": {"listening": True, "queue": False},
            "missing_pseudonym_keys": {"main": 2},
        }
