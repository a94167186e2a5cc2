"""A real Keycloak, built by `make backends`: two realms, one for each tenant, and what its administrator would do."""

import json
import os
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.backends import answers, binary
from tests.support.ports import free_port
from tests.support.processes import Process

AUDIENCE = "telemetry-gateway"
CLIENT_SECRET = "secret-of-every-client-in-the-tests"
TENANT_OF_REALM = {"acme-realm": "acme", "globex-realm": "globex"}
_ADMIN = "admin"
_PASSWORD = "password-of-the-tests"
_KEY_PROVIDER = "org.keycloak.keys.KeyProvider"


@dataclass
class Keycloak:
    """A running server."""

    folder: Path
    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def issuer(self, realm: str) -> str:
        return f"{self.url}/realms/{realm}"

    def token(self, realm: str, client: str = "agent") -> str:
        """An access token by client_credentials."""
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": CLIENT_SECRET}
        return self._token(realm, form)

    def rotate_keys(self, realm: str) -> None:
        """Tokens are signed with a new key from now on; the old one stays published."""
        realm_id = self._admin("GET", f"/{realm}")["id"]
        taken = [int(key["config"].get("priority", ["0"])[0]) for key in self._keys(realm)]
        config = {"priority": [str(max(taken) + 100)], "keySize": ["2048"], "algorithm": ["RS256"]}
        key = {"name": f"rsa-{max(taken)}", "providerId": "rsa-generated", "providerType": _KEY_PROVIDER}
        self._admin("POST", f"/{realm}/components", {**key, "parentId": realm_id, "config": config})

    def drop_old_keys(self, realm: str) -> None:
        """Only the newest RSA key stays."""
        keys = [key for key in self._keys(realm) if key["providerId"] == "rsa-generated"]
        keys.sort(key=lambda key: int(key["config"].get("priority", ["0"])[0]))
        for key in keys[:-1]:
            self._admin("DELETE", f"/{realm}/components/{key['id']}")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server is down; afterwards it is up again with all it had."""
        self.process.stop()
        try:
            yield
        finally:
            self.process = _start(self.folder, self.port)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server takes connections and never answers."""
        # The whole group: kc.sh starts Java as a child.
        os.killpg(self.process.child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.child.pid, signal.SIGCONT)

    def _keys(self, realm: str) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = self._admin("GET", f"/{realm}/components?type={_KEY_PROVIDER}")
        return keys

    def _token(self, realm: str, form: dict[str, str]) -> str:
        request = urllib.request.Request(
            f"{self.issuer(realm)}/protocol/openid-connect/token", data=urllib.parse.urlencode(form).encode()
        )
        token: str = json.loads(_send(request))["access_token"]
        return token

    def _admin(self, method: str, path: str, body: Any = None) -> Any:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": _ADMIN, "password": _PASSWORD}
        headers = {"authorization": f"Bearer {self._token('master', form)}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/admin/realms{path}", method=method, headers=headers, data=data)
        answer = _send(request)
        return json.loads(answer) if answer else None


@contextmanager
def run_keycloak(folder: Path) -> Iterator[Keycloak]:
    """A server with the realms of `TENANT_OF_REALM`."""
    port = free_port()
    server = Keycloak(folder, port, _start(folder, port))
    try:
        for realm, tenant in TENANT_OF_REALM.items():
            server._admin("POST", "", _realm(realm, tenant))
        yield server
    finally:
        server.process.stop()


def _start(folder: Path, port: int) -> Process:
    command = [
        binary("keycloak") / "bin" / "kc.sh", "start", "--optimized", "--cache=local", "--hostname-strict=false",
        "--http-enabled=true", "--http-host=127.0.0.1", f"--http-port={port}",
    ]  # fmt: skip
    environment = {
        "KC_BOOTSTRAP_ADMIN_USERNAME": _ADMIN,
        "KC_BOOTSTRAP_ADMIN_PASSWORD": _PASSWORD,
        "KC_DB_URL": f"jdbc:h2:file:{folder}/h2/keycloak;NON_KEYWORDS=VALUE;DB_CLOSE_ON_EXIT=FALSE",
        # It runs for a minute: not worth the second compiler.
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
    }
    process = Process(command, log=folder / "keycloak.log", env=environment)
    process.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/realms/master"), timeout_s=240)
    return process


def _realm(realm: str, tenant: str) -> dict[str, Any]:
    """What docs/identity.md tells an administrator to click together."""
    tenant_mapper = _mapper(
        "tenant", "oidc-hardcoded-claim-mapper", **{"claim.name": "tenant_id", "claim.value": tenant}
    )
    groups_mapper = _mapper("groups", "oidc-group-membership-mapper", **{"claim.name": "groups", "full.path": "true"})
    audience_mapper = _mapper("audience", "oidc-audience-mapper", **{"included.custom.audience": AUDIENCE})
    return {
        "realm": realm,
        "enabled": True,
        "accessTokenLifespan": 300,
        "groups": [{"name": "tenants", "subGroups": [{"name": tenant}, {"name": "another"}]}, {"name": "staff"}],
        "clients": [
            _client("agent", tenant_mapper, audience_mapper),
            _client("agent-ps256", tenant_mapper, audience_mapper, **{"access.token.signed.response.alg": "PS256"}),
            _client("agent-es384", tenant_mapper, audience_mapper, **{"access.token.signed.response.alg": "ES384"}),
            _client("agent-eddsa", tenant_mapper, audience_mapper, **{"access.token.signed.response.alg": "EdDSA"}),
            _client("agent-hs256", tenant_mapper, audience_mapper, **{"access.token.signed.response.alg": "HS256"}),
            _client("short-lived", tenant_mapper, audience_mapper, **{"access.token.lifespan": "1"}),
            _client("renewing", tenant_mapper, audience_mapper, **{"access.token.lifespan": "8"}),
            _client("for-another-audience", tenant_mapper),
            _client("in-a-group", groups_mapper, audience_mapper),
            _client("in-two-groups", groups_mapper, audience_mapper),
        ],
        "users": [
            _service_account("in-a-group", "/staff", f"/tenants/{tenant}"),
            _service_account("in-two-groups", "/tenants/another", f"/tenants/{tenant}"),
        ],
    }


def _client(client_id: str, *mappers: dict[str, Any], **attributes: str) -> dict[str, Any]:
    return {
        "clientId": client_id,
        "secret": CLIENT_SECRET,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "publicClient": False,
        "protocolMappers": list(mappers),
        "attributes": attributes,
    }


def _mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": kind,
        "config": {"access.token.claim": "true", "jsonType.label": "String", **config},
    }


def _service_account(client_id: str, *groups: str) -> dict[str, Any]:
    return {
        "username": f"service-account-{client_id}",
        "enabled": True,
        "serviceAccountClientId": client_id,
        "groups": list(groups),
    }


def _send(request: urllib.request.Request) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
            return body
    except urllib.error.HTTPError as error:
        raise AssertionError(
            f"{request.get_method()} {request.full_url}: {error.code} {error.read()[:500]!r}"
        ) from error
