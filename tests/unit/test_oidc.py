"""Which tokens of an OpenID Connect issuer are believed, and what is asked of the issuer for it."""

import asyncio
import hmac
import json
import ssl
import subprocess
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.identity import Oidc
from gateway.identity.key_ring import KeyRing
from gateway.identity.oidc import OidcVerifier
from gateway.identity.signed_token import ALGORITHMS, MAX_TOKEN_BYTES
from gateway.identity.verdict import RefusalReason, Refused, Unavailable, Verdict
from gateway.types import Signal
from tests.support.issuer import (
    AUDIENCE,
    DISCOVERY_PATH,
    JWKS_PATH,
    Issuer,
    SigningKey,
    b64,
    run_issuer,
    signing_key,
)


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with run_issuer() as running:
        yield running


class Clocks:
    """Wall and monotonic time that a test can move, together."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def wall(self) -> float:
        return time.time() + self.offset_s

    def monotonic(self) -> float:
        return time.monotonic() + self.offset_s


def configured(issuer: Issuer, **changes: Any) -> Oidc:
    return Oidc(**{"issuer": issuer.url, "audience": AUDIENCE, **changes})


@asynccontextmanager
async def verifying(*configs: Oidc, clocks: Clocks | None = None) -> AsyncIterator[OidcVerifier]:
    clocks = clocks or Clocks()
    verifier = OidcVerifier(clock=clocks.wall, monotonic=clocks.monotonic)
    await verifier.reconfigure(configs)
    try:
        yield verifier
    finally:
        await verifier.close()


async def verdict(issuer: Issuer, token: str, **changes: Any) -> Verdict:
    async with verifying(configured(issuer, **changes)) as verifier:
        return await verifier.verify(token)


async def refusal(issuer: Issuer, token: str, **changes: Any) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        await verdict(issuer, token, **changes)
    return caught.value.reason


async def outcome(verifier: OidcVerifier, token: str) -> Verdict | Refused | Unavailable:
    try:
        return await verifier.verify(token)
    except (Refused, Unavailable) as error:
        return error


# What is believed.


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
async def test_every_signature_with_a_public_key_is_verified(issuer: Issuer, algorithm: str) -> None:
    key = signing_key("k", algorithm)
    issuer.publish(signing_key("other", algorithm, 1), key)
    claims = issuer.claims()
    async with verifying(configured(issuer)) as verifier:
        assert await verifier.verify(key.token(claims)) == Verdict("acme", None, "svc", claims["exp"] + 30.0)
        forged = signing_key("k", algorithm, 2).token(claims)
        with pytest.raises(Refused) as caught:
            await verifier.verify(forged)
        assert caught.value.reason is RefusalReason.BAD_SIGNATURE


async def test_an_explicit_jwks_url_needs_no_discovery(issuer: Issuer) -> None:
    token = signing_key().token(issuer.claims())
    assert (await verdict(issuer, token, jwks_url=issuer.url + JWKS_PATH)).tenant == "acme"
    assert issuer.asked[DISCOVERY_PATH] == 0


async def test_a_token_without_key_id_means_the_only_key_that_fits(issuer: Issuer) -> None:
    token = signing_key().token(issuer.claims(), kid=None)
    issuer.publish(signing_key(), signing_key("rsa", "RS256"))
    assert (await verdict(issuer, token)).tenant == "acme"
    issuer.publish(signing_key(), signing_key("second", number=1))
    assert await refusal(issuer, token) is RefusalReason.UNKNOWN_KEY


async def test_keys_that_are_not_understood_do_not_spoil_the_others(issuer: Issuer) -> None:
    good = signing_key().jwk()
    odd = [{"kty": "ML-DSA", "kid": "pq"}, {"kty": "EC", "crv": "secp256k1"}, {"kty": "EC"}, "text", None, {}, [1]]
    issuer.keys = [*odd, {**good, "use": 7}, {**good, "x": "!"}, good]
    assert (await verdict(issuer, signing_key().token(issuer.claims()))).tenant == "acme"


# What is refused.

ALG_AS_TEXT = '"alg"'
REFUSALS: list[tuple[RefusalReason, Callable[[Issuer], str]]] = [
    (RefusalReason.MALFORMED, lambda issuer: ""),
    (RefusalReason.MALFORMED, lambda issuer: "gwk_an_api_key"),
    (RefusalReason.MALFORMED, lambda issuer: "a.b.c"),
    (RefusalReason.MALFORMED, lambda issuer: "…".join("abc")),
    (RefusalReason.MALFORMED, lambda issuer: "\ud800.a.b"),
    (RefusalReason.MALFORMED, lambda issuer: "a.b.c.d.e"),  # encrypted
    (RefusalReason.MALFORMED, lambda issuer: f"{b64('[]')}.{b64(issuer.claims())}.AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: f"{b64(ALG_AS_TEXT)}.{b64(issuer.claims())}.AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: f"{b64('[' * 1010)}.{b64(issuer.claims())}.AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: f"{b64({'alg': 'ES256'})}.{b64('[' * 5000)}.AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: f"{b64({'alg': 'ES256'})}..AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: f"{b64({'kid': 'k1'})}.{b64(issuer.claims())}.AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: f"{b64({'alg': 256})}.{b64(issuer.claims())}.AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: f"{b64({'alg': ['ES256']})}.{b64(issuer.claims())}.AAAA"),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(), kid=["k1"])),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(), crit=["exp"], exp=1)),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(), crit=[])),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(), crit=["b64"], b64=False)),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(), b64=False)),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(pad="x" * MAX_TOKEN_BYTES))),
    # Too long, with no part that is.
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(pad="x" * 11_900), pad="x" * 400)),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(exp=None))),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(exp="tomorrow"))),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(exp=True))),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(exp=float("nan")))),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(exp=float("inf")))),
    (RefusalReason.MALFORMED, lambda issuer: signing_key().token(issuer.claims(nbf=[1]))),
    (RefusalReason.UNKNOWN_ISSUER, lambda issuer: signing_key().token(issuer.claims(iss=None))),
    (RefusalReason.UNKNOWN_ISSUER, lambda issuer: signing_key().token(issuer.claims(iss=[issuer.url]))),
    (RefusalReason.UNKNOWN_ISSUER, lambda issuer: signing_key().token(issuer.claims(iss=issuer.url + "/"))),
    (RefusalReason.UNKNOWN_ISSUER, lambda issuer: signing_key().token(issuer.claims(iss=issuer.url.upper()))),
    (RefusalReason.WRONG_AUDIENCE, lambda issuer: signing_key().token(issuer.claims(aud=None))),
    (RefusalReason.WRONG_AUDIENCE, lambda issuer: signing_key().token(issuer.claims(aud="account"))),
    (RefusalReason.WRONG_AUDIENCE, lambda issuer: signing_key().token(issuer.claims(aud=["account", 5]))),
    (RefusalReason.WRONG_AUDIENCE, lambda issuer: signing_key().token(issuer.claims(aud=AUDIENCE + "-staging"))),
    (RefusalReason.WRONG_AUDIENCE, lambda issuer: signing_key().token(issuer.claims(aud={AUDIENCE: 1}))),
    (RefusalReason.EXPIRED, lambda issuer: signing_key().token(issuer.claims(exp=1_700_000_000))),
    (RefusalReason.EXPIRED, lambda issuer: signing_key().token(issuer.claims(exp=-1))),
    (RefusalReason.NOT_YET_VALID, lambda issuer: signing_key().token(issuer.claims(nbf=4_000_000_000))),
    (RefusalReason.BAD_SIGNATURE, lambda issuer: signing_key().token(issuer.claims())[:-4] + "AAAA"),
    (RefusalReason.BAD_SIGNATURE, lambda issuer: signing_key().token(issuer.claims()).rpartition(".")[0] + "."),
    (RefusalReason.BAD_SIGNATURE, lambda issuer: signing_key(number=9).token(issuer.claims())),
    (RefusalReason.UNKNOWN_KEY, lambda issuer: signing_key("nobody's").token(issuer.claims())),
    (RefusalReason.UNKNOWN_KEY, lambda issuer: signing_key("").token(issuer.claims())),
    (RefusalReason.NO_TENANT_CLAIM, lambda issuer: signing_key().token(issuer.claims(tenant_id=None))),
    (RefusalReason.AMBIGUOUS_TENANT, lambda issuer: signing_key().token(issuer.claims(tenant_id=["acme", "globex"]))),
]


@pytest.mark.parametrize(("reason", "token"), REFUSALS)
async def test_each_bad_token_is_refused_for_its_own_reason(
    issuer: Issuer, reason: RefusalReason, token: Callable[[Issuer], str]
) -> None:
    assert await refusal(issuer, token(issuer)) is reason


async def test_a_deep_header_is_refused(issuer: Issuer) -> None:
    # How deep Python's json goes depends on its version: what it reads has a bad signature.
    for depth in (900, 1000, 1020, 3000):
        header = '{"alg":"ES256","kid":"k1","x":' + "[" * depth + "]" * depth + "}"
        reason = await refusal(issuer, f"{b64(header)}.{b64(issuer.claims())}.AAAA")
        assert reason in (RefusalReason.MALFORMED, RefusalReason.BAD_SIGNATURE)


def test_the_table_has_every_reason() -> None:
    others = {RefusalReason.ALGORITHM_NOT_ALLOWED}  # below
    assert {reason for reason, _ in REFUSALS} | others == set(RefusalReason)


def hmac_token(claims: dict[str, Any], secret: bytes, algorithm: str = "HS256", **header: Any) -> str:
    signed = f"{b64({'alg': algorithm, 'kid': 'k1', **header})}.{b64(claims)}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha' + algorithm[2:]))}"


@pytest.mark.parametrize("algorithms", [None, ("none", "HS256", "HS512", "ES256")])
async def test_algorithms_without_a_public_key_are_refused_whatever_the_config_says(
    issuer: Issuer, algorithms: tuple[str, ...] | None
) -> None:
    key = signing_key()
    public = key.private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = issuer.claims()
    config = configured(issuer)
    if algorithms is not None:
        config = config.model_copy(update={"algorithms": algorithms})
    # Somebody published a secret, too.
    issuer.keys = [key.jwk(), {"kty": "oct", "kid": "k1", "k": b64(b"s" * 32)}, {"kty": "oct", "kid": "s", "k": "c2Vj"}]
    tokens = [
        *(hmac_token(claims, secret, name) for secret in (pem, pem.strip(), der, b"") for name in ("HS256", "HS512")),
        hmac_token(claims, b"s" * 32),
        hmac_token(claims, b"sec", kid="s"),
        *(f"{b64({'alg': name, 'kid': 'k1'})}.{b64(claims)}." for name in ("none", "None", "NONE", "")),
        f"{b64({'alg': 'none'})}.{b64(claims)}.{b64(b'x' * 64)}",
        key.token(claims, alg="ES256K"),
        key.token(claims, alg="es256"),
    ]
    async with verifying(config) as verifier:
        assert (await verifier.verify(key.token(claims))).tenant == "acme"
        for token in tokens:
            with pytest.raises(Refused) as caught:
                await verifier.verify(token)
            assert caught.value.reason is RefusalReason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256K", "RSA-OAEP", ""])
def test_no_key_fits_an_algorithm_without_a_public_key(algorithm: str) -> None:
    for own in ("RS256", "ES256", "EdDSA"):
        document = json.dumps({"keys": [signing_key("k", own).jwk(alg=None)]}).encode()
        assert KeyRing(document).find(None, algorithm) is None


async def test_an_algorithm_outside_the_list_is_refused(issuer: Issuer) -> None:
    token = signing_key().token(issuer.claims())
    assert await refusal(issuer, token, algorithms=("RS256", "EdDSA")) is RefusalReason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize("said", ["PS256", "RS512", "ES256", "EdDSA"])
async def test_a_key_is_for_its_own_algorithm_only(issuer: Issuer, said: str) -> None:
    key = signing_key("rsa", "RS256")
    issuer.publish(key)
    claims = issuer.claims()
    token = key.token(claims, alg=said) if said[:2] in ("RS", "PS") else signing_key("rsa", said).token(claims)
    assert await refusal(issuer, token) is RefusalReason.ALGORITHM_NOT_ALLOWED


async def test_a_curve_is_for_its_own_algorithm_only(issuer: Issuer) -> None:
    issuer.keys = [signing_key("k", "ES384").jwk(alg=None)]
    token = signing_key("k", "ES256").token(issuer.claims())
    assert await refusal(issuer, token) is RefusalReason.ALGORITHM_NOT_ALLOWED


def unfit_keys() -> dict[str, tuple[str, dict[str, Any]]]:
    """Published keys that must verify nothing, and the algorithm of a token that tries."""
    short = SigningKey("k", "RS256", rsa.generate_private_key(public_exponent=65537, key_size=1024))
    x25519_key = x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()
    return {
        "for encryption": ("RS256", signing_key("k", "RS256").jwk(use="enc", alg="RSA-OAEP")),
        "for encryption, by use alone": ("RS256", signing_key("k", "RS256").jwk(use="enc", alg=None)),
        "for signing only": ("RS256", signing_key("k", "RS256").jwk(use=None, key_ops=["sign"])),
        "for key exchange": ("EdDSA", {"kty": "OKP", "crv": "X25519", "kid": "k", "x": b64(x25519_key)}),
        "too short": ("RS256", short.jwk()),
    }


@pytest.mark.parametrize(("algorithm", "entry"), unfit_keys().values(), ids=unfit_keys())
async def test_a_key_that_is_not_for_signatures_verifies_none(
    issuer: Issuer, algorithm: str, entry: dict[str, Any]
) -> None:
    issuer.keys = [signing_key().jwk(), entry]
    token = signing_key("k", algorithm).token(issuer.claims())
    assert await refusal(issuer, token) is RefusalReason.UNKNOWN_KEY


async def test_an_issuer_cannot_speak_for_another(issuer: Issuer) -> None:
    async with run_issuer() as other:
        issuer.publish(signing_key("ours", number=1))
        other.publish(signing_key("theirs", number=2))
        async with verifying(configured(issuer), configured(other, tenant_claim="org")) as verifier:
            ours = signing_key("ours", number=1).token(issuer.claims())
            theirs = signing_key("theirs", number=2).token(other.claims(org="globex"))
            assert (await verifier.verify(ours)).tenant == "acme"
            assert (await verifier.verify(theirs)).tenant == "globex"
            for forged in (
                signing_key("theirs", number=2).token(issuer.claims()),
                signing_key("ours", number=2).token(issuer.claims()),
            ):
                with pytest.raises(Refused) as caught:
                    await verifier.verify(forged)
                assert caught.value.reason in (RefusalReason.UNKNOWN_KEY, RefusalReason.BAD_SIGNATURE)


SKEWS = [
    ("exp", -29, None),
    ("exp", -31, RefusalReason.EXPIRED),
    ("nbf", 29, None),
    ("nbf", 31, RefusalReason.NOT_YET_VALID),
    ("iat", 3600, None),  # says nothing of validity (RFC 7519 §4.1.6)
]


@pytest.mark.parametrize(("claim", "seconds", "reason"), SKEWS)
async def test_clocks_may_differ_by_the_leeway(
    issuer: Issuer, claim: str, seconds: float, reason: RefusalReason | None
) -> None:
    token = signing_key().token(issuer.claims(**{claim: time.time() + seconds}))
    if reason is None:
        assert (await verdict(issuer, token)).expires_at > time.time()
    else:
        assert await refusal(issuer, token) is reason
        assert (await verdict(issuer, token, leeway=60)).tenant == "acme"


async def test_an_expiry_beyond_every_calendar_is_bounded(issuer: Issuer) -> None:
    assert (await verdict(issuer, signing_key().token(issuer.claims(exp=1e300)))).expires_at == 253_402_300_799.0


# What a token means.

GROUPS = "/tenants/([^/]+)"
TENANTS: list[tuple[dict[str, Any], dict[str, Any], str | RefusalReason]] = [
    ({"tenant_id": "acme"}, {}, "acme"),
    ({"tenant_id": ["acme"]}, {}, "acme"),
    ({"tenant_id": ["acme", "acme"]}, {}, "acme"),
    ({"org": {"tenant": {"id": "acme"}}}, {"tenant_claim": "org.tenant.id"}, "acme"),
    ({"https://acme.example/tenant": "acme"}, {"tenant_claim": "https://acme.example/tenant"}, "acme"),
    ({"org.id": "acme", "org": {"id": "globex"}}, {"tenant_claim": "org.id"}, "acme"),
    ({"groups": ["/staff", "/tenants/acme"]}, {"tenant_claim": "groups", "tenant_pattern": GROUPS}, "acme"),
    ({"groups": "/tenants/acme"}, {"tenant_claim": "groups", "tenant_pattern": GROUPS}, "acme"),
    (
        {"groups": ["/tenants/acme", "/tenants/globex"]},
        {"tenant_claim": "groups", "tenant_pattern": GROUPS},
        RefusalReason.AMBIGUOUS_TENANT,
    ),
    ({"tenant_id": ["acme", "globex"]}, {}, RefusalReason.AMBIGUOUS_TENANT),
    *(
        ({"groups": groups}, {"tenant_claim": "groups", "tenant_pattern": GROUPS}, RefusalReason.NO_TENANT_CLAIM)
        for groups in (["/staff"], [], ["/tenants/acme/admins"], ["x/tenants/acme"], ["/tenants/"], [{"a": 1}], 5)
    ),
    *(
        ({"tenant_id": value}, {}, RefusalReason.NO_TENANT_CLAIM)
        for value in (
            "",
            "..",
            "a b",
            "/tenants/acme",
            "a\r\nx: y",
            "a|b",
            "x" * 151,
            7,
            True,
            [],
            ["acme", 5],
            {"a": 1},
        )
    ),
    ({"org": "acme"}, {"tenant_claim": "org.id"}, RefusalReason.NO_TENANT_CLAIM),
    ({"org": ["id"]}, {"tenant_claim": "org.id"}, RefusalReason.NO_TENANT_CLAIM),
    ({"groups": ["x"]}, {"tenant_claim": "groups", "tenant_pattern": "(y)?x"}, RefusalReason.NO_TENANT_CLAIM),
]


@pytest.mark.parametrize(("claims", "config", "expected"), TENANTS)
async def test_the_tenant_is_the_one_that_the_claim_names(
    issuer: Issuer, claims: dict[str, Any], config: dict[str, Any], expected: str | RefusalReason
) -> None:
    token = signing_key().token(issuer.claims(**{"tenant_id": None, **claims}))
    if isinstance(expected, RefusalReason):
        assert await refusal(issuer, token, **config) is expected
    else:
        assert (await verdict(issuer, token, **config)).tenant == expected


SCOPES = {"traces": "otlp.traces", "logs": "otlp.logs"}
GRANTS: list[tuple[dict[str, Any], dict[str, str] | None, set[Signal] | None]] = [
    ({"scope": "openid"}, None, None),
    ({"scope": "openid otlp.traces"}, SCOPES, {Signal.TRACES}),
    ({"scope": "otlp.logs otlp.traces otlp.metrics"}, SCOPES, {Signal.TRACES, Signal.LOGS}),
    ({"scope": ["otlp.logs"]}, SCOPES, {Signal.LOGS}),
    ({"scp": ["otlp.logs"]}, SCOPES, {Signal.LOGS}),
    ({"scope": "otlp.tracesx xotlp.logs OTLP.LOGS"}, SCOPES, set()),
    ({"scope": {"otlp.logs": True}}, SCOPES, set()),
    ({}, SCOPES, set()),
]


@pytest.mark.parametrize(("claims", "scopes", "signals"), GRANTS)
async def test_scopes_decide_the_signals(
    issuer: Issuer, claims: dict[str, Any], scopes: dict[str, str] | None, signals: set[Signal] | None
) -> None:
    token = signing_key().token(issuer.claims(**claims))
    assert (await verdict(issuer, token, scopes=scopes)).signals == signals


# What is asked of the issuer, and what happens when it does not answer.

BAD_ANSWERS: list[tuple[str, Callable[[], web.StreamResponse]]] = [
    (JWKS_PATH, lambda: web.Response(status=500)),
    (JWKS_PATH, lambda: web.Response(status=302, headers={"location": "/elsewhere"})),
    (JWKS_PATH, lambda: web.Response(text="<html>")),
    (JWKS_PATH, lambda: web.Response(body=b"")),
    (JWKS_PATH, lambda: web.json_response([])),
    (JWKS_PATH, lambda: web.json_response({"keys": {}})),
    (JWKS_PATH, lambda: web.json_response({"keys": []})),
    (JWKS_PATH, lambda: web.json_response({"keys": [signing_key().jwk()], "pad": "x" * (300 << 10)})),
    (DISCOVERY_PATH, lambda: web.Response(status=404)),
    (DISCOVERY_PATH, lambda: web.Response(status=301, headers={"location": "/elsewhere"})),
    (DISCOVERY_PATH, lambda: web.json_response(["issuer"])),
]


@pytest.mark.parametrize(("path", "answer"), BAD_ANSWERS)
async def test_without_keys_nobody_can_tell(
    issuer: Issuer, path: str, answer: Callable[[], web.StreamResponse]
) -> None:
    issuer.answers[path] = answer
    with pytest.raises(Unavailable) as caught:
        await verdict(issuer, signing_key().token(issuer.claims()))
    assert 1 <= caught.value.retry_after_s <= 10
    assert issuer.asked["/elsewhere"] == 0


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/keys", "ftp://127.0.0.1/keys", "file:///keys", "http://[::1", 5, None]
)
async def test_discovery_cannot_lead_to_keys_without_tls(issuer: Issuer, url: Any) -> None:
    issuer.discovery["jwks_uri"] = url
    with pytest.raises(Unavailable, match=r"no https jwks_uri|Invalid IPv6"):
        await verdict(issuer, signing_key().token(issuer.claims()))


@pytest.mark.parametrize("named", ["https://other.example", "{}/", None, ["{}"]])
async def test_a_discovery_document_of_another_issuer_is_not_believed(issuer: Issuer, named: Any) -> None:
    issuer.discovery["issuer"] = named.format(issuer.url) if isinstance(named, str) else named
    with pytest.raises(Unavailable, match="is of another issuer"):
        await verdict(issuer, signing_key().token(issuer.claims()))


async def test_a_mistake_of_ours_while_fetching_is_no_verdict(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_document: bytes) -> KeyRing:
        raise ZeroDivisionError

    async with verifying(configured(issuer)) as verifier:
        known = signing_key().token(issuer.claims())
        await verifier.verify(known)
        monkeypatch.setattr("gateway.identity.issuer_keys.KeyRing", broken)
        with pytest.raises(Unavailable, match="internal error"):
            await verifier.verify(signing_key("new").token(issuer.claims()))
        assert (await verifier.verify(known)).tenant == "acme"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that nobody else signed, and its key."""
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert),
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def test_an_issuer_is_known_by_its_certificate(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with run_issuer(context) as issuer:
        token = signing_key().token(issuer.claims())
        assert (await verdict(issuer, token, ca_file=cert)).tenant == "acme"
        for ca_file in (None, key, tmp_path / "missing.crt"):
            with pytest.raises(Unavailable):
                await verdict(issuer, token, ca_file=ca_file)


async def test_a_silent_issuer_is_waited_for_only_so_long(issuer: Issuer) -> None:
    issuer.delay_s = 30
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable, match="no answer"):
            await verdict(issuer, signing_key().token(issuer.claims()), timeout=0.1)


