"""Who a request is from: tokens of an issuer, keys that come and go, trusted gateways, several credentials at once."""

import asyncio
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from gateway.identity.verdict import RefusalReason
from tests.support.clients import Answer, bearer, send_grpc, send_http
from tests.support.gateway import Gateway, accounted_config, base_config, run_gateway, sha256
from tests.support.issuer import AUDIENCE, Issuer, b64, run_issuer, signing_key
from tests.support.payloads import logs, traces
from tests.support.processes import wait_until

SENDERS = [send_grpc, send_http]
TRACES = traces().SerializeToString()


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with run_issuer() as running:
        running.publish(signing_key())
        yield running


def with_oidc(folder: Path, issuer: Issuer, **changes: Any) -> dict[str, Any]:
    config = base_config(folder)
    config["identity"] = [
        {"api_key": {"header": "x-api-key"}},
        {"api_key": {"header": "authorization", "scheme": "Bearer"}},
        {"oidc": {"issuer": issuer.url, "audience": AUDIENCE, **changes}},
    ]
    return config


async def send(sender: Any, gateway: Gateway, *args: Any, **options: Any) -> Answer:
    answer: Answer = await asyncio.to_thread(sender, gateway, *(args or (TRACES,)), **options)
    return answer


def token(issuer: Issuer, **claims: Any) -> dict[str, str]:
    return bearer(signing_key().token(issuer.claims(**claims)))


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_token_is_its_tenants_and_one_verification_serves_many(
    tmp_path: Path, issuer: Issuer, sender: Any
) -> None:
    with run_gateway(tmp_path, with_oidc(tmp_path, issuer)) as gateway:
        shown = token(issuer)
        answers = await asyncio.gather(*(send(sender, gateway, headers=shown) for _ in range(20)))
        assert {answer.code for answer in answers} == {"OK"}
        assert gateway.total("gateway_accepted_items_total", tenant="acme") > 0
        assert gateway.total("gateway_token_verdicts_total", verdict="believed") == 1
        assert (await send(sender, gateway, headers=bearer("acme-key"))).code == "OK"


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_token_that_is_not_believed_is_unauthenticated(tmp_path: Path, issuer: Issuer, sender: Any) -> None:
    past = time.time() - 3600
    refused = {
        RefusalReason.EXPIRED: token(issuer, exp=past),
        RefusalReason.WRONG_AUDIENCE: token(issuer, aud="somebody"),
        RefusalReason.UNKNOWN_ISSUER: token(issuer, iss="https://elsewhere.example"),
        RefusalReason.BAD_SIGNATURE: bearer(signing_key(number=1).token(issuer.claims())),
        RefusalReason.NO_TENANT_CLAIM: token(issuer, tenant_id=7),
    }
    with run_gateway(tmp_path, with_oidc(tmp_path, issuer)) as gateway:
        for reason, shown in refused.items():
            for _ in range(2):
                answer = await send(sender, gateway, headers=shown)
                assert (answer.code, answer.http_status) == ("UNAUTHENTICATED", None if sender is send_grpc else 401)
            assert gateway.total("gateway_token_verdicts_total", verdict=reason.value) == 1, reason
        assert gateway.total("gateway_unauthenticated_requests_total", reason="refused_token") == 2 * len(refused)
        stranger = await send(sender, gateway, headers=token(issuer, tenant_id="initech"))
        assert stranger.code == "UNAUTHENTICATED"
        assert gateway.total("gateway_unauthenticated_requests_total", reason="unknown_tenant") == 1


# Seconds from now, with the leeway of 30 s as it is by default, and what a sender hears.
SKEWS = [("exp", -20, "OK"), ("exp", -40, "UNAUTHENTICATED"), ("nbf", 20, "OK"), ("nbf", 40, "UNAUTHENTICATED")]


@pytest.mark.parametrize("sender", SENDERS)
async def test_clocks_may_differ_by_the_leeway_and_no_more(tmp_path: Path, issuer: Issuer, sender: Any) -> None:
    with run_gateway(tmp_path, with_oidc(tmp_path, issuer)) as gateway:
        for claim, seconds, code in SKEWS:
            shown = token(issuer, **{claim: time.time() + seconds})
            assert (await send(sender, gateway, headers=shown)).code == code, (claim, seconds)


