"""An OpenID Connect issuer of our own, for the answers and keys that no real one gives.

Tokens are signed with `cryptography` alone, so that the code under test is not its own judge.
"""

import asyncio
import base64
import json
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jwk

JWKS_PATH = "/keys"
DISCOVERY_PATH = "/.well-known/openid-configuration"
AUDIENCE = "telemetry-gateway"
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def b64(data: bytes | str | Mapping[str, Any]) -> str:
    """Base64url without padding; a mapping as JSON."""
    if isinstance(data, Mapping):
        data = json.dumps(data)
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class SigningKey:
    """A private key of one algorithm."""

    kid: str
    algorithm: str
    private: Any = field(repr=False)

    def sign(self, message: bytes, algorithm: str = "") -> bytes:
        """With `algorithm`, if it is one for this key; else with the key's own."""
        if algorithm[:2] not in ("RS", "PS") or algorithm[2:] not in _HASHES:
            algorithm = self.algorithm
        digest = _HASHES.get(algorithm[2:])
        match self.private, algorithm[:2]:
            case rsa.RSAPrivateKey() as key, "RS":
                return key.sign(message, padding.PKCS1v15(), digest)
            case rsa.RSAPrivateKey() as key, "PS":
                return key.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
            case ec.EllipticCurvePrivateKey() as key, _:
                size = (key.key_size + 7) // 8
                r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
                return r.to_bytes(size, "big") + s.to_bytes(size, "big")
            case key, _:
                return key.sign(message)

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public half, as published; `members` are added, None removes one."""
        public = self.private.public_key()
        kind = {"RS": jwk.RSAKey, "PS": jwk.RSAKey, "ES": jwk.ECKey}.get(self.algorithm[:2], jwk.OKPKey)
        entry = {**kind(public, public).as_dict(), "kid": self.kid, "alg": self.algorithm, "use": "sig", **members}
        return {name: value for name, value in entry.items() if value is not None}

    def token(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A signed token; `header` overrides, None removes a parameter."""
        full = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid, **header}
        signed = f"{b64({k: v for k, v in full.items() if v is not None})}.{b64(claims)}"
        return f"{signed}.{b64(self.sign(signed.encode(), str(full['alg'])))}"


@cache
def _private(algorithm: str, number: int) -> Any:
    match algorithm:
        case "EdDSA" | "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
        case _ if algorithm in _CURVES:
            return ec.generate_private_key(_CURVES[algorithm])
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def signing_key(kid: str = "k1", algorithm: str = "ES256", number: int = 0) -> SigningKey:
    """A key; the same algorithm and number give the same private half, since making RSA keys is slow."""
    shared = algorithm.replace("PS", "RS")[:2] if algorithm[:2] in ("RS", "PS") else algorithm
    return SigningKey(kid, algorithm, _private(shared, number))


@dataclass
class Issuer:
    """A running issuer: what it publishes can be changed, what it was asked is counted."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    delay_s: float = 0.0
    answers: dict[str, Callable[[], web.StreamResponse]] = field(default_factory=dict)
    """By path: instead of the right answer."""
    discovery: dict[str, Any] = field(default_factory=dict)
    """Overrides members of the discovery document."""

    @property
    def fetches(self) -> int:
        """How often the keys were asked for."""
        return self.asked[JWKS_PATH]

    def publish(self, *keys: SigningKey) -> None:
        self.keys = [key.jwk() for key in keys]

    def break_down(self, status: int = 503) -> None:
        for path in (JWKS_PATH, DISCOVERY_PATH):
            self.answers[path] = lambda: web.Response(status=status)

    def mend(self) -> None:
        self.answers.clear()

    def claims(self, **claims: Any) -> dict[str, Any]:
        """Good claims for five minutes; `claims` override, None removes one."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "svc", "tenant_id": "acme", "iat": now, "exp": now + 300}
        return {name: value for name, value in {**good, **claims}.items() if value is not None}

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked[request.path] += 1
        answer = self._answer(request.path)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return answer

    def _answer(self, path: str) -> web.StreamResponse:
        if path in self.answers:
            return self.answers[path]()
        if path == DISCOVERY_PATH:
            return web.json_response({"issuer": self.url, "jwks_uri": self.url + JWKS_PATH, **self.discovery})
        return web.json_response({"keys": self.keys})


@asynccontextmanager
async def run_issuer(tls: ssl.SSLContext | None = None) -> AsyncIterator[Issuer]:
    """An issuer in this event loop that publishes `signing_key()`."""
    issuer = Issuer()
    application = web.Application()
    application.router.add_get("/{path:.*}", issuer._serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    issuer.url = f"{'https' if tls else 'http'}://{host}:{port}"
    issuer.publish(signing_key())
    try:
        yield issuer
    finally:
        await runner.cleanup()