async def test_a_new_key_is_fetched_once_and_an_old_one_stays_as_long_as_it_is_published(issuer: Issuer) -> None:
    old, new = signing_key("old", number=1), signing_key("new", number=2)
    issuer.publish(old)
    async with verifying(configured(issuer)) as verifier:
        await verifier.verify(old.token(issuer.claims()))
        issuer.publish(old, new)
        for _ in range(5):
            await verifier.verify(new.token(issuer.claims()))
            await verifier.verify(old.token(issuer.claims()))
        assert issuer.fetches == 2
        issuer.publish(new)
        with pytest.raises(Refused):
            await verifier.verify(signing_key("unheard-of").token(issuer.claims()))
        with pytest.raises(Refused) as caught:
            await verifier.verify(old.token(issuer.claims()))
        assert caught.value.reason is RefusalReason.UNKNOWN_KEY


async def test_a_hundred_verifications_share_one_fetch(issuer: Issuer) -> None:
    issuer.delay_s = 0.05
    async with verifying(configured(issuer)) as verifier:
        for fetches, key in ((1, signing_key()), (2, signing_key("new", number=3))):
            issuer.publish(key)
            tokens = [key.token(issuer.claims(sub=str(number))) for number in range(100)]
            verdicts = await asyncio.gather(*map(verifier.verify, tokens))
            assert [found.subject for found in verdicts] == [str(number) for number in range(100)]
            assert issuer.fetches == fetches


