"""How the gateway talks to Vault, and that the Vault of the tests answers so that hvac understands it."""

import asyncio
import base64
import gc
import os
import ssl
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import pytest
import structlog
from structlog.testing import capture_logs

from gateway.config.pseudonyms import VaultConfig
from gateway.pseudonyms.pace import Pace
from gateway.pseudonyms.source import SourceProblem
from gateway.pseudonyms.vault import Vault
from gateway.pseudonyms.vault_problems import Asked, VaultDenied, VaultMissing, VaultUnreachable
from gateway.pseudonyms.vault_session import VaultSession
from tests.support.certificates import Authority
from tests.support.vault import VaultServer, run_vault
from tests.support.vault_store import Role, TransitKey

LOG = structlog.get_logger("test")
READ = Asked("secret/metadata/gateway/acme", "read")


@pytest.fixture
async def server() -> AsyncIterator[VaultServer]:
    async with run_vault() as vault:
        vault.put("gateway/acme", key="k" * 40)
        yield vault
        assert vault.violations == []


def read(client: Any) -> Any:
    return client.secrets.kv.v2.read_secret_metadata("gateway/acme", mount_point="secret")


def settings(server: VaultServer, auth: dict[str, Any], **others: Any) -> VaultConfig:
    return VaultConfig.model_validate({"address": server.url, "auth": auth, "timeout": 1.0, **others})


class Session:
    """A VaultSession that blocks its own thread, with the server's clock."""

    def __init__(self, server: VaultServer, auth: dict[str, Any], **others: Any) -> None:
        self.session = VaultSession(settings(server, auth, **others), server.clock)

    async def ask(self, asked: Asked = READ, question: Callable[[Any], Any] = read) -> dict[str, Any]:
        return await asyncio.to_thread(self.session.ask, asked, question)

    async def keep(self) -> float | None:
        return await asyncio.to_thread(self.session.keep_logged_in)

    async def close(self) -> None:
        await asyncio.to_thread(self.session.close)


def app_role(server: VaultServer, **role: Any) -> dict[str, Any]:
    server.app_roles["role-1"] = Role("secret-1", ("gateway",), **role)
    return {"app_role": {"role_id": "role-1", "secret_id": "secret-1"}}


# The server of the tests, judged by hvac.


async def by_hvac(server: VaultServer, question: Callable[[Any], Any], token: str) -> Any:
    def ask() -> Any:
        client = hvac.Client(url=server.url, token=token)
        try:
            return question(client)
        finally:
            client.adapter.close()

    return await asyncio.to_thread(ask)


async def test_hvac_understands_every_answer_of_the_server(server: VaultServer) -> None:
    server.app_roles["r"] = Role("s", ("gateway",), ttl_s=100)
    server.pods["p"] = Role("jwt", ("gateway",))
    root = server.token("root")
    server.transit["gateway"] = TransitKey()
    login = await by_hvac(server, lambda c: c.auth.approle.login("r", "s"), "")
    assert login["auth"]["lease_duration"] == 100
    assert (await by_hvac(server, lambda c: c.auth.kubernetes.login("p", "jwt"), ""))["auth"]["renewable"]
    token = login["auth"]["client_token"]
    assert (await by_hvac(server, lambda c: c.is_authenticated(), token)) is True
    assert (await by_hvac(server, lambda c: c.auth.token.lookup_self(), token))["data"]["ttl"] == 100
    assert (await by_hvac(server, lambda c: c.auth.token.renew_self(), token))["auth"]["client_token"] == token
    assert (await by_hvac(server, lambda c: c.sys.is_sealed, root)) is not None
    transit: Callable[[Any], Any] = lambda c: c.secrets.transit.generate_data_key("gateway", "plaintext")  # noqa: E731
    made = (await by_hvac(server, transit, root))["data"]
    await by_hvac(server, lambda c: c.secrets.transit.rotate_key("gateway"), root)
    rewrap: Callable[[Any], Any] = lambda c: c.secrets.transit.rewrap_data("gateway", made["ciphertext"])  # noqa: E731
    rewrapped = (await by_hvac(server, rewrap, root))["data"]
    assert rewrapped["ciphertext"].startswith("vault:v2:")
    opened = await by_hvac(server, lambda c: c.secrets.transit.decrypt_data("gateway", rewrapped["ciphertext"]), root)
    assert opened["data"]["plaintext"] == made["plaintext"]
    assert len(base64.b64decode(made["plaintext"])) == 32
    key = (await by_hvac(server, lambda c: c.secrets.transit.read_key("gateway"), root))["data"]
    assert (key["latest_version"], sorted(key["keys"])) == (2, ["1", "2"])
    secret = await by_hvac(server, lambda c: c.secrets.kv.v2.read_secret_version("gateway/acme", version=1), root)
    assert secret["data"]["data"] == {"key": "k" * 40}


