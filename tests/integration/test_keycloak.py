"""Tokens of a real Keycloak, from its realms to tenants, and to backends.

All its tests are here: each worker that runs one starts a Keycloak of its own.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config.identity import Oidc
from gateway.delivery.senders.outcome import Delivered, Held
from gateway.identity.oidc import OidcVerifier
from gateway.identity.verdict import RefusalReason, Refused, Unavailable, Verdict
from gateway.types import Signal
from tests.support.answer import answer
from tests.support.clients import bearer, send_grpc, send_http
from tests.support.gateway import base_config, run_gateway
from tests.support.keycloak import AUDIENCE, CLIENT_SECRET, TENANT_OF_REALM, Keycloak
from tests.support.load import TokenLoad, key_id
from tests.support.payloads import traces
from tests.support.scripted import scripted

# Keycloak needs half a minute to start, and more where many things run at once.
pytestmark = pytest.mark.timeout(400)

REALM = "acme-realm"


@asynccontextmanager
async def verifying(keycloak: Keycloak, **changes: Any) -> AsyncIterator[OidcVerifier]:
    """Both realms, as a gateway would be configured."""
    verifier = OidcVerifier()
    await verifier.reconfigure(
        [
            Oidc(**{"issuer": keycloak.issuer(realm), "audience": AUDIENCE, "timeout": 20, **changes})
            for realm in TENANT_OF_REALM
        ]
    )
    try:
        yield verifier
    finally:
        await verifier.close()


async def token(keycloak: Keycloak, realm: str = REALM, client: str = "agent") -> str:
    return await asyncio.to_thread(keycloak.token, realm, client)


async def verdict(keycloak: Keycloak, client: str, **changes: Any) -> Verdict:
    async with verifying(keycloak, **changes) as verifier:
        return await verifier.verify(await token(keycloak, client=client))


async def refusal(keycloak: Keycloak, client: str, **changes: Any) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        await verdict(keycloak, client, **changes)
    return caught.value.reason


async def test_tokens_of_two_realms_are_of_their_tenants(keycloak: Keycloak) -> None:
    async with verifying(keycloak) as verifier:
        for realm, tenant in TENANT_OF_REALM.items():
            found = await verifier.verify(await token(keycloak, realm))
            assert found.tenant == tenant
            assert found.signals is None
            assert found.subject


async def test_a_gateway_takes_what_keycloak_signed(keycloak: Keycloak, tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["identity"] = [
        {"oidc": {"issuer": keycloak.issuer(realm), "audience": AUDIENCE, "timeout": 20}} for realm in TENANT_OF_REALM
    ]
    payload = traces().SerializeToString()
    with run_gateway(tmp_path, config) as gateway:
        for realm, tenant in TENANT_OF_REALM.items():
            shown = bearer(await token(keycloak, realm))
            for send in (send_grpc, send_http):
                answer = await asyncio.to_thread(send, gateway, payload, headers=shown)
                assert answer.code == "OK", answer.message
            assert gateway.total("gateway_accepted_items_total", tenant=tenant) == 2


async def test_a_token_of_one_realm_is_nothing_where_only_the_other_is_configured(keycloak: Keycloak) -> None:
    verifier = OidcVerifier()
    await verifier.reconfigure([Oidc(issuer=keycloak.issuer("globex-realm"), audience=AUDIENCE)])
    with pytest.raises(Refused) as caught:
        await verifier.verify(await token(keycloak, REALM))
    await verifier.close()
    assert caught.value.reason is RefusalReason.UNKNOWN_ISSUER


@pytest.mark.parametrize("client", ["agent-ps256", "agent-es384", "agent-eddsa"])
async def test_whatever_keycloak_signs_with_a_private_key_is_verified(keycloak: Keycloak, client: str) -> None:
    assert (await verdict(keycloak, client)).tenant == "acme"


async def test_a_token_signed_with_a_secret_is_refused(keycloak: Keycloak) -> None:
    assert await refusal(keycloak, "agent-hs256") is RefusalReason.ALGORITHM_NOT_ALLOWED


async def test_a_token_for_another_audience_is_refused(keycloak: Keycloak) -> None:
    assert await refusal(keycloak, "for-another-audience") is RefusalReason.WRONG_AUDIENCE


async def test_an_expired_token_is_refused(keycloak: Keycloak) -> None:
    async with verifying(keycloak, leeway=0) as verifier:
        short = await token(keycloak, client="short-lived")
        await asyncio.sleep(2)
        with pytest.raises(Refused) as caught:
            await verifier.verify(short)
        assert caught.value.reason is RefusalReason.EXPIRED


GROUPS = {"tenant_claim": "groups", "tenant_pattern": "/tenants/([^/]+)"}


async def test_a_group_can_be_the_tenant(keycloak: Keycloak) -> None:
    assert (await verdict(keycloak, "in-a-group", **GROUPS)).tenant == "acme"
    assert await refusal(keycloak, "in-two-groups", **GROUPS) is RefusalReason.AMBIGUOUS_TENANT
    assert await refusal(keycloak, "agent", **GROUPS) is RefusalReason.NO_TENANT_CLAIM
    assert await refusal(keycloak, "in-a-group", tenant_claim="groups") is RefusalReason.AMBIGUOUS_TENANT


async def test_scopes_decide_the_signals(keycloak: Keycloak) -> None:
    scopes = {"traces": "email", "logs": "otlp.logs"}
    assert (await verdict(keycloak, "agent", scopes=scopes)).signals == {"traces"}


async def test_a_rotation_refuses_nobody_until_the_old_key_is_gone(keycloak: Keycloak) -> None:
    async with verifying(keycloak) as verifier:
        before = await token(keycloak)
        await verifier.verify(before)
        for _ in range(2):
            await asyncio.to_thread(keycloak.rotate_keys, REALM)
            after = await asyncio.gather(*(token(keycloak) for _ in range(10)))
            verdicts = await asyncio.gather(*map(verifier.verify, [before, *after]))
            assert {found.tenant for found in verdicts} == {"acme"}
        await asyncio.to_thread(keycloak.drop_old_keys, REALM)
        assert (await verifier.verify(after[0])).tenant == "acme"
    # What knows nothing of the old key takes the new one only.
    async with verifying(keycloak) as fresh:
        assert (await fresh.verify(after[0])).tenant == "acme"
        with pytest.raises(Refused) as caught:
            await fresh.verify(before)
        assert caught.value.reason is RefusalReason.UNKNOWN_KEY


def test_keys_are_rotated_under_load_without_a_failed_request(keycloak: Keycloak, tmp_path: Path) -> None:
    config = base_config(tmp_path)
    config["identity"] = [{"oidc": {"issuer": keycloak.issuer(REALM), "audience": AUDIENCE, "timeout": 20}}]

    def fetch() -> str:
        return keycloak.token(REALM, "renewing")

    with run_gateway(tmp_path, config) as gateway:
        with TokenLoad(gateway, fetch, [0.5, 5]) as load:
            kids = [key_id(fetch())]
            load.wait_for_key(kids[-1])
            for _ in range(2):
                keycloak.rotate_keys(REALM)
                kids.append(key_id(fetch()))
                load.wait_for_key(kids[-1])
                # Some still show a token of the old key, until all of them have ended.
                load.wait_for_key(kids[-2], 1)
                time.sleep(8)
                keycloak.drop_old_keys(REALM)
                load.wait_for_key(kids[-1])
        assert load.failures == []
        assert set(load.answers) == {"OK"}
        assert set(load.signed_by) == set(kids)
        assert len(set(kids)) == 3
        believed = gateway.total("gateway_token_verdicts_total", verdict="believed")
        assert gateway.total("gateway_token_verdicts_total") == believed
        assert gateway.total("gateway_accepted_items_total", tenant="acme") == load.answers.total()


async def test_known_keys_live_on_while_keycloak_hangs(keycloak: Keycloak) -> None:
    async with verifying(keycloak, timeout=20) as verifier:
        known = [await token(keycloak) for _ in range(2)]
        await verifier.verify(known[0])
        with keycloak.frozen():
            assert (await verifier.verify(known[1])).tenant == "acme"
    with keycloak.frozen():
        async with verifying(keycloak, timeout=0.5) as fresh:
            with pytest.raises(Unavailable, match="no answer"):
                await fresh.verify(known[0])


async def test_known_keys_live_on_while_keycloak_is_stopped(keycloak: Keycloak) -> None:
    async with verifying(keycloak) as verifier, verifying(keycloak) as of_the_other_realm:
        known = [await token(keycloak) for _ in range(2)]
        other = await token(keycloak, "globex-realm")
        await verifier.verify(known[0])
        await asyncio.to_thread(keycloak.rotate_keys, REALM)
        signed_with_a_new_key = await token(keycloak)
        with keycloak.stopped():
            assert (await verifier.verify(known[1])).tenant == "acme"
            with pytest.raises(Unavailable) as caught:
                await verifier.verify(signed_with_a_new_key)
            assert caught.value.retry_after_s >= 1
            async with verifying(keycloak) as fresh:
                with pytest.raises(Unavailable):
                    await fresh.verify(known[0])
        assert (await verifier.verify(signed_with_a_new_key)).tenant == "acme"
        assert (await of_the_other_realm.verify(other)).tenant == "globex"


async def test_the_token_of_a_client_goes_with_the_requests_to_a_backend(keycloak: Keycloak) -> None:
    oauth2 = {
        "token_url": keycloak.issuer("acme-realm") + "/protocol/openid-connect/token",
        "client_id": "agent",
        "client_secret": CLIENT_SECRET,
        "timeout": "30s",
    }
    async with scripted() as backend:
        where = {"type": "remote_write", "url": backend.url}
        for way in ("basic", "body"):
            settings = {**where, "oauth2": {**oauth2, "client_auth": way}}
            assert await answer(Signal.METRICS, b"", **settings) == Delivered()
        wrong = {**where, "oauth2": {**oauth2, "client_secret": "another"}}
        assert await answer(Signal.METRICS, b"", **wrong) == Held("no_credential")
    assert len(backend.bodies) == 2
    assert all(headers["authorization"].startswith("Bearer eyJ") for headers in backend.headers)