async def test_a_key_published_while_a_fetch_is_under_way_is_found(issuer: Issuer) -> None:
    async with verifying(configured(issuer)) as verifier:
        await verifier.verify(signing_key().token(issuer.claims()))
        issuer.delay_s = 0.1
        first = asyncio.create_task(outcome(verifier, signing_key("unheard-of").token(issuer.claims())))
        await asyncio.sleep(0.05)
        new = signing_key("new", number=1)
        issuer.publish(new)
        assert (await verifier.verify(new.token(issuer.claims()))).tenant == "acme"
        assert isinstance(await first, Refused)


async def test_one_who_stops_waiting_does_not_stop_the_others(issuer: Issuer) -> None:
    issuer.delay_s = 0.1
    async with verifying(configured(issuer)) as verifier:
        token = signing_key().token(issuer.claims())
        waiting = [asyncio.create_task(verifier.verify(token)) for _ in range(3)]
        await asyncio.sleep(0.02)
        waiting[0].cancel()
        assert [(await task).tenant for task in waiting[1:]] == ["acme", "acme"]


async def test_a_storm_of_unknown_keys_costs_a_few_fetches_and_nobody_else(issuer: Issuer) -> None:
    clocks = Clocks()
    known = signing_key().token(issuer.claims())
    async with verifying(configured(issuer), clocks=clocks) as verifier:
        await verifier.verify(known)
        before = issuer.fetches
        for number in range(500):
            with pytest.raises((Refused, Unavailable)):
                await verifier.verify(signing_key(f"random-{number}").token(issuer.claims()))
            if number % 50 == 0:
                assert (await verifier.verify(known)).tenant == "acme"
        assert issuer.fetches - before == 3
        clocks.offset_s += 10.5
        for number in range(50):
            with pytest.raises((Refused, Unavailable)):
                await verifier.verify(signing_key(f"again-{number}").token(issuer.claims()))
        assert issuer.fetches - before == 4