async def test_a_known_token_ends_with_its_leeway_and_an_early_one_begins(tmp_path: Path, issuer: Issuer) -> None:
    """What is remembered of a token must not outlive it, nor keep it out once it is good."""
    config = with_oidc(tmp_path, issuer, leeway="1s")
    with run_gateway(tmp_path, config) as gateway:
        now = time.time()
        ending, beginning = token(issuer, exp=now + 2), token(issuer, nbf=now + 4)

        async def hears(shown: dict[str, str], code: str) -> None:
            while (await send(send_http, gateway, headers=shown)).code != code:
                assert time.time() < now + 15, code
                await asyncio.sleep(0.05)

        assert (await send(send_http, gateway, headers=ending)).code == "OK"
        assert (await send(send_http, gateway, headers=beginning)).code == "UNAUTHENTICATED"
        await hears(ending, "UNAUTHENTICATED")
        # exp and leeway, each a whole second.
        assert now + 2 < time.time()
        await hears(beginning, "OK")
        assert now + 3 <= time.time()


@pytest.mark.parametrize("sender", SENDERS)
async def test_scopes_are_the_signals_that_a_token_may_send(tmp_path: Path, issuer: Issuer, sender: Any) -> None:
    scopes = {"traces": "otlp.traces", "logs": "otlp.logs"}
    with run_gateway(tmp_path, with_oidc(tmp_path, issuer, scopes=scopes)) as gateway:
        shown = token(issuer, scope="profile otlp.traces")
        assert (await send(sender, gateway, headers=shown)).code == "OK"
        denied = await send(sender, gateway, logs().SerializeToString(), signal="logs", headers=shown)
        assert (denied.code, denied.http_status) == ("PERMISSION_DENIED", None if sender is send_grpc else 403)


@pytest.mark.parametrize("sender", SENDERS)
async def test_an_issuer_that_is_down_stops_new_tokens_alone(tmp_path: Path, issuer: Issuer, sender: Any) -> None:
    with run_gateway(tmp_path, with_oidc(tmp_path, issuer)) as gateway:
        known = token(issuer)
        assert (await send(sender, gateway, headers=known)).code == "OK"
        issuer.break_down()
        fresh = bearer(signing_key("k9", number=9).token(issuer.claims(iat=time.time() + 1)))
        answer = await send(sender, gateway, headers=fresh)
        assert (answer.code, answer.http_status) == ("UNAVAILABLE", None if sender is send_grpc else 503)
        assert answer.retry_after_s is not None
        assert answer.retry_after_s > 0
        assert (await send(sender, gateway, headers=known)).code == "OK"


async def test_a_token_reaches_nothing_of_another_tenant(tmp_path: Path, issuer: Issuer) -> None:
    """Whatever stands in payload and headers."""
    with run_gateway(tmp_path, with_oidc(tmp_path, issuer)) as gateway:
        payload = traces(tenant="globex").SerializeToString()
        shown = {**token(issuer), "x-scope-orgid": "globex", "x-tenant": "globex", "tenant": "globex"}
        assert (await send(send_http, gateway, payload, headers=shown)).code == "OK"
        both = {**token(issuer), "x-api-key": "globex-key"}
        answer = await send(send_http, gateway, headers=both)
        assert (answer.code, answer.http_status) == ("UNAUTHENTICATED", 401)
        assert gateway.total("gateway_unauthenticated_requests_total", reason="conflicting_credentials") == 1
        gateway.wait_delivered()
        assert gateway.total("gateway_received_items_total", tenant="globex") == 0
        assert not (tmp_path / "out" / "globex.jsonl").exists()
        assert '"globex"' not in (tmp_path / "out" / "acme.jsonl").read_text()


async def test_a_storm_of_made_up_tokens_costs_a_bounded_number_of_verifications(
    tmp_path: Path, issuer: Issuer
) -> None:
    config = with_oidc(tmp_path, issuer)
    config["tokens"] = {"verifications_per_address": 5}
    with run_gateway(tmp_path, config) as gateway:
        known = token(issuer)
        assert (await send(send_http, gateway, headers=known)).code == "OK"
        forger = signing_key(number=3)
        began = time.monotonic()
        codes: Counter[str] = Counter()
        for batch in range(15):
            storm = [bearer(forger.token(issuer.claims(jti=f"{batch}-{number}"))) for number in range(20)]
            answers = await asyncio.gather(*(send(send_http, gateway, headers=shown) for shown in storm))
            codes.update(answer.code for answer in answers)
            assert (await send(send_http, gateway, headers=known)).code == "OK"
        took = time.monotonic() - began
        judged = gateway.total("gateway_token_verdicts_total", verdict="bad_signature")
        # Four times the rate after a rest, and what flows in meanwhile.
        assert judged <= 20 + 5 * took + 1
        assert codes == {"UNAUTHENTICATED": judged, "UNAVAILABLE": 300 - judged}
        assert codes["UNAVAILABLE"] > 100
        assert gateway.total("gateway_tokens_throttled_total") == codes["UNAVAILABLE"]


