"""What a person is told who configures keys of pseudonyms, or looks for somebody's data."""

import asyncio
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.check import check
from gateway.config.loader import load_text
from gateway.config.problems import ConfigError
from gateway.pseudonyms.keys import derive
from gateway.pseudonyms.look import look_up
from gateway.pseudonyms.pace import Pace
from tests.support.vault import run_vault
from tests.support.vault_store import Role, TransitKey

KEY_1, KEY_2 = bytes([1]) * 32, bytes([2]) * 32


def derived(key: bytes, tenant: str) -> bytes:
    return bytes(derive(bytearray(key), tenant))


# Configurations.

START = "destinations: {d: {type: file, path: /tmp/x}}\ntenants: {acme: {}}\n"
VAULT = START + "vault: {address: 'https://vault:8200', auth: {token: hvs.x}}\n"
GOOD = "main: {versions: [{version: 1, key: " + "ab" * 32 + "}]}"


def problems(text: str) -> list[str]:
    """Every problem, errors and warnings."""
    try:
        loaded = load_text(text, Path("gateway.yaml"))
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in check(loaded) if problem.path != "admin"]


BAD = [
    ("main: {versions: []}", "pseudonym_keys.main.versions: tuple should have at least 1 item"),
    ("main: {}", "pseudonym_keys.main: name exactly one of versions, vault_kv, vault_transit"),
    ("main: {versions: [{version: 1}]}", "pseudonym_keys.main.versions[0]: name key or key_file, one of them"),
    ("main: {versions: [{version: 1, key: tooshort}]}", "versions[0]: the key has 8 bytes, and 32 are needed"),
    ("main: {versions: [{version: 0, key: x}]}", "versions[0].version: input should be greater than or equal to 1"),
    (
        f"main: {{versions: [{{version: 1, key: {'ab' * 32}}}, {{version: 1, key: {'cd' * 32}}}]}}",
        "pseudonym_keys.main: version 1 stands here twice; a new key needs a new number",
    ),
    ("main: {versions: [{version: 1, key_file: /no/such}]}", "key_file: cannot read /no/such: No such file"),
    ("main: {verions: []}", "pseudonym_keys.main.verions: unknown key; did you mean versions?"),
    ("'a b': {versions: []}", "pseudonym_keys"),
    (
        "kv: {vault_kv: {path: gateway/x}}",
        "pseudonym_keys.kv.vault_kv: there is no Vault to ask; add the section",
    ),
    ("kv: {vault_kv: {path: data/gateway/x}}", "vault_kv.path: leave out data/ and metadata/"),
    ("kv: {vault_kv: {path: /gateway}}", "vault_kv.path: write a path as gateway/pseudonyms, without / at the ends"),
    ("kv: {vault_kv: {path: 'gateway/{tennant}'}}", "vault_kv.path: {tenant} is all that is filled in"),
    ("kv: {vault_kv: {path: ../x}}", "vault_kv.path: write a path"),
    (
        "t: {vault_transit: {key: g, wrapped_keys_file: /dev/null/x}}",
        "wrapped_keys_file: cannot write to /dev/null: /dev/null is",
    ),
]


@pytest.mark.parametrize(("keys", "words"), BAD)
def test_check_says_what_is_wrong_with_a_key(keys: str, words: str) -> None:
    vault = VAULT if "/dev/null" in keys else START
    found = problems(f"{vault}pseudonym_keys: {{{keys}}}")
    assert any(words in problem and problem.startswith("gateway.yaml:") for problem in found), found
    assert not [problem for problem in found if "tooshort" in problem]


BAD_VAULTS = [
    ("address: vault", "vault.address: write a URL as http://HOST:PORT/PATH"),
    ("address: 'https://v:8200/v1'", "vault.address: leave out the path: write https://v:8200"),
    ("address: 'http://10.0.0.1:8200'", "vault.address: token and keys travel without TLS"),
    ("auth: {}", "vault.auth: name exactly one of token, token_file, app_role, kubernetes"),
    ("auth: {token: a, app_role: {role_id: b}}", "vault.auth: name exactly one of token, token_file, app_role"),
    ("auth: {token: ''}", "vault.auth.token: it must be one line of printable ASCII; set the variable or file"),
    ("auth: {token_file: /no/such}", "vault.auth.token_file: cannot read /no/such yet"),
    ("auth: {app_role: {role_id: a, secret_id: b, secret_id_file: c}}", "name secret_id or secret_id_file, not both"),
    ("ca_file: /no/such.crt", "vault.ca_file: cannot read /no/such.crt"),
    ("cert_file: /a", "vault: cert_file and key_file go together"),
    ("adress: x", "vault.adress: unknown key; did you mean address?"),
]


@pytest.mark.parametrize(("part", "words"), BAD_VAULTS)
def test_check_says_what_is_wrong_with_vault(part: str, words: str) -> None:
    good = {"address": "address: 'https://vault:8200'", "auth": "auth: {token: hvs.x}"}
    good[part.partition(":")[0]] = part
    found = problems(f"{START}vault: {{{', '.join(good.values())}}}")
    assert any(words in problem and problem.startswith("gateway.yaml:3:") for problem in found), found