async def test_a_token_that_could_not_count_makes_nobody_fetch(issuer: Issuer) -> None:
    async with verifying(configured(issuer)) as verifier:
        await verifier.verify(signing_key().token(issuer.claims()))
        for changes in ({"exp": 1}, {"aud": "x"}, {"nbf": 4_000_000_000}, {"iss": "https://x.example"}):
            with pytest.raises(Refused):
                await verifier.verify(signing_key("unknown").token(issuer.claims(**changes)))
        assert issuer.fetches == 1


async def test_a_new_key_in_a_storm_is_worth_another_try_and_an_old_token_is_not(issuer: Issuer) -> None:
    clocks = Clocks()
    async with verifying(configured(issuer), clocks=clocks) as verifier:
        for number in range(4):
            with pytest.raises((Refused, Unavailable)):
                await verifier.verify(signing_key(f"random-{number}").token(issuer.claims()))
        new = signing_key("new", number=1)
        issuer.publish(new)
        with pytest.raises(Unavailable) as caught:
            await verifier.verify(new.token(issuer.claims()))
        assert 0 < caught.value.retry_after_s <= 10
        with pytest.raises(Refused):
            await verifier.verify(signing_key("long-gone").token(issuer.claims(iat=1_700_000_000)))
        clocks.offset_s += caught.value.retry_after_s
        assert (await verifier.verify(new.token(issuer.claims()))).tenant == "acme"


