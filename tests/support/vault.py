"""A Vault of our own, as its HTTP API documentation describes it: no binary of Vault or OpenBao can be had for tests.

It is strict where Vault is lenient: a header, a field or a parameter that the documentation does not have, or a token
where none belongs, is a violation, which the fixture of the tests reports. Its clock can be moved, so that leases end.
"""

import asyncio
import base64
import fnmatch
import json
import os
import secrets
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.support.vault_store import KvVersion, Refusal, Role, Token, TransitKey, now

DEFAULT_POLICY = {"auth/token/lookup-self": {"read"}, "auth/token/renew-self": {"update"}}
DENIED = "permission denied"
_OUR_HEADERS = {"X-Vault-Token", "X-Vault-Namespace", "X-Vault-Request"}


@dataclass
class VaultServer:
    """What it holds can be changed, what it was asked is kept."""

    url: str = ""
    namespace: str | None = None
    policies: dict[str, Mapping[str, Iterable[str]]] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    app_roles: dict[str, Role] = field(default_factory=dict)
    """By role_id."""
    pods: dict[str, Role] = field(default_factory=dict)
    """Kubernetes roles; the secret is the service account's token."""
    kv: dict[str, list[KvVersion]] = field(default_factory=dict)
    """What the mount `secret` holds, by path."""
    transit: dict[str, TransitKey] = field(default_factory=dict)
    sealed: bool = False
    node_status: int = 200
    """Of sys/health when it is not sealed: 429, 472 and 473 are standbys, which answer nothing else."""
    redirect_to: str | None = None
    impostor: tuple[int, str] | None = None
    """Status and JSON of whoever answers in its place."""
    delay_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    """`GET secret/data/x?version=1`, in order."""
    violations: list[str] = field(default_factory=list)
    _ahead_s: float = 0.0
    _runner: web.AppRunner | None = None
    _tls: ssl.SSLContext | None = None

    # What tests do to it.

    def clock(self) -> float:
        return time.monotonic() + self._ahead_s

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds

    def token(self, *policies: str, ttl_s: int = 0, max_ttl_s: int = 0, renewable: bool = True) -> str:
        """A new token; without a ttl it lasts for ever."""
        made, name = self.clock(), f"hvs.{secrets.token_urlsafe(24)}"
        ends_at = made + ttl_s if ttl_s else float("inf")
        self.tokens[name] = Token(policies, ttl_s, max_ttl_s, renewable and ttl_s > 0, made, ends_at)
        return name

    def revoke(self, token: str | None = None) -> None:
        """One token, or all."""
        for name in [token] if token is not None else list(self.tokens):
            del self.tokens[name]

    def put(self, path: str, **data: Any) -> int:
        """A new version of a secret; returns its number."""
        versions = self.kv.setdefault(path, [])
        versions.append(KvVersion(data, now()))
        return len(versions)

    def delete(self, path: str, *versions: int) -> None:
        for version in versions:
            self.kv[path][version - 1].deletion_time = now()

    def destroy(self, path: str, *versions: int) -> None:
        for version in versions:
            self.kv[path][version - 1].destroyed = True

    def rotate(self, key: str) -> None:
        self.transit[key].versions.append(os.urandom(32))

    def count(self, pattern: str) -> int:
        """How many requests were like `GET secret/data/*`."""
        return sum(fnmatch.fnmatchcase(line, pattern) for line in self.asked)

    async def go_away(self) -> None:
        """Refuse connections, and end those that are open."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def come_back(self) -> None:
        port = int(self.url.rpartition(":")[2])
        await self._listen(port)

    # How it answers.

    async def _listen(self, port: int) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._tls, reuse_address=True).start()
        bound = self._runner.addresses[0][1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{bound}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/v1/"):
            return _json({"errors": ["unsupported path"]}, status=404)
        path = request.path.removeprefix("/v1/")
        self.asked.append(f"{request.method} {path}" + (f"?{request.query_string}" if request.query_string else ""))
        body = await request.read()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        try:
            if path == "sys/health":
                return self._health(request)
            if self.impostor is not None:
                status, text = self.impostor
                return web.Response(body=text.encode(), status=status, headers={"Content-Type": "application/json"})
            if self.redirect_to is not None:
                return web.Response(status=307, headers={"Location": f"{self.redirect_to}/v1/{path}"})
            answer = self._answer(request, path, body)
        except Refusal as refusal:
            return _json(refusal.body, status=refusal.status)
        if answer is None:
            return web.Response(status=204)
        frame = {"request_id": str(uuid.uuid4()), "lease_id": "", "renewable": False, "lease_duration": 0}
        rest = {"data": None, "wrap_info": None, "warnings": None, "auth": None}
        return _json({**frame, **rest, **answer})

    def _health(self, request: web.Request) -> web.Response:
        status = 503 if self.sealed else self.node_status
        state = {"initialized": True, "sealed": self.sealed, "standby": status in (429, 473), "version": "1.21.0"}
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, "unsupported operation")
        return _json(state, status=status)

    def _answer(self, request: web.Request, path: str, body: bytes) -> dict[str, Any] | None:
        if self.sealed:
            raise Refusal(503, "Vault is sealed")
        if self.node_status != 200:
            raise Refusal(self.node_status, "standby node cannot answer")
        self._check_headers(request)
        if request.headers.get("X-Vault-Namespace") != self.namespace:
            raise Refusal(404, f'no handler for route "{path}". route entry not found.')
        fields = self._fields(request, body)
        match path.split("/"):
            case ["auth", ("approle" | "kubernetes") as method, "login"]:
                self._only(request, "POST", path)
                if "X-Vault-Token" in request.headers:
                    raise self._violation(f"{path} was sent a token")
                return self._log_in(method, fields)
        token = self._authorised(request, path)
        match path.split("/"):
            case ["auth", "token", "lookup-self"]:
                self._only(request, "GET", path)
                return {"data": self._described(token, request.headers["X-Vault-Token"])}
            case ["auth", "token", "renew-self"]:
                self._only(request, "POST", path)
                self._take(path, fields, optional={"increment": str})
                return self._renew(token, request.headers["X-Vault-Token"])
            case ["secret", "metadata", *rest] if rest:
                self._only(request, "GET", path)
                return {"data": self._metadata("/".join(rest))}
            case ["secret", "data", *rest] if rest:
                self._only(request, "GET", path, query={"version"})
                return {"data": self._version("/".join(rest), request.query.get("version", "0"))}
            case ["transit", "keys", name]:
                self._only(request, "GET", path)
                return {"data": self._transit_key(name)}
            case ["transit", "keys", name, "rotate"]:
                self._only(request, "POST", path)
                self._take(path, fields)
                self.transit[name].versions.append(os.urandom(32))
                return {"data": self._transit_key(name)}
            case ["transit", "datakey", "plaintext", name]:
                self._only(request, "POST", path)
                self._take(path, fields, optional={"bits": int, "context": str, "nonce": str})
                return {"data": self._data_key(name, fields)}
            case ["transit", ("decrypt" | "rewrap") as operation, name]:
                self._only(request, "POST", path)
                optional = {"context": str, "nonce": str, "key_version": int}
                self._take(path, fields, required={"ciphertext": str}, optional=optional)
                key = self._key(name)
                plaintext = key.unwrap(fields["ciphertext"])
                if operation == "decrypt":
                    return {"data": {"plaintext": base64.b64encode(plaintext).decode()}}
                return {"data": {"ciphertext": key.wrap(plaintext), "key_version": len(key.versions)}}
        raise Refusal(404, f'no handler for route "{path}". route entry not found.')

    def _violation(self, what: str) -> Refusal:
        self.violations.append(what)
        return Refusal(400, f"strict: {what}")

    def _check_headers(self, request: web.Request) -> None:
        unknown = {name for name in request.headers if name.lower().startswith("x-vault-")} - _OUR_HEADERS
        if unknown:
            raise self._violation(f"headers {sorted(unknown)}")
        if request.headers.get("X-Vault-Request") != "true":
            raise self._violation("no X-Vault-Request header")
        if "Authorization" in request.headers or "Cookie" in request.headers:
            raise self._violation("credentials of another kind")

    def _fields(self, request: web.Request, body: bytes) -> dict[str, Any]:
        if request.method == "GET":
            if body:
                raise self._violation("a GET with a body")
            return {}
        if not body:
            return {}
        if request.content_type != "application/json":
            raise self._violation(f"content type {request.content_type}")
        try:
            fields = json.loads(body)
        except ValueError:
            raise Refusal(400, "failed to parse JSON input") from None
        if not isinstance(fields, dict):
            raise self._violation("a body that is no object")
        return fields

    def _take(
        self,
        path: str,
        fields: Mapping[str, Any],
        *,
        required: Mapping[str, type] | None = None,
        optional: Mapping[str, type] | None = None,
    ) -> None:
        known = {**(required or {}), **(optional or {})}
        for name, value in fields.items():
            if name not in known or type(value) is not known[name]:
                raise self._violation(f"{path} was sent the field {name}, a {type(value).__name__}")
        for name in required or {}:
            if name not in fields:
                raise Refusal(400, f"missing {name}")

    def _only(self, request: web.Request, method: str, path: str, query: Iterable[str] = ()) -> None:
        if request.method != method:
            raise Refusal(405, "unsupported operation")
        if set(request.query) - set(query):
            raise self._violation(f"{path} was sent parameters {sorted(request.query)}")

    def _authorised(self, request: web.Request, path: str) -> Token:
        token = self.tokens.get(request.headers.get("X-Vault-Token", ""))
        if token is None or token.ends_at <= self.clock():
            raise Refusal(403, DENIED, "invalid token")
        token.uses += 1
        needed = "read" if request.method == "GET" else "update"
        rules: list[tuple[str, Iterable[str]]] = list(DEFAULT_POLICY.items())
        if "no-default" in token.policies:
            rules = []
        for name in token.policies:
            rules += self.policies.get(name, {}).items()
        if "root" not in token.policies and not any(
            fnmatch.fnmatchcase(path, rule) and needed in capabilities for rule, capabilities in rules
        ):
            raise Refusal(403, f"1 error occurred:\n\t* {DENIED}\n\n")
        return token

    def _log_in(self, method: str, fields: dict[str, Any]) -> dict[str, Any]:
        if method == "approle":
            self._take("approle login", fields, required={"role_id": str}, optional={"secret_id": str})
            role = self.app_roles.get(fields["role_id"])
            if role is None or not secrets.compare_digest(role.secret, fields.get("secret_id", "")):
                raise Refusal(400, "invalid role or secret ID")
        else:
            self._take("kubernetes login", fields, required={"role": str, "jwt": str})
            role = self.pods.get(fields["role"])
            if role is None:
                raise Refusal(400, f'invalid role name "{fields["role"]}"')
            if role.secret != fields["jwt"]:
                raise Refusal(403, DENIED)
        role.logins += 1
        name = self.token(*role.policies, ttl_s=role.ttl_s, max_ttl_s=role.max_ttl_s, renewable=role.renewable)
        return {"auth": self._lease(self.tokens[name], name)}

    def _renew(self, token: Token, name: str) -> dict[str, Any]:
        if not token.renewable:
            raise Refusal(400, "lease is not renewable")
        now = self.clock()
        ends_at = now + token.ttl_s
        if token.max_ttl_s:
            ends_at = min(ends_at, token.made_at + token.max_ttl_s)
        token.ends_at = ends_at
        return {"auth": self._lease(token, name)}

    def _lease(self, token: Token, name: str) -> dict[str, Any]:
        left = 0 if token.ends_at == float("inf") else int(max(0.0, round(token.ends_at - self.clock())))
        policies = ["default", *token.policies]
        return {
            "client_token": name, "accessor": str(uuid.uuid4()), "policies": policies, "token_policies": policies,
            "metadata": {}, "lease_duration": left, "renewable": token.renewable, "entity_id": str(uuid.uuid4()),
            "token_type": "service", "orphan": True, "mfa_requirement": None, "num_uses": 0,
        }  # fmt: skip

    def _described(self, token: Token, name: str) -> dict[str, Any]:
        lease = self._lease(token, name)
        return {
            "id": name, "accessor": lease["accessor"], "policies": lease["policies"], "path": "auth/token/create",
            "ttl": lease["lease_duration"], "creation_ttl": token.ttl_s, "explicit_max_ttl": token.max_ttl_s,
            "renewable": token.renewable, "type": "service", "orphan": True, "num_uses": 0, "meta": None,
            "creation_time": int(time.time()), "expire_time": None, "display_name": "token", "entity_id": "",
        }  # fmt: skip

    def _metadata(self, path: str) -> dict[str, Any]:
        versions = self.kv.get(path)
        if versions is None:
            raise Refusal(404)
        return {
            "cas_required": False, "created_time": versions[0].created_time, "current_version": len(versions),
            "custom_metadata": None, "delete_version_after": "0s", "max_versions": 0, "oldest_version": 1,
            "updated_time": versions[-1].created_time,
            "versions": {
                str(number): {
                    "created_time": version.created_time,
                    "deletion_time": version.deletion_time,
                    "destroyed": version.destroyed,
                }
                for number, version in enumerate(versions, 1)
            },
        }  # fmt: skip

    def _version(self, path: str, asked: str) -> dict[str, Any]:
        versions = self.kv.get(path)
        if not asked.isdecimal():
            raise Refusal(400, 'Field validation failed: error converting input for field "version"')
        if versions is None or int(asked) > len(versions):
            raise Refusal(404)
        number = int(asked) or len(versions)
        version = versions[number - 1]
        metadata = {
            "created_time": version.created_time, "custom_metadata": None, "deletion_time": version.deletion_time,
            "destroyed": version.destroyed, "version": number,
        }  # fmt: skip
        deleted = version.deletion_time and datetime.fromisoformat(version.deletion_time) <= datetime.now(UTC)
        if version.destroyed or deleted:
            raise Refusal(404, data={"data": None, "metadata": metadata})
        return {"data": version.data, "metadata": metadata}

    def _key(self, name: str) -> TransitKey:
        if name not in self.transit:
            raise Refusal(400, "encryption key not found")
        return self.transit[name]

    def _transit_key(self, name: str) -> dict[str, Any]:
        if name not in self.transit:
            raise Refusal(404)
        key = self.transit[name]
        return {
            "name": name, "type": "aes256-gcm96", "derived": key.derived, "exportable": False, "imported_key": False,
            "allow_plaintext_backup": False, "deletion_allowed": False, "latest_version": len(key.versions),
            "keys": {str(number): int(time.time()) for number in range(1, len(key.versions) + 1)},
            "min_available_version": 0, "min_decryption_version": key.min_decryption_version,
            "min_encryption_version": 0, "supports_decryption": True, "supports_derivation": True,
            "supports_encryption": True, "supports_signing": False,
        }  # fmt: skip

    def _data_key(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        key = self._key(name)
        if key.derived and "context" not in fields:
            raise Refusal(400, "missing 'context' for key derivation; the key was created using a derived key")
        bits = fields.get("bits", 256)
        if bits not in (128, 256, 512):
            raise Refusal(400, f"invalid bit length: {bits}")
        plaintext = os.urandom(bits // 8)
        answer = {"plaintext": base64.b64encode(plaintext).decode(), "ciphertext": key.wrap(plaintext)}
        return {**answer, "key_version": len(key.versions)}


def _json(value: Any, status: int = 200) -> web.Response:
    """The content type is bare, as Vault's is; hvac takes errors from no other."""
    return web.Response(body=json.dumps(value).encode(), status=status, headers={"Content-Type": "application/json"})


@asynccontextmanager
async def run_vault(tls: ssl.SSLContext | None = None) -> AsyncIterator[VaultServer]:
    """A Vault in this event loop, empty; the policy `gateway` may all that docs/pseudonym-keys.md tells to allow."""
    server = VaultServer(_tls=tls)
    server.policies["gateway"] = {
        "secret/data/gateway/*": {"read"},
        "secret/metadata/gateway/*": {"read"},
        "transit/keys/gateway": {"read"},
        "transit/datakey/plaintext/gateway": {"update"},
        "transit/decrypt/gateway": {"update"},
        "transit/rewrap/gateway": {"update"},
    }
    await server._listen(0)
    try:
        yield server
    finally:
        await server.go_away()
