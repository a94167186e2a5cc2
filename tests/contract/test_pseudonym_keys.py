"""Pseudonym keys in the running daemon: who waits for one, what a rotation costs, and that no key is ever shown."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.pseudonyms.keys import derive
from gateway.pseudonyms.pseudonym import Form, pseudonym
from tests.contract.test_masking import page_of
from tests.support.clients import Answer, bearer, send_grpc, send_http
from tests.support.gateway import Gateway, accounted_config, base_config, run_gateway
from tests.support.masked import attributes, delivered, items, request
from tests.support.processes import wait_until
from tests.support.vault import VaultServer, run_vault

MAIL = "bob@example.com"
KEY_1, KEY_2 = b"first key of the tests, 32 bytes", b"second key of the tests, 32 byte"
MASK = {"keys": [], "detectors": "email", "action": "pseudonymise"}


def send(gateway: Gateway, tenant: str, transport: str = "grpc") -> Answer:
    payload = request("logs", contact=MAIL).SerializeToString()
    way = send_grpc if transport == "grpc" else send_http
    return way(gateway, payload, signal="logs", headers=bearer(f"{tenant}-key"))


def contacts(gateway: Gateway, tenant: str) -> list[str]:
    """What became of the address in each request."""
    return [attributes(items(line)[0])["contact"] for line in delivered(gateway, tenant)]


def vault_config(folder: Path, vault: VaultServer) -> dict[str, Any]:
    """Tenant acme's pseudonyms need a key of Vault's, globex needs none."""
    config = accounted_config(folder)
    config["vault"] = {"address": vault.url, "auth": {"token": vault.token("gateway")}}
    config["pseudonym_keys"] = {"kv": {"vault_kv": {"path": "gateway/{tenant}", "refresh": "1s"}}}
    config["tenants"]["acme"]["mask"] = MASK
    return config


async def test_a_tenant_waits_for_its_key_and_the_others_do_not(tmp_path: Path) -> None:
    async with run_vault() as vault:
        vault.put("gateway/acme", key=KEY_1.hex())
        vault.sealed = True
        await asyncio.to_thread(_wait_for_a_key, tmp_path, vault)
        assert vault.violations == []


def _wait_for_a_key(folder: Path, vault: VaultServer) -> None:
    with run_gateway(folder, vault_config(folder, vault)) as gateway:
        gateway.extra["folder"] = folder
        for transport in ("grpc", "http"):
            refused = send(gateway, "acme", transport)
            assert refused.code == "UNAVAILABLE"
            assert refused.http_status == (503 if transport == "http" else None)
            assert refused.retry_after_s == 5
            assert "the pseudonym key kv of tenant acme is not available yet" in refused.message
            assert send(gateway, "globex", transport).code == "OK"
        assert int((refused.headers or {})["retry-after"]) == 5
        assert gateway.total("gateway_pseudonym_keys_missing", key="kv") == 1
        assert gateway.total("gateway_rejected_items_total", tenant="acme", reason="no_pseudonym_key") == 4
        status, ready = page_of(gateway, "/-/ready")
        assert (status, json.loads(ready)["missing_pseudonym_keys"]) == (200, {"kv": 1})
        assert "acme" not in ready

        vault.sealed = False
        wait_until(lambda: send(gateway, "acme").code == "OK", "acme's key")
        assert contacts(gateway, "acme")[0] == pseudonym(bytearray(KEY_1), 1, MAIL.encode(), Form.EMAIL)
        assert set(contacts(gateway, "globex")) == {MAIL}
        assert gateway.total("gateway_pseudonym_keys_missing", key="kv") == 0
        assert gateway.total("gateway_pseudonym_key_newest_version", key="kv") == 1
        assert time.time() - gateway.total("gateway_pseudonym_key_last_success_timestamp_seconds", key="kv") < 60
        assert json.loads(page_of(gateway, "/-/ready")[1])["missing_pseudonym_keys"] == {}
        assert gateway.unaccounted() == 0


async def test_a_rotation_changes_pseudonyms_and_fails_no_request(tmp_path: Path) -> None:
    async with run_vault() as vault:
        vault.put("gateway/acme", key=KEY_1.hex())
        await asyncio.to_thread(_rotate_under_load, tmp_path, vault)


def _rotate_under_load(folder: Path, vault: VaultServer) -> None:
    with run_gateway(folder, vault_config(folder, vault)) as gateway:
        gateway.extra["folder"] = folder
        with _load(gateway) as answers:
            wait_until(lambda: len(answers) > 20, "requests under the first key")
            vault.put("gateway/acme", key=KEY_2.hex())
            wait_until(lambda: gateway.total("gateway_pseudonym_key_newest_version", key="kv") == 2, "the second key")
            sent = len(answers)
            wait_until(lambda: len(answers) > sent + 20, "requests under the second key")
        assert set(answers) == {"OK"}
        found = contacts(gateway, "acme")
        assert len(found) == len(answers)
        old, new = (pseudonym(bytearray(key), n, MAIL.encode(), Form.EMAIL) for n, key in ((1, KEY_1), (2, KEY_2)))
        assert found[0] == old
        assert found[-1] == new
        assert set(found) == {old, new}
    assert _audited(folder) == [(1, 1), (2, 1)]


@contextmanager
def _load(gateway: Gateway, *tenants: str) -> Iterator[list[str]]:
    """Requests of acme, or of these tenants, one after the other over each transport; their answers."""
    answers: list[str] = []
    stopped = threading.Event()

    def work(transport: str, tenant: str) -> None:
        while not stopped.is_set():
            try:
                answers.append(send(gateway, tenant, transport).code)
            except Exception as error:
                answers.append(repr(error))
                raise

    senders = [(transport, tenant) for transport in ("grpc", "http") for tenant in tenants or ("acme",)]
    threads = [threading.Thread(target=work, args=sender) for sender in senders]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stopped.set()
        for thread in threads:
            thread.join(30)


def _audited(folder: Path) -> list[tuple[int, int]]:
    """Newest version and number of tenants, of each line about keys."""
    texts = [file.read_text() for file in sorted((folder / "audit").glob("*.jsonl"))]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return [
        (line["details"]["newest_version"], line["details"]["tenants"])
        for line in lines
        if line["event"] == "pseudonym_key"
    ]


def test_a_reload_brings_keys_and_takes_them_away(tmp_path: Path) -> None:
    config = base_config(tmp_path)
    with run_gateway(tmp_path, config) as gateway:
        gateway.extra["folder"] = tmp_path
        assert send(gateway, "acme").code == "OK"
        config["pseudonym_keys"] = {"main": {"versions": [{"version": 3, "key": KEY_1.hex()}]}}
        config["tenants"]["acme"]["mask"] = MASK
        with _load(gateway) as answers:
            _reload(gateway, config)
            assert send(gateway, "acme").code == "OK"
            config["pseudonym_keys"]["main"]["versions"].append({"version": 4, "key": KEY_2.hex()})
            _reload(gateway, config)
            assert send(gateway, "acme").code == "OK"
            del config["tenants"]["acme"]["mask"]
            _reload(gateway, config)
        assert send(gateway, "acme").code == "OK"
        assert set(answers) == {"OK"}
        found = list(dict.fromkeys(contacts(gateway, "acme")))
        expected = [
            pseudonym(derive(bytearray(key), "acme"), n, MAIL.encode(), Form.EMAIL)
            for n, key in ((3, KEY_1), (4, KEY_2))
        ]
        assert found == [MAIL, *expected]


async def test_while_keys_of_a_new_policy_are_fetched_those_of_the_old_one_stay(tmp_path: Path) -> None:
    async with run_vault() as vault:
        for tenant in ("acme", "globex"):
            vault.put(f"gateway/{tenant}", key=KEY_1.hex())
        await asyncio.to_thread(_change_who_needs_a_key, tmp_path, vault)


def _change_who_needs_a_key(folder: Path, vault: VaultServer) -> None:
    config = vault_config(folder, vault)
    with run_gateway(folder, config) as gateway:
        gateway.extra["folder"] = folder
        vault.delay_s = 0.3
        config["tenants"]["globex"]["mask"] = config["tenants"]["acme"].pop("mask")
        with _load(gateway, "acme", "globex") as answers:
            _reload(gateway, config)
        assert set(answers) == {"OK"}
        for tenant in ("acme", "globex"):
            assert send(gateway, tenant).code == "OK"
        assert contacts(gateway, "acme")[-1] == MAIL
        assert contacts(gateway, "globex")[-1] == pseudonym(bytearray(KEY_1), 1, MAIL.encode(), Form.EMAIL)


def _reload(gateway: Gateway, config: dict[str, Any]) -> None:
    """Keeps the ports, which were chosen at the start."""
    gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    before = gateway.total("gateway_policy_generation")
    gateway.process.signal(signal.SIGHUP)
    wait_until(lambda: gateway.total("gateway_policy_generation") > before, "the reload")


def _forms(key: bytes) -> list[bytes]:
    """How a key might be written."""
    found = [key, key.hex().encode(), base64.b64encode(key).rstrip(b"="), base64.urlsafe_b64encode(key).rstrip(b"=")]
    return [*found, repr(key)[2:-1].encode()]


@pytest.mark.parametrize("shared", [True, False], ids=["derived", "of-its-own"])
async def test_no_key_is_shown_anywhere(tmp_path: Path, shared: bool) -> None:
    async with run_vault() as vault:
        vault.put("gateway/shared" if shared else "gateway/acme", key=KEY_1.hex())
        config = vault_config(tmp_path, vault)
        config["log"] = {"level": "debug"}
        config["pseudonym_keys"]["files"] = {"versions": [{"version": 1, "key": KEY_2.hex()}]}
        config["tenants"]["acme"]["mask"] = {**MASK, "pseudonym_key": "kv"}
        config["tenants"]["globex"]["mask"] = {**MASK, "pseudonym_key": "files"}
        if shared:
            config["pseudonym_keys"]["kv"]["vault_kv"]["path"] = "gateway/shared"
        shown = await asyncio.to_thread(_everything_shown, tmp_path, config)
    keys = [KEY_1, KEY_2, bytes(derive(bytearray(KEY_1), "acme")), bytes(derive(bytearray(KEY_2), "globex"))]
    for place, content in shown.items():
        assert content, place
        for key in keys:
            assert not any(form in content for form in _forms(key)), place


def _everything_shown(folder: Path, config: dict[str, Any]) -> dict[str, bytes]:
    with run_gateway(folder, config) as gateway:
        gateway.extra["folder"] = folder
        for tenant in ("acme", "globex"):
            assert send(gateway, tenant).code == "OK"
            assert contacts(gateway, tenant)[0].startswith("h1:")
        config["tenants"]["acme"]["mask"]["action"] = "redact"
        _reload(gateway, config)
        pages = {path: page_of(gateway, path)[1].encode() for path in ("/_metrics", "/-/ready", "/-/masking")}
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "-c", str(gateway.config_path)],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    files = [path for part in ("audit", "queue", "out") for path in (folder / part).rglob("*") if path.is_file()]
    return {
        **pages,
        "check": checked.stdout + checked.stderr,
        "log": (folder / "gateway.log").read_bytes(),
        **{str(path): path.read_bytes() for path in files if path.stat().st_size},
    }