def made_up(dice: random.Random) -> str:
    """What an attacker sprays: noise, noise in the form of a token, and a header of ours with noise behind it."""
    noise = b64(dice.randbytes(40))
    header = b64({"alg": "ES256", "kid": f"k{dice.randrange(1000)}", "typ": "JWT"})
    return dice.choice([noise, f"ey{noise}.{noise}.{noise}", f"{header}.{noise}.{noise}"])


async def test_a_storm_of_noise_is_bounded_in_work_and_memory_on_both_transports(
    tmp_path: Path, issuer: Issuer
) -> None:
    config = with_oidc(tmp_path, issuer)
    config["tokens"] = {"verifications_per_second": 10, "verifications_per_address": 10, "max_refused": 16}
    dice = random.Random(20261125)
    with run_gateway(tmp_path, config) as gateway:
        known = [token(issuer), bearer("acme-key")]
        assert {(await send(send_http, gateway, headers=shown)).code for shown in known} == {"OK"}
        before, began = issuer.fetches, time.monotonic()
        codes: Counter[str] = Counter()
        for _ in range(15):
            storm = [(dice.choice(SENDERS), bearer(made_up(dice))) for _ in range(20)]
            answers = await asyncio.gather(*(send(sender, gateway, headers=shown) for sender, shown in storm))
            codes.update(answer.code for answer in answers)
            for sender in SENDERS:
                for shown in known:
                    assert (await send(sender, gateway, headers=shown)).code == "OK"
        took = time.monotonic() - began
        # Twice as many after a rest.
        assert gateway.total("gateway_token_verdicts_total") <= 1 + 20 + 10 * took + 1
        assert set(codes) == {"UNAUTHENTICATED", "UNAVAILABLE"}
        assert gateway.total("gateway_known_tokens") <= 16 + 1
        # Keys that nobody knows do not make the issuer pay either.
        assert issuer.fetches - before <= 3 + took / 10
        assert gateway.total("gateway_received_items_total") == gateway.total("gateway_accepted_items_total")
        assert gateway.unaccounted() == 0


@pytest.mark.parametrize("sender", SENDERS)
def test_a_key_may_end_and_may_be_for_some_signals(tmp_path: Path, sender: Any) -> None:
    config = base_config(tmp_path)
    config["tenants"]["acme"]["api_keys"] += [
        {"id": "old", "sha256": sha256("old-key"), "expires": "2020-01-01T00:00:00Z"},
        {"id": "logger", "sha256": sha256("log-key"), "signals": ["logs"], "expires": "2999-01-01T00:00:00Z"},
    ]
    with run_gateway(tmp_path, config) as gateway:
        expired = sender(gateway, TRACES, headers=bearer("old-key"))
        assert (expired.code, expired.message) == ("UNAUTHENTICATED", "the API key has expired")
        assert sender(gateway, TRACES, headers=bearer("log-key")).code == "PERMISSION_DENIED"
        assert sender(gateway, logs().SerializeToString(), signal="logs", headers=bearer("log-key")).code == "OK"
        assert gateway.total("gateway_unauthenticated_requests_total", reason="expired_key") == 1


def test_keys_of_a_watched_file_come_and_go(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump({"acme": [{"id": "k2", "sha256": sha256("second")}]}))
    config = {**base_config(tmp_path), "api_keys_file": "keys.yaml"}
    with run_gateway(tmp_path, config) as gateway:

        def code(key: str) -> str:
            return send_http(gateway, TRACES, headers=bearer(key)).code

        assert (code("second"), code("third")) == ("OK", "UNAUTHENTICATED")
        keys.write_text(yaml.safe_dump({"globex": [{"id": "k3", "sha256": sha256("third")}]}))
        wait_until(lambda: code("third") == "OK", "the new key to be known")
        assert (code("second"), code("acme-key")) == ("UNAUTHENTICATED", "OK")
        keys.write_text("globex: [{id: k3, sha256: short}]")
        wait_until(lambda: gateway.total("gateway_config_last_reload_successful") == 0, "the bad file to be told")
        assert code("third") == "OK"