async def test_known_keys_live_on_while_the_issuer_is_down_and_no_longer_than_max_stale(issuer: Issuer) -> None:
    clocks = Clocks()
    async with verifying(configured(issuer, max_stale="24h"), clocks=clocks) as verifier:
        known = signing_key().token(issuer.claims(exp=4_000_000_000))
        await verifier.verify(known)
        issuer.break_down()
        for hours in (1, 23.9):
            clocks.offset_s = hours * 3600
            with pytest.raises(Unavailable):
                await verifier.verify(signing_key("new").token(issuer.claims(exp=4_000_000_000)))
            assert (await verifier.verify(known)).tenant == "acme"
        clocks.offset_s = 24.1 * 3600
        with pytest.raises(Unavailable):
            await verifier.verify(known)
        issuer.mend()
        clocks.offset_s += 60
        assert (await verifier.verify(known)).tenant == "acme"


@pytest.mark.parametrize("known", [False, True])
async def test_an_issuer_that_is_down_is_asked_seldom_and_nobody_is_refused_for_it(issuer: Issuer, known: bool) -> None:
    if not known:
        issuer.break_down()
    async with verifying(configured(issuer)) as verifier:
        await outcome(verifier, signing_key().token(issuer.claims()))
        issuer.break_down()
        before = issuer.asked.total()
        for number in range(200):
            with pytest.raises(Unavailable):
                await verifier.verify(signing_key(f"unknown-{number}").token(issuer.claims(iat=1_700_000_000)))
        assert issuer.asked.total() - before <= 3


