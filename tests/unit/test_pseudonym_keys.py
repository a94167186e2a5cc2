"""Which keys the engine is handed, from each kind of source, through rotations and outages."""

import asyncio
import base64
import hashlib
import hmac
import json
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.config.pseudonyms import PseudonymKeySource, VaultConfig, parse_key
from gateway.pseudonyms.keys import TenantKey, derive
from gateway.pseudonyms.pace import Pace
from gateway.pseudonyms.pseudonym import Form, pseudonym
from gateway.pseudonyms.pseudonym_keys import PseudonymKeys
from gateway.pseudonyms.watch import KeyStatus
from tests.support.vault import VaultServer, run_vault
from tests.support.vault_store import Role, TransitKey

QUICK = Pace(first_retry_s=0.05, longest_retry_s=0.1, file_poll_s=0.05, start_limit_s=3.0)
LOG = structlog.get_logger("test")
KEY_1, KEY_2, KEY_3 = (bytes([number]) * 32 for number in (1, 2, 3))
Known = dict[tuple[str, str, int], bytes]


def hexed(key: bytes) -> str:
    return key.hex()


@pytest.fixture
async def server() -> AsyncIterator[VaultServer]:
    async with run_vault() as vault:
        vault.app_roles["role-1"] = Role("secret-1", ("gateway",))
        vault.transit["gateway"] = TransitKey()
        yield vault
        assert vault.violations == []


class Engine:
    """Copies what it is given, as the real one must."""

    def __init__(self) -> None:
        self.given: list[Known] = []
        self.buffers: list[bytearray] = []

    def apply(self, keys: Sequence[TenantKey]) -> None:
        self.given.append({(key.name, key.tenant, key.version): bytes(key.key) for key in keys})
        self.buffers += [key.key for key in keys]

    @property
    def known(self) -> Known:
        return self.given[-1]


class Running:
    """PseudonymKeys beside an engine."""

    def __init__(
        self,
        sources: dict[str, Any],
        wanted: Iterable[tuple[str, str]],
        server: VaultServer | None = None,
        pace: Pace = QUICK,
    ) -> None:
        self.engine = Engine()
        self.keys = PseudonymKeys(
            sources=sources_of(sources),
            vault=vault_of(server) if server is not None else None,
            wanted=wanted,
            apply=self.engine.apply,
            log=LOG,
            pace=pace,
        )

    async def __aenter__(self) -> "Running":
        await self.keys.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keys.stop()

    @property
    def known(self) -> Known:
        return self.engine.known

    def status(self) -> KeyStatus:
        (status,) = self.keys.status()
        return status


def sources_of(sources: dict[str, Any]) -> dict[str, PseudonymKeySource]:
    return {name: PseudonymKeySource.model_validate(source) for name, source in sources.items()}


def vault_of(server: VaultServer, **others: Any) -> VaultConfig:
    auth = {"app_role": {"role_id": "role-1", "secret_id": "secret-1"}}
    return VaultConfig.model_validate({"address": server.url, "auth": auth, "timeout": 1.0, **others})


def inline(*keys: bytes) -> dict[str, Any]:
    return {"versions": [{"version": number, "key": hexed(key)} for number, key in enumerate(keys, 1)]}


def kv(path: str = "gateway/{tenant}", **others: Any) -> dict[str, Any]:
    return {"vault_kv": {"path": path, "refresh": 1, **others}}


def transit(file: Path, **others: Any) -> dict[str, Any]:
    return {"vault_transit": {"key": "gateway", "wrapped_keys_file": file, "refresh": 1, **others}}


def derived(key: bytes, tenant: str) -> bytes:
    return bytes(derive(bytearray(key), tenant))


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


# What a key is.


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (KEY_1.hex().encode() + b"\n", KEY_1),
        (KEY_1.hex().upper().encode(), KEY_1),
        (base64.b64encode(KEY_1), KEY_1),
        (base64.b64encode(b"\xfb" * 32), b"\xfb" * 32),
        (base64.urlsafe_b64encode(b"\xfb" * 32).rstrip(b"="), b"\xfb" * 32),
        (b"correct horse battery staple, twice\n", b"correct horse battery staple, twice"),
        (b"k" * 40, b"k" * 40),
        (b"\x00\xff" * 20, b"\x00\xff" * 20),
    ],
)
def test_a_key_is_hex_or_base64_or_itself(written: bytes, key: bytes) -> None:
    assert parse_key(written) == key