async def test_hvac_raises_what_it_raises_of_vault(server: VaultServer) -> None:
    root, weak = server.token("root"), server.token()
    server.put("gateway/acme", key="x")
    server.delete("gateway/acme", 2)
    kv: Callable[[Any], Any] = lambda c: c.secrets.kv.v2.read_secret_version(  # noqa: E731
        "gateway/acme", raise_on_deleted_version=False
    )
    deleted = await by_hvac(server, kv, root)
    assert (deleted["data"]["data"], deleted["data"]["metadata"]["version"]) == (None, 2)
    cases: list[tuple[type[Exception], str, Callable[[Any], Any]]] = [
        (hvac.exceptions.Forbidden, weak, read),
        (hvac.exceptions.Forbidden, "unknown", read),
        (hvac.exceptions.InvalidPath, root, lambda c: c.secrets.kv.v2.read_secret_metadata("none")),
        (hvac.exceptions.InvalidRequest, root, lambda c: c.secrets.transit.generate_data_key("none", "plaintext")),
        (hvac.exceptions.InvalidRequest, "", lambda c: c.auth.approle.login("r", "wrong")),
        (hvac.exceptions.InvalidRequest, root, lambda c: c.auth.token.renew_self()),
    ]
    for kind, token, question in cases:
        with pytest.raises(kind):
            await by_hvac(server, question, token)
    server.sealed = True
    with pytest.raises(hvac.exceptions.VaultDown):
        await by_hvac(server, read, root)


async def test_the_server_refuses_what_the_documentation_does_not_have(server: VaultServer) -> None:
    root = server.token("root")
    for question in (
        lambda c: c.adapter.post("/v1/transit/datakey/plaintext/gateway", json={"bitts": 256}),
        lambda c: c.adapter.post("/v1/transit/datakey/plaintext/gateway", json={"bits": "256"}),
        lambda c: c.adapter.get("/v1/secret/data/gateway/acme", params={"versoin": 1}),
        lambda c: c.adapter.post("/v1/auth/approle/login", json={"role_id": "r"}),
    ):
        with pytest.raises(hvac.exceptions.InvalidRequest, match="strict"):
            await by_hvac(server, question, root)
    assert len(server.violations) == 4
    server.violations.clear()


# Logging in.


@pytest.fixture(params=["token", "token_file", "app_role", "app_role with a file", "kubernetes"])
def auth(request: pytest.FixtureRequest, server: VaultServer, tmp_path: Path) -> dict[str, Any]:
    match request.param:
        case "token":
            return {"token": server.token("gateway", ttl_s=600)}
        case "token_file":
            (tmp_path / "token").write_text(server.token("gateway", ttl_s=600) + "\n")
            return {"token_file": tmp_path / "token"}
        case "app_role":
            return app_role(server)
        case "app_role with a file":
            app_role(server)
            (tmp_path / "secret-id").write_text("secret-1\n")
            return {"app_role": {"role_id": "role-1", "secret_id_file": tmp_path / "secret-id"}}
        case _:
            (tmp_path / "jwt").write_text("eyJ.pod")
            server.pods["gateway"] = Role("eyJ.pod", ("gateway",))
            return {"kubernetes": {"role": "gateway", "jwt_file": tmp_path / "jwt"}}