async def test_an_empty_answer_does_not_take_known_keys_away(issuer: Issuer) -> None:
    async with verifying(configured(issuer)) as verifier:
        known = signing_key().token(issuer.claims())
        await verifier.verify(known)
        issuer.keys = []
        with pytest.raises(Unavailable):
            await verifier.verify(signing_key("new").token(issuer.claims()))
        assert (await verifier.verify(known)).tenant == "acme"


async def test_keys_are_renewed_by_age(issuer: Issuer) -> None:
    config = configured(issuer).model_copy(update={"refresh": 0.05})
    async with verifying(config) as verifier:
        token = signing_key().token(issuer.claims())
        await verifier.verify(token)
        issuer.publish(signing_key("new", number=1))
        async with asyncio.timeout(20):
            while isinstance(await outcome(verifier, token), Verdict):
                await asyncio.sleep(0.02)
        with pytest.raises(Refused):
            await verifier.verify(token)


async def test_keys_that_move_are_found_again(issuer: Issuer) -> None:
    async with verifying(configured(issuer)) as verifier:
        await verifier.verify(signing_key().token(issuer.claims()))
        issuer.publish(signing_key("new", number=1))
        issuer.discovery["jwks_uri"] = issuer.url + "/moved"
        issuer.answers[JWKS_PATH] = lambda: web.Response(status=410)
        token = signing_key("new", number=1).token(issuer.claims())
        with pytest.raises(Unavailable):
            await verifier.verify(token)
        assert (await verifier.verify(token)).tenant == "acme"