def test_a_trusted_gateway_names_the_tenant(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["identity"] = [{"trusted_header": {"networks": ["127.0.0.0/8"]}}, {"api_key": {"header": "x-api-key"}}]
    with run_gateway(tmp_path, config) as gateway:
        assert send_http(gateway, TRACES, headers={"x-scope-orgid": "globex"}).code == "OK"
        assert gateway.total("gateway_accepted_items_total", tenant="globex") > 0
        assert send_http(gateway, TRACES, headers={"x-scope-orgid": "initech"}).code == "UNAUTHENTICATED"
    config["identity"][0]["trusted_header"]["networks"] = ["10.0.0.0/8"]
    with run_gateway(tmp_path, config) as gateway:
        assert send_http(gateway, TRACES, headers={"x-scope-orgid": "globex"}).code == "UNAUTHENTICATED"


def test_the_trail_tells_who_was_refused_and_which_keys_are_used(tmp_path: Path) -> None:
    config = accounted_config(tmp_path)
    config["tenants"]["acme"]["quotas"] = {"traces": {"items_per_second": 1, "burst": 1}}
    with run_gateway(tmp_path, config) as gateway:
        claims = traces(tenant="acme").SerializeToString()
        assert send_http(gateway, claims, headers=bearer("globex-key")).code == "OK"
        for _ in range(3):
            send_http(gateway, TRACES, headers=bearer("nobody-key"))
            send_grpc(gateway, TRACES, headers=bearer("acme-key"))
        assert gateway.stop() == 0
    lines = [
        json.loads(line)
        for file in sorted((tmp_path / "audit").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    events = [(line["event"], line["tenant"], line["details"]) for line in lines]
    refused = [details for event, _, details in events if event == "identity_refused"]
    assert [(details["reason"], details["transport"]) for details in refused] == [("unknown_credential", "http")]
    assert {tenant for event, tenant, _ in events if event == "key_first_used"} == {"acme", "globex"}
    assert [tenant for event, tenant, _ in events if event == "tenant_claims"] == ["globex"]
    verdicts = [
        (tenant, details["limit"], details["verdict"]) for event, tenant, details in events if event == "quota_verdict"
    ]
    assert verdicts == [("acme", "items_per_second", "over")]


@pytest.mark.parametrize("place", ["api_keys_file", "tenants"])
def test_keys_are_rotated_under_load_without_a_failed_request(tmp_path: Path, place: str) -> None:
    """In a watched file, and in the configuration by reloads."""
    keys = tmp_path / "keys.yaml"
    config = base_config(tmp_path)
    if place == "api_keys_file":
        config["api_keys_file"] = "keys.yaml"

    def write(*names: str) -> None:
        entries = [{"id": name, "sha256": sha256(name)} for name in names]
        if place == "api_keys_file":
            keys.write_text(yaml.safe_dump({"acme": entries}))
        else:
            config["tenants"]["acme"]["api_keys"] = entries
            (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))

    def change(*names: str) -> None:
        write(*names)
        if place == "tenants":
            gateway.process.signal(signal.SIGHUP)

    write("old")
    present, stop = ["old"], threading.Event()
    codes: Counter[str] = Counter()
    with run_gateway(tmp_path, config) as gateway:

        def load(sender: Any) -> None:
            while not stop.is_set():
                codes[sender(gateway, TRACES, headers=bearer(present[0])).code] += 1

        with ThreadPoolExecutor(max_workers=4) as senders:
            for sender in SENDERS * 2:
                senders.submit(load, sender)
            change("old", "new")
            wait_until(lambda: send_http(gateway, TRACES, headers=bearer("new")).code == "OK", "the new key")
            present[0] = "new"
            time.sleep(0.5)
            change("new")
            wait_until(lambda: send_http(gateway, TRACES, headers=bearer("old")).code != "OK", "the old key to go")
            time.sleep(0.5)
            stop.set()
        assert set(codes) == {"OK"}
        assert codes["OK"] > 50