@pytest.mark.parametrize("written", [b"", b"short", b"k" * 31, KEY_1.hex().encode()[:31]])
def test_a_short_key_is_refused_without_being_shown(written: bytes) -> None:
    with pytest.raises(ValueError, match="32 are needed; `openssl rand -base64 32`") as refused:
        parse_key(written)
    assert not written or written.decode() not in str(refused.value)


def test_derived_keys_are_stable_and_differ_by_tenant() -> None:
    # RFC 5869 by hand, so that a key is the same in every release.
    prk = hmac.new(bytes(32), KEY_1, hashlib.sha256).digest()
    expected = hmac.new(prk, b"telemetry-gateway pseudonym acme\x01", hashlib.sha256).digest()
    assert derived(KEY_1, "acme") == expected
    assert derived(KEY_1, "other") != expected


def test_a_pseudonym_is_the_truncated_hmac_of_the_value() -> None:
    digest = hmac.new(KEY_1, b" jane\n", hashlib.sha256).hexdigest()
    assert pseudonym(bytearray(KEY_1), 7, b" jane\n", Form.TEXT) == f"h7:{digest[:24]}"


# Versions in the configuration and in files.


async def test_every_tenant_gets_every_version_of_its_own_key() -> None:
    async with Running({"main": inline(KEY_1, KEY_2)}, [("main", "acme"), ("main", "other")]) as running:
        assert running.known == {
            ("main", tenant, version): derived(key, tenant)
            for tenant in ("acme", "other")
            for version, key in ((1, KEY_1), (2, KEY_2))
        }
        assert len(set(running.known.values())) == 4
        status = running.status()
        assert (status.source, status.tenants, status.missing) == ("versions", ("acme", "other"), ())
        assert (status.newest_version, status.last_error) == (2, None)


async def test_what_was_handed_over_is_wiped() -> None:
    async with Running({"main": inline(KEY_1)}, [("main", "acme")]) as running:
        assert running.engine.buffers
        assert all(buffer == bytes(32) for buffer in running.engine.buffers)
    running.engine.buffers.clear()