async def test_a_reload_forgets_no_key_and_applies_at_once(issuer: Issuer) -> None:
    async with verifying(configured(issuer)) as verifier:
        token = signing_key().token(issuer.claims(org="globex"))
        await verifier.verify(token)
        issuer.break_down()
        await verifier.reconfigure([configured(issuer, tenant_claim="org")])
        assert (await verifier.verify(token)).tenant == "globex"
        await verifier.reconfigure([])
        with pytest.raises(Refused) as caught:
            await verifier.verify(token)
        assert caught.value.reason is RefusalReason.UNKNOWN_ISSUER


async def test_a_stop_answers_those_who_wait(issuer: Issuer) -> None:
    async with verifying(configured(issuer)) as verifier:
        await verifier.verify(signing_key().token(issuer.claims()))
        issuer.delay_s = 30
        unknown = signing_key("new").token(issuer.claims())
        waiting = asyncio.create_task(verifier.verify(unknown))
        await asyncio.sleep(0.05)
        await verifier.close()
        for late in (waiting, verifier.verify(unknown)):
            with pytest.raises(Unavailable, match="the gateway stops"):
                await late


# Whatever comes.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
any_fuzz = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def judged(tokens: Callable[[Issuer], list[str]]) -> list[Verdict | Refused | Unavailable]:
    """What becomes of `tokens`, which are made for an issuer that is up."""

    async def verify_all() -> list[Verdict | Refused | Unavailable]:
        async with run_issuer() as issuer, verifying(configured(issuer)) as verifier:
            return [await outcome(verifier, token) for token in tokens(issuer)]

    return asyncio.run(verify_all())