def test_check_has_nothing_to_say_about_good_ones(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY_1.hex())
    key.chmod(0o600)
    (tmp_path / "inner.key").write_text(KEY_2.hex())
    keys = f"""\
pseudonym_keys:
  {GOOD}
  files: {{versions: [{{version: 1, key: "${{file:{tmp_path}/inner.key}}"}}, {{version: 2, key_file: {key}}}]}}
  kv: {{vault_kv: {{mount: secret, path: "gateway/{{tenant}}", field: key}}}}
  t: {{vault_transit: {{mount: transit, key: gateway, wrapped_keys_file: {tmp_path}/wrapped.json}}}}
"""
    assert problems(VAULT + keys) == []
    key.chmod(0o644)
    (warning,) = problems(VAULT + keys)
    assert f"everybody may read {key}, and so find out whose pseudonym is whose; chmod 600 it" in warning


def test_two_keys_cannot_share_a_file_of_wrapped_keys(tmp_path: Path) -> None:
    one = f"{{vault_transit: {{key: g, wrapped_keys_file: {tmp_path}/w}}}}"
    (problem,) = problems(f"{VAULT}pseudonym_keys: {{a: {one}, b: {one}}}")
    assert "pseudonym_keys.b.vault_transit.wrapped_keys_file: pseudonym_keys.a keeps its keys in" in problem


# Finding data again.


def show(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["pseudonym", *[str(argument) for argument in arguments]], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


CONFIG = """\
destinations: {d: {type: file, path: /tmp/x}}
tenants: {acme: {}, other: {}}
pseudonym_keys:
  main: {versions: [{version: 1, key: "%s"}, {version: 2, key: "%s"}]}
"""


def test_the_command_shows_a_value_under_every_version(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG % (KEY_1.hex(), KEY_2.hex()))
    expected = [
        f"h{version}:{hmac.new(derived(key, 'acme'), b'jane@example.org', 'sha256').hexdigest()[:24]}  main  email"
        for version, key in ((2, KEY_2), (1, KEY_1))
    ]
    code, out, err = show("-c", file, "--tenant", "acme", "jane@example.org")
    assert (code, out.splitlines(), err) == (0, expected, "")
    assert show("-c", file, "--tenant", "acme", "--key", "main", "-", stdin="jane@example.org\n")[1] == out
    assert show("-c", file, "--tenant", "other", "jane@example.org")[1] != out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tenant", "nobody", "x"), "there is no tenant nobody"),
        (("--tenant", "acme", "--key", "mian", "x"), "there is no pseudonym key mian; there are main"),
    ],
)
def test_the_command_says_what_it_does_not_know(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG % (KEY_1.hex(), KEY_2.hex()))
    code, out, err = show("-c", file, *arguments)
    assert (code, out) == (2, "")
    assert words in err


async def test_asking_for_a_pseudonym_makes_no_key(tmp_path: Path) -> None:
    file, wrapped = tmp_path / "gateway.yaml", tmp_path / "wrapped.json"
    async with run_vault() as server:
        server.app_roles["role-1"] = Role("secret-1", ("gateway",))
        transit = server.transit["gateway"] = TransitKey()
        vault = {"address": server.url, "auth": {"app_role": {"role_id": "role-1", "secret_id": "secret-1"}}}
        config = {
            "destinations": {"d": {"type": "file", "path": "/tmp/x"}},
            "tenants": {"acme": {}},
            "vault": vault,
            "pseudonym_keys": {"t": {"vault_transit": {"key": "gateway", "wrapped_keys_file": str(wrapped)}}},
        }
        file.write_text(json.dumps(config))
        code, out, err = await asyncio.to_thread(show, "-c", file, "--tenant", "acme", "x")
        assert (code, out) == (1, "")
        assert "tenant acme has no key t yet; nothing was pseudonymised with it" in err
        assert not wrapped.exists()

        entry = {"version": 1, "made_under": 1, "ciphertext": transit.wrap(KEY_1)}
        wrapped.write_text(json.dumps({"transit_key": "transit/keys/gateway", "tenants": {"acme": [entry]}}))
        expected = hmac.new(KEY_1, b"x", hashlib.sha256).hexdigest()[:24]
        found = await asyncio.to_thread(show, "-c", file, "--tenant", "acme", "x")
        assert found == (0, f"h1:{expected}  t  text\n", "")


async def test_a_source_that_does_not_answer_is_given_up() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = f"""\
destinations: {{d: {{type: file, path: ./out}}}}
tenants: {{acme: {{}}}}
vault: {{address: "http://127.0.0.1:{port}", auth: {{token: hvs.x}}, timeout: 30s}}
pseudonym_keys: {{kv: {{vault_kv: {{path: gateway}}}}}}
"""
    config = load_text(text, Path("gateway.yaml")).config
    (looked,) = await look_up(config, ["kv"], "acme", Pace(start_limit_s=0.1))
    assert (looked.keys, looked.problems) == ([], ["pseudonym_keys.kv: no answer within 0.1 s"])
    server.close()
    for connection in connections:
        connection.close()
        await connection.wait_closed()