async def test_key_files_are_watched(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(hexed(KEY_1))
    source = {"versions": [{"version": 1, "key_file": file}]}
    async with Running({"main": source}, [("main", "acme")]) as running:
        assert running.known == {("main", "acme", 1): derived(KEY_1, "acme")}
        with capture_logs() as logs:
            file.write_text(hexed(KEY_2))
            await until(lambda: running.known == {("main", "acme", 1): derived(KEY_2, "acme")})
        assert any("h1: has two meanings" in entry["event"] for entry in logs)


async def test_a_key_file_that_goes_bad_leaves_the_old_key_in_use(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(hexed(KEY_1))
    source = {"versions": [{"version": 1, "key_file": file}]}
    async with Running({"main": source}, [("main", "acme")]) as running:
        for spoil, words in ((lambda: file.write_text("short"), "32 are needed"), (file.unlink, "No such file")):
            spoil()
            await until(lambda words=words: words in (running.status().last_error or ""))
            assert "the key that was read before stays in use" in (running.status().last_error or "")
        assert len(running.engine.given) == 1
        file.write_text(hexed(KEY_1))
        await until(lambda: running.status().last_error is None)
        assert len(running.engine.given) == 1


async def test_a_half_written_key_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"a" * 64)
    source = {"versions": [{"version": 1, "key_file": file}]}
    running = Running({"main": source}, [("main", "acme")], pace=Pace(file_poll_s=0.5))
    async with running:
        file.write_bytes(b"b" * 40)
        await asyncio.sleep(0.55)
        file.write_bytes(b"b" * 64)
        await until(lambda: len(running.engine.given) > 1)
        assert running.known == {("main", "acme", 1): derived(parse_key(b"b" * 64), "acme")}


async def test_a_key_file_that_is_missing_at_the_start_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "key"
    source = {"versions": [{"version": 1, "key": hexed(KEY_1)}, {"version": 2, "key_file": file}]}
    async with Running({"main": source}, [("main", "acme")]) as running:
        assert set(running.known) == {("main", "acme", 1)}
        file.write_text(hexed(KEY_2))
        await until(lambda: set(running.known) == {("main", "acme", 1), ("main", "acme", 2)})


# Vault's KV store.


async def test_the_secrets_versions_are_the_keys(server: VaultServer) -> None:
    for key in (KEY_1, KEY_2, KEY_3):
        server.put("gateway/acme", key=hexed(key))
    server.put("gateway/other", key=base64.b64encode(KEY_2).decode())
    server.destroy("gateway/acme", 1)
    server.delete("gateway/acme", 2)
    server.kv["gateway/other"][0].deletion_time = "2999-01-01T00:00:00.123456789Z"
    async with Running({"kv": kv()}, [("kv", "acme"), ("kv", "other")], server) as running:
        assert running.known == {("kv", "acme", 3): KEY_3, ("kv", "other", 1): KEY_2}


async def test_of_many_versions_the_newest_ten_are_read(server: VaultServer) -> None:
    for number in range(1, 14):
        server.put("gateway/acme", key=hexed(bytes([number]) * 32))
    async with Running({"kv": kv()}, [("kv", "acme")], server) as running:
        assert [version for _, _, version in running.known] == list(range(4, 14))


async def test_one_secret_for_all_gives_each_tenant_a_key_of_its_own(server: VaultServer) -> None:
    server.put("gateway/all", key=hexed(KEY_1))
    source = {"kv": kv("gateway/all")}
    async with Running(source, [("kv", "acme"), ("kv", "other")], server) as running:
        assert running.known == {("kv", t, 1): derived(KEY_1, t) for t in ("acme", "other")}
        assert server.count("GET secret/data/*") == 1


async def test_a_new_version_is_found_and_the_old_one_kept(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    async with Running({"kv": kv()}, [("kv", "acme")], server) as running:
        server.put("gateway/acme", key=hexed(KEY_2))
        await until(lambda: len(running.engine.given) > 1)
        assert running.known == {("kv", "acme", 1): KEY_1, ("kv", "acme", 2): KEY_2}
        assert server.count("GET secret/data/*") == 2, "what is held is not read again"


async def test_a_deleted_secret_stays_in_use_and_is_reported(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    server.put("gateway/acme", key=hexed(KEY_2))
    async with Running({"kv": kv()}, [("kv", "acme")], server) as running:
        server.destroy("gateway/acme", 2)
        await until(lambda: running.status().last_error is not None)
        assert running.status().last_error == (
            "vault: version 2 of secret/gateway/acme was deleted; its key stays in use until a restart"
        )
        server.kv.clear()
        await until(lambda: "there is no secret gateway/acme" in (running.status().last_error or ""))
        assert "stay in use until a restart" in (running.status().last_error or "")
        assert len(running.engine.given) == 1


async def test_a_secret_that_was_made_anew_replaces_the_old_one(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    async with Running({"kv": kv()}, [("kv", "acme")], server) as running:
        server.kv.clear()
        server.put("gateway/acme", key=hexed(KEY_2))
        await until(lambda: running.known == {("kv", "acme", 1): KEY_2})


async def test_one_tenants_trouble_is_not_anothers(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    server.put("gateway/short", key="short")
    server.put("gateway/field", other="x")
    wanted = [("kv", tenant) for tenant in ("acme", "field", "none", "short")]
    async with Running({"kv": kv()}, wanted, server) as running:
        assert running.known == {("kv", "acme", 1): KEY_1}
        status = running.status()
        assert (status.tenants, status.missing) == (("acme",), ("field", "none", "short"))
        assert status.last_success_at is None
        for words in (
            "vault: version 1 of secret/gateway/field has no text field key; put the key there, or set field",
            "vault: there is no secret gateway/none in the KV version 2 store secret; write one with `vault kv put",
            "vault: version 1 of secret/gateway/short, field key: the key has 5 bytes, and 32 are needed",
        ):
            assert words in (status.last_error or "")
        server.put("gateway/none", key=hexed(KEY_2))
        await until(lambda: ("kv", "none", 1) in running.known)


async def test_sealed_at_the_start_the_keys_come_when_it_is_unsealed(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    server.sealed = True
    async with Running({"kv": kv(refresh=3600)}, [("kv", "acme")], server) as running:
        assert running.engine.given == [{}]
        assert running.status().missing == ("acme",)
        assert running.status().last_error == "vault: it is sealed; unseal it"
        server.sealed = False
        await until(lambda: running.known == {("kv", "acme", 1): KEY_1})
        assert running.status().last_error is None


async def test_a_vault_that_does_not_answer_does_not_hold_up_the_start(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    server.delay_s = 0.6
    sources = {"kv": kv(), "main": inline(KEY_2)}
    pace = Pace(first_retry_s=0.05, longest_retry_s=0.1, start_limit_s=0.2)
    async with Running(sources, [("kv", "acme"), ("main", "acme")], server, pace) as running:
        assert running.engine.given == [{("main", "acme", 1): derived(KEY_2, "acme")}]
        await until(lambda: ("kv", "acme", 1) in running.known)


async def test_while_vault_is_away_known_keys_stay(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    sources = {"kv": kv(), "main": inline(KEY_2)}
    async with Running(sources, [("kv", "acme")], server) as running:
        await server.go_away()
        await until(lambda: "connection refused" in (running.keys.status()[0].last_error or ""))
        running.keys.want([("kv", "acme"), ("main", "acme")])
        await until(lambda: ("main", "acme", 1) in running.known)
        assert running.known[("kv", "acme", 1)] == KEY_1
        await server.come_back()
        await until(lambda: running.keys.status()[0].last_error is None)


# Vault's transit engine.


async def test_each_tenant_gets_a_data_key_that_outlives_a_restart(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "state" / "wrapped.json"
    source, wanted = {"t": transit(file)}, [("t", "acme"), ("t", "other")]
    async with Running(source, wanted, server) as first:
        assert set(first.known) == {("t", "acme", 1), ("t", "other", 1)}
        assert len(set(first.known.values())) == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not [key for key in first.known.values() if key.hex() in file.read_text()]
    async with Running(source, [*wanted, ("t", "third")], server) as second:
        assert {name: key for name, key in second.known.items() if name[1] != "third"} == first.known
        assert ("t", "third", 1) in second.known
    assert server.count("POST transit/datakey/plaintext/gateway") == 3
    assert server.count("POST transit/decrypt/gateway") == 2, "what was just made is not asked for again"


async def test_a_rotation_makes_new_keys_and_wraps_the_old_ones_anew(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "wrapped.json"
    async with Running({"t": transit(file)}, [("t", "acme")], server) as running:
        before = running.known
        server.rotate("gateway")
        await until(lambda: len(running.engine.given) > 1)
        assert set(running.known) == {("t", "acme", 1), ("t", "acme", 2)}
        assert running.known["t", "acme", 1] == before["t", "acme", 1] != running.known["t", "acme", 2]
    (first, second) = json.loads(file.read_text())["tenants"]["acme"]
    assert first["ciphertext"].startswith("vault:v2:")
    assert (first["made_under"], second["made_under"]) == (1, 2)
    server.transit["gateway"].min_decryption_version = 2
    async with Running({"t": transit(file)}, [("t", "acme")], server) as later:
        assert later.known == running.known


async def test_a_rotation_while_the_gateway_was_down_is_seen_at_the_start(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "wrapped.json"
    async with Running({"t": transit(file)}, [("t", "acme")], server) as first:
        pass
    server.rotate("gateway")
    async with Running({"t": transit(file)}, [("t", "acme")], server) as second:
        assert second.known["t", "acme", 1] == first.known["t", "acme", 1]
        assert ("t", "acme", 2) in second.known


async def test_gateways_that_share_the_file_use_the_same_keys(server: VaultServer, tmp_path: Path) -> None:
    source = {"t": transit(tmp_path / "wrapped.json")}
    async with Running(source, [("t", "acme")], server) as one, Running(source, [("t", "acme")], server) as two:
        server.rotate("gateway")
        await until(lambda: ("t", "acme", 2) in one.known and ("t", "acme", 2) in two.known)
        assert one.known == two.known
    assert server.count("POST transit/datakey/*") == 2


async def test_a_key_that_cannot_be_kept_is_not_used(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "wrapped.json"
    (tmp_path / "wrapped.json.new").mkdir()
    async with Running({"t": transit(file)}, [("t", "acme")], server) as running:
        assert running.known == {}
        assert f"cannot write {file}" in (running.status().last_error or "")
        (tmp_path / "wrapped.json.new").rmdir()
        await until(lambda: set(running.known) == {("t", "acme", 1)})


async def test_a_lost_file_is_reported_and_not_begun_anew(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "wrapped.json"
    async with Running({"t": transit(file)}, [("t", "acme")], server) as running:
        content = file.read_bytes()
        file.unlink()
        await until(lambda: "no longer holds the keys of acme" in (running.status().last_error or ""))
        assert not file.exists()
        assert len(running.engine.given) == 1
        file.write_bytes(content)
        await until(lambda: running.status().last_error is None)


@pytest.mark.parametrize("content", ["", "{}", '{"format":2,"transit_key":"transit/keys/gateway"}', "[1]"])
async def test_a_damaged_file_is_never_overwritten(server: VaultServer, tmp_path: Path, content: str) -> None:
    file = tmp_path / "wrapped.json"
    file.write_text(content)
    async with Running({"t": transit(file)}, [("t", "acme")], server) as running:
        assert running.known == {}
        assert "no file of wrapped keys, or damaged" in (running.status().last_error or "")
    assert file.read_text() == content


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.transit.clear(), "make it with `vault write -f transit/keys/gateway`"),
        (lambda s: s.policies.update(gateway={}), "permission denied reading transit/keys/gateway"),
        (
            lambda s: s.policies.update(gateway={"transit/keys/gateway": {"read"}}),
            "permission denied writing to transit/datakey/plaintext/gateway: the token's policy needs update on it",
        ),
        (lambda s: setattr(s.transit["gateway"], "derived", True), "is refused (400): missing 'context' for key"),
    ],
)
async def test_what_transit_lacks_is_said(
    server: VaultServer, tmp_path: Path, spoil: Callable[[VaultServer], object], words: str
) -> None:
    spoil(server)
    async with Running({"t": transit(tmp_path / "wrapped.json")}, [("t", "acme")], server) as running:
        assert words in (running.status().last_error or "")


# Reloads.


async def test_other_tenants_are_served_after_a_reload(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    server.put("gateway/other", key=hexed(KEY_2))
    sources = {"kv": kv(refresh=3600), "main": inline(KEY_3)}
    async with Running(sources, [("kv", "acme"), ("main", "acme")], server) as running:
        running.keys.want([("kv", "other"), ("main", "other")])
        assert running.known == {("main", "other", 1): derived(KEY_3, "other")}, "at once, what can be derived"
        await until(lambda: running.known.get(("kv", "other", 1)) == KEY_2)
        before = len(running.engine.given)
        running.keys.want([("main", "other"), ("kv", "other")])
        assert len(running.engine.given) == before, "nothing is new"


async def test_a_reload_takes_other_sources(server: VaultServer) -> None:
    server.put("gateway/acme", key=hexed(KEY_1))
    wanted = [("kv", "acme"), ("main", "acme")]
    async with Running({"kv": kv(), "main": inline(KEY_2)}, wanted, server) as running:
        await server.go_away()
        sources = sources_of({"kv": kv(refresh=2), "main": inline(KEY_2, KEY_3)})
        await running.keys.reconfigure(sources=sources, vault=vault_of(server, timeout=0.5), wanted=wanted)
        assert running.known == {
            ("kv", "acme", 1): KEY_1,
            ("main", "acme", 1): derived(KEY_2, "acme"),
            ("main", "acme", 2): derived(KEY_3, "acme"),
        }
        assert len(running.engine.given) == 2, "handed over once, and whole"
        sources = sources_of({"kv": kv("elsewhere/{tenant}")})
        await running.keys.reconfigure(sources=sources, vault=vault_of(server), wanted=wanted)
        assert running.known == {}, "keys of another place are not this key"


async def test_an_engine_that_fails_once_gets_the_keys_at_the_next_look(tmp_path: Path) -> None:
    file = tmp_path / "key"
    source = {"versions": [{"version": 1, "key_file": file}]}
    running = Running({"main": source}, [("main", "acme")])
    async with running:
        apply, failures = running.engine.apply, []

        def fail_once(keys: Sequence[TenantKey]) -> None:
            if not failures:
                failures.append(True)
                raise RuntimeError(repr(keys[0].key))
            apply(keys)

        running.keys._apply = fail_once
        with capture_logs() as logs:
            file.write_text(hexed(KEY_1))
            await until(lambda: running.known == {("main", "acme", 1): derived(KEY_1, "acme")})
        assert "internal error: RuntimeError" in [entry.get("cause") for entry in logs]


# Secrets.


async def test_no_key_and_no_credential_is_shown_anywhere(server: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(hexed(KEY_1))
    server.put("gateway/acme", key=hexed(KEY_2))
    sources = {
        "main": {"versions": [{"version": 1, "key": hexed(KEY_3)}, {"version": 2, "key_file": file}]},
        "kv": kv(),
        "t": transit(tmp_path / "wrapped.json"),
    }
    seen: list[object] = []
    wanted = [(name, "acme") for name in sources]
    with capture_logs() as logs:
        running = Running(sources, wanted, server)
        async with running:
            seen += [running.keys.status(), repr(running.keys), vars(running.keys), running.keys._sources]
            seen += [repr(watch.tenant_keys()) for watch in running.keys._watches.values()]
            tokens = list(server.tokens)
            file.write_text("short")
            await server.go_away()
            await until(lambda: all(status.last_error for status in running.keys.status()))
            seen.append(running.keys.status())
    seen += [logs, vault_of(server), vault_of(server).model_dump(), sources_of(sources)["main"].model_dump_json()]
    text = repr(seen)
    keys = [KEY_1, KEY_2, KEY_3, *running.engine.given[0].values()]
    secrets = [form for key in keys for form in (key.hex(), repr(key)[2:-1], base64.b64encode(key).decode())]
    assert not [secret for secret in (*secrets, *tokens, "secret-1") if secret in text]
    assert "TenantKey(name='main', tenant='acme', version=2)" in text