@given(text=st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: f"{b64(raw)}.{b64(raw)}.{b64(raw)}"))
@any_fuzz
def test_any_text_is_refused(text: str) -> None:
    (found,) = judged(lambda issuer: [text])
    assert isinstance(found, Refused)


@given(data=st.data())
@any_fuzz
def test_a_token_that_was_cut_or_changed_is_refused(data: st.DataObject) -> None:
    def damaged(issuer: Issuer) -> list[str]:
        token = signing_key().token(issuer.claims())
        at = data.draw(st.integers(0, len(token) - 1))
        byte = data.draw(st.characters(max_codepoint=0x17F).filter(lambda char: char != token[at]))
        return [token, token[:at], token[at + 1 :], token[:at] + byte + token[at + 1 :], token[:at] + byte + token[at:]]

    whole, *others = judged(damaged)
    assert isinstance(whole, Verdict)
    assert all(isinstance(found, Refused) for found in others), others


@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c", "jku"]), json_values))
@any_fuzz
def test_any_header_over_good_claims_is_judged(header: dict[str, Any]) -> None:
    def signed(issuer: Issuer) -> list[str]:
        head = f"{b64({'alg': 'ES256', 'kid': 'k1', **header})}.{b64(issuer.claims())}"
        return [f"{head}.{b64(signing_key().sign(head.encode()))}"]

    assert judged(signed)


@given(
    claims=st.dictionaries(
        st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "scope", "tenant_id"]), json_values, min_size=1
    )
)
@any_fuzz
def test_any_signed_claims_are_judged(claims: dict[str, Any]) -> None:
    def signed(issuer: Issuer) -> list[str]:
        head = f"{b64({'alg': 'ES256', 'kid': 'k1'})}.{b64({**issuer.claims(), **claims})}"
        return [f"{head}.{b64(signing_key().sign(head.encode()))}"]

    assert judged(signed)


async def test_what_goes_wrong_says_nothing_of_what_was_in_the_token(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hush-hush"
    head = {"sub": secret, "tenant_id": [secret, secret + "2"], "note": secret}
    tokens = [
        signing_key(secret).token(issuer.claims(**head)),
        signing_key().token(issuer.claims(**head)),
        signing_key().token(issuer.claims(**head, iss=secret)),
        signing_key().token(issuer.claims(**head, aud=secret)),
        signing_key().token(issuer.claims(**head, exp=secret)),
        signing_key().token(issuer.claims(**head), alg=secret),
        signing_key().token(issuer.claims(**head), crit=[secret]),
        signing_key(secret).token(issuer.claims(**head))[:-3],
        secret,
    ]
    async with verifying(configured(issuer)) as verifier:
        for down in (False, True):
            if down:
                issuer.break_down()
            for token in tokens:
                found = await outcome(verifier, token)
                assert isinstance(found, Refused | Unavailable)
                said = f"{found} {found!r} {vars(found)} {''.join(traceback.format_exception(found))}"
                assert secret not in said
                assert token not in said
    assert secret not in caplog.text