async def test_every_way_of_logging_in_leads_to_the_secret(server: VaultServer, auth: dict[str, Any]) -> None:
    session = Session(server, auth)
    assert (await session.ask())["data"]["current_version"] == 1
    assert (await session.ask())["data"]["current_version"] == 1
    await session.close()
    assert session.session.logins == 1
    assert server.count("POST auth/*/login") <= 1


async def test_the_namespace_is_sent_with_every_request(server: VaultServer) -> None:
    server.namespace = "team-a"
    session = Session(server, app_role(server), namespace="team-a")
    assert (await session.ask())["data"]["current_version"] == 1
    await session.close()


async def test_variables_of_the_environment_decide_nothing(
    server: VaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / ".vault-token").write_text("hvs.somebody-elses")
    names = {"HOME": str(tmp_path), "VAULT_TOKEN": "hvs.somebody-elses", "VAULT_ADDR": "http://127.0.0.1:1"}
    names |= {"VAULT_NAMESPACE": "other", "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    names |= {"REQUESTS_CA_BUNDLE": "/no/such", "NETRC": str(tmp_path / ".netrc")}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    for name in ("VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_CACERT", "VAULT_CAPATH"):
        # hvac reads these when it is imported.
        monkeypatch.setattr(f"hvac.v1.{name}", "/no/such")
    session = Session(server, app_role(server))
    assert (await session.ask())["data"]["current_version"] == 1
    await session.close()


async def test_the_certificate_must_be_of_the_ca_that_is_named(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    certificate = authority.issue("vault")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    async with run_vault(context) as server:
        server.put("gateway/acme", key="k" * 40)
        trusting = Session(server, app_role(server), ca_file=authority.file)
        assert (await trusting.ask())["data"]["current_version"] == 1
        await trusting.close()
        for ca in ({}, {"ca_file": other.file}):
            session = Session(server, app_role(server), **ca)
            with pytest.raises(VaultUnreachable, match=r"is not trusted; name its CA in vault\.ca_file"):
                await session.ask()
            await session.close()


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, ours = authority.issue("vault"), authority.issue("gateway")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    async with run_vault(context) as server:
        server.put("gateway/acme", key="k" * 40)
        files = {"ca_file": authority.file, "cert_file": ours.cert_file, "key_file": ours.key_file}
        session = Session(server, app_role(server), **files)
        assert (await session.ask())["data"]["current_version"] == 1
        await session.close()
        without = Session(server, app_role(server), ca_file=authority.file)
        with pytest.raises(VaultUnreachable):
            await without.ask()
        await without.close()


# Staying logged in.


async def test_a_token_is_renewed_after_two_thirds_of_its_lease(server: VaultServer) -> None:
    session = Session(server, app_role(server, ttl_s=300))
    await session.ask()
    assert await session.keep() == pytest.approx(200, abs=1)
    server.advance(190)
    await session.keep()
    assert session.session.renewals == 0
    server.advance(11)
    assert await session.keep() == pytest.approx(200, abs=1)
    assert (session.session.renewals, session.session.logins) == (1, 1)
    for _ in range(5):
        server.advance(201)
        await session.keep()
    await session.ask()
    assert (session.session.renewals, session.session.logins) == (6, 1)
    await session.close()


async def test_past_the_maximum_the_gateway_logs_in_anew(server: VaultServer) -> None:
    session = Session(server, app_role(server, ttl_s=300, max_ttl_s=700))
    await session.ask()
    for _ in range(8):
        server.advance(201)
        await session.keep()
        newest = list(server.tokens.values())[-1]
        assert newest.ends_at - server.clock() > 150, "a lease that was cut short is not relied on"
        await session.ask()
    await session.close()
    assert session.session.logins == 3
    assert server.count("GET auth/token/lookup-self") == 0, "no request was refused"


async def test_a_token_that_cannot_be_renewed_is_replaced_in_time(server: VaultServer) -> None:
    session = Session(server, app_role(server, ttl_s=300, renewable=False))
    await session.ask()
    server.advance(201)
    await session.keep()
    assert (session.session.renewals, session.session.logins) == (0, 2)
    await session.close()


async def test_a_revoked_token_is_replaced_at_the_next_question(server: VaultServer) -> None:
    session = Session(server, app_role(server))
    await session.ask()
    server.revoke()
    assert (await session.ask())["data"]["current_version"] == 1
    assert session.session.logins == 2
    await session.close()


async def test_a_revoked_token_is_replaced_when_it_is_to_be_renewed(server: VaultServer) -> None:
    session = Session(server, app_role(server, ttl_s=300))
    await session.ask()
    server.revoke()
    server.advance(201)
    await session.keep()
    assert session.session.logins == 2
    await session.close()


async def test_a_path_that_the_policy_forbids_costs_no_login(server: VaultServer) -> None:
    server.policies["gateway"] = {}
    session = Session(server, app_role(server))
    for _ in range(3):
        with pytest.raises(VaultDenied) as refused:
            await session.ask()
    assert str(refused.value) == (
        "vault: permission denied reading secret/metadata/gateway/acme: the token's policy needs read on it"
    )
    assert session.session.logins == 1
    await session.close()


async def test_a_token_file_is_read_again_when_its_token_has_ended(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(server.token("gateway", ttl_s=600))
    session = Session(server, {"token_file": file})
    await session.ask()
    server.revoke()
    with pytest.raises(VaultDenied, match=r"ended or is unknown; put a new one into vault\.auth\.token_file"):
        await session.ask()
    file.write_text(server.token("gateway", ttl_s=600))
    assert (await session.ask())["data"]["current_version"] == 1
    await session.close()


async def test_a_token_that_may_not_look_itself_up_is_used_all_the_same(server: VaultServer) -> None:
    session = Session(server, {"token": server.token("gateway", "no-default", ttl_s=600)})
    assert (await session.ask())["data"]["current_version"] == 1
    assert await session.keep() is None
    await session.close()


async def test_of_a_token_that_will_end_for_good_people_are_told_once(server: VaultServer) -> None:
    vault = Vault(
        settings(server, {"token": server.token("gateway", ttl_s=600, renewable=False)}), pace=Pace(), log=LOG
    )
    with capture_logs() as logs:
        await vault.ask(READ, read)
        await asyncio.sleep(0.2)
        await vault.ask(READ, read)
    await vault.close()
    assert [entry["event"] for entry in logs] == [
        "vault: the token cannot be renewed and ends in 600 s; put a new one in time"
    ]


async def test_a_short_lease_is_kept_alive_by_itself(server: VaultServer) -> None:
    vault = Vault(settings(server, app_role(server, ttl_s=2)), pace=Pace(), log=LOG)
    await vault.ask(READ, read)
    await asyncio.sleep(3.2)
    assert (vault.renewals, vault.logins) == (2, 1)
    await vault.ask(READ, read)
    await vault.close()
    assert vault.logins == 1


async def test_a_lease_that_came_late_is_kept_alive_too(server: VaultServer) -> None:
    vault = Vault(settings(server, app_role(server, ttl_s=2)), pace=Pace(), log=LOG)
    await server.go_away()
    with pytest.raises(VaultUnreachable):
        await vault.ask(READ, read)
    await server.come_back()
    await vault.ask(READ, read)
    await asyncio.sleep(1.8)
    assert (vault.renewals, vault.logins) == (1, 1)
    await vault.close()


async def test_a_renewal_that_vault_does_not_hear_is_tried_again(server: VaultServer) -> None:
    vault = Vault(settings(server, app_role(server, ttl_s=3)), pace=Pace(0.05, 0.1), log=LOG)
    await vault.ask(READ, read)
    await server.go_away()
    with capture_logs() as logs:
        await asyncio.sleep(2.2)
        await server.come_back()
        await asyncio.sleep(0.5)
    assert (vault.renewals, vault.logins) == (1, 1)
    assert len(logs) == 1
    assert logs[0]["cause"].endswith("connection refused")
    await vault.close()


# What goes wrong, in words.


def node(**state: Any) -> Callable[[VaultServer], Any]:
    def spoil(server: VaultServer) -> None:
        for name, value in state.items():
            setattr(server, name, value)

    return spoil


TROUBLES: list[tuple[str, Callable[[VaultServer], Any], type[SourceProblem], str]] = [
    ("sealed", node(sealed=True), VaultUnreachable, "vault: it is sealed; unseal it"),
    ("standby", node(node_status=429), VaultUnreachable, "vault: it is a standby or limits"),
    ("secondary", node(node_status=472), VaultUnreachable, "name the active node or a load balancer in vault.address"),
    ("performance", node(node_status=473), VaultUnreachable, "vault: it is a performance standby"),
    ("redirects", node(redirect_to="http://127.0.0.1:1"), VaultUnreachable, "answers 307, as a standby"),
    ("slow", node(delay_s=1.5), VaultUnreachable, "in 1 s"),
    ("no secret", node(kv={}), VaultMissing, "vault: there is nothing at secret/metadata/gateway/acme"),
    ("no role", node(app_roles={}), SourceProblem, "login by app_role is refused at auth/approle/login: check role_id"),
]
CASES = pytest.mark.parametrize(
    ("spoil", "kind", "words"), [case[1:] for case in TROUBLES], ids=[t[0] for t in TROUBLES]
)


@CASES
async def test_trouble_is_said_so_that_one_can_mend_it(
    server: VaultServer, spoil: Callable[[VaultServer], Any], kind: type[SourceProblem], words: str
) -> None:
    session = Session(server, app_role(server))
    spoil(server)
    with pytest.raises(kind) as trouble:
        await session.ask()
    assert words in str(trouble.value)
    await session.close()


async def test_a_refused_connection_is_said_and_the_next_question_finds_vault_again(server: VaultServer) -> None:
    session = Session(server, app_role(server))
    await session.ask()
    await server.go_away()
    with pytest.raises(VaultUnreachable, match=f"^vault: cannot reach {server.url}: connection refused$"):
        await session.ask()
    await server.come_back()
    assert (await session.ask())["data"]["current_version"] == 1
    assert session.session.logins == 1
    await session.close()


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("text", ["[]", "{}", "null", "<html>", '{"errors": [1]}', '{"errors": "no"}', '{"auth": {}}'])
async def test_something_that_is_not_vault_is_survived(server: VaultServer, status: int, text: str) -> None:
    session = Session(server, app_role(server))
    server.impostor = (status, text)
    with pytest.raises(SourceProblem, match=r"^vault: ") as trouble:
        await session.ask()
    assert status != 200 or "is vault.address that of Vault?" in str(trouble.value) or "no token" in str(trouble.value)
    server.impostor = None
    assert (await session.ask())["data"]["current_version"] == 1
    await session.close()


@pytest.mark.parametrize("spoil", ["away", "sealed", "denied", "revoked"])
async def test_no_problem_carries_the_token_or_the_credentials(server: VaultServer, spoil: str) -> None:
    auth = app_role(server)
    session = Session(server, auth)
    await session.ask()
    tokens = list(server.tokens)
    match spoil:
        case "away":
            await server.go_away()
        case "sealed":
            server.sealed = True
        case "denied":
            server.policies["gateway"] = {}
        case _:
            server.revoke()
            server.app_roles.clear()
    with pytest.raises(SourceProblem) as trouble:
        await session.ask()
    text = "".join(traceback.format_exception(trouble.value)) + repr(trouble.value) + repr(session.session)
    text += repr(session.session._lease) + repr(trouble.value.__context__)
    assert not [secret for secret in (*tokens, "secret-1") if secret in text]
    assert not isinstance(trouble.value.__context__, OSError | hvac.exceptions.VaultError), "it keeps the request"
    await session.close()
    gc.collect()


def test_hvac_is_imported_only_when_vault_is_asked() -> None:
    code = "import sys, gateway.pseudonyms.pseudonym_keys, gateway.config.check; print('hvac' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ, check=True)
    assert done.stdout == "False\n"
