"""What is recorded: who, when, under which policy; edges and not every occurrence; never a secret."""

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.audit.audit import Audit, AuditError
from gateway.audit.changes import changes
from gateway.audit.edges import Changes, FirstSeen
from gateway.audit.keys import generate
from gateway.audit.trail import trail_files
from gateway.audit.verify import verify
from gateway.cli import app
from gateway.config.check import check
from gateway.config.loader import load_text
from gateway.config.models import Audit as AuditConfig
from gateway.config.models import Config
from gateway.types import Signal

FILE = Path("gateway.yaml")
BASE = """
admin: {tokens: [{name: ops, token: SECRET-A}], basic: [{name: joe, password: SECRET-B}]}
destinations:
  d: {type: file, path: /tmp/x}
  p: {type: remote_write, url: "http://prom:9090/hook/SECRET-C?token=SECRET-D", headers: {x-key: SECRET-E}}
  o: {type: otlp, endpoint: "http://jaeger:4317", bearer_token: SECRET-F}
defaults: {routes: {traces: [d]}, mask: {keys: [a], rules: [{name: r, words: [SECRET-W, bb]}]},
  quotas: {logs: {items_per_second: 5}}}
tenants: {acme: {api_keys: [{id: k1, sha256: %s}]}, routes: {}}
""" % ("a" * 64)


def config(text: str = BASE) -> Config:
    return load_text(text, FILE).config


CHANGED = [
    ("items_per_second: 5", "items_per_second: 50", [{"path": "defaults.quotas.logs.items_per_second",
                                                       "change": "changed", "from": 5.0, "to": 50.0}]),
    ("SECRET-A", "SECRET-G", [{"path": "admin.tokens[ops].token", "change": "changed"}]),
    ("SECRET-B", "SECRET-G", [{"path": "admin.basic[joe].password", "change": "changed"}]),
    ("SECRET-C", "SECRET-G", [{"path": "destinations.p.url", "change": "changed"}]),
    ("prom:9090", "other:9090", [{"path": "destinations.p.url", "change": "changed",
                                  "from": "http://prom:9090", "to": "http://other:9090"}]),
    ("SECRET-E", "SECRET-G", [{"path": "destinations.p.headers.x-key", "change": "changed"}]),
    ("bearer_token: SECRET-F", "compression: gzip", [
        {"path": "destinations.o.bearer_token", "change": "removed"},
        {"path": "destinations.o.compression", "change": "changed", "from": "none", "to": "gzip"}]),
    ("traces: [d]", "traces: [d, o]", [{"path": "defaults.routes.traces[1]", "change": "added", "value": "o"}]),
    ("traces: [d]", "traces: [o]",
     [{"path": "defaults.routes.traces[0]", "change": "changed", "from": "d", "to": "o"}]),
    ("traces: [d]", "traces: [{to: d, when: {a: SECRET-G}}]",
     [{"path": "defaults.routes.traces[0]", "change": "changed"}]),
    ("traces: [d]", "traces: [d, {to: o, unless: {a: SECRET-G}}]",
     [{"path": "defaults.routes.traces[1]", "change": "added"}]),
    ("routes: {}}", "routes: {api_keys: [{id: k9, sha256: %s}]}}" % ("b" * 64),
     [{"path": "tenants.routes.api_keys[k9]", "change": "added"}]),
    ("a" * 64, "c" * 64, [{"path": "tenants.acme.api_keys[k1].sha256", "change": "changed"}]),
    ("id: k1", "id: k2", [{"path": "tenants.acme.api_keys[k1]", "change": "removed"},
                          {"path": "tenants.acme.api_keys[k2]", "change": "added"}]),
    ("keys: [a]", "keys: [SECRET-G]", [{"path": "defaults.mask.keys[0]", "change": "changed"}]),
    ("SECRET-W", "SECRET-G", [{"path": "defaults.mask.rules[r].words[0]", "change": "changed"}]),
    ("words: [SECRET-W, bb]", "regex: SECRET-G.*", [{"path": "defaults.mask.rules[r].regex", "change": "added"},
                                                    {"path": "defaults.mask.rules[r].words", "change": "removed"}]),
    ("tenants: {acme", "tenants: {globex: {disabled: true}, acme", [{"path": "tenants.globex", "change": "added"}]),
    ("traces: [d]", "traces: [d]", []),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), CHANGED)
def test_a_reload_says_which_keys_changed_and_never_a_secret(
    old: str, new: str, expected: list[dict[str, Any]]
) -> None:
    assert old in BASE
    found = changes(config(), config(BASE.replace(old, new)))
    assert found == expected
    assert "SECRET" not in json.dumps(found)


class Recorded:
    """An audit that writes to a folder, and what stands in it after a stop."""

    def __init__(self, folder: Path) -> None:
        generate(folder / "key")
        settings = AuditConfig(dir=folder / "trail", key_file=folder / "key")
        self.folder = folder / "trail"
        self.generation = 1
        self.audit = Audit.open(settings, lambda: self.generation)

    def lines(self) -> list[dict[str, Any]]:
        """What was recorded; anchors are left out."""
        asyncio.run(self.audit.close())
        report = verify(self.folder)
        assert report.broken is None
        found = [json.loads(line) for file in trail_files(self.folder) for line in file.path.read_bytes().splitlines()]
        return [line for line in found if line["event"] != "anchor"]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_every_kind_of_event_has_its_line(recorded: Recorded) -> None:
    audit, old = recorded.audit, config()
    audit.started("1.0", old)
    recorded.generation = 2
    audit.reloaded("ops", old, config(BASE.replace("SECRET-A", "SECRET-G")))
    audit.reload_refused("SIGHUP", ["gateway.yaml:1:1 listn: unknown key"])
    audit.admin_access("ops", None, "127.0.0.1", "/_metrics")
    audit.admin_denied("10.0.0.9", "/-/reload", limited=False)
    audit.identity_refused("unknown_credential", address="10.0.0.9", transport="grpc")
    audit.key_first_used("acme", "k1")
    audit.quota_verdict("acme", Signal.LOGS, "items_per_second", "over")
    audit.tenant_claims("acme", Signal.TRACES, "overwrite")
    audit.pseudonym_keys([("main", "acme", 1), ("main", "acme", 2)])
    audit.stopped("SIGTERM")
    found = [(line["event"], line["actor"], line["tenant"], line["generation"]) for line in recorded.lines()]
    assert found == [
        ("start", "gateway", None, 1),
        ("reload", "ops", None, 2),
        ("reload_refused", "SIGHUP", None, 2),
        ("admin_access", "ops", None, 2),
        ("admin_denied", "10.0.0.9", None, 2),
        ("identity_refused", "10.0.0.9", None, 2),
        ("key_first_used", "key k1", "acme", 2),
        ("quota_verdict", "gateway", "acme", 2),
        ("tenant_claims", "tenant acme", "acme", 2),
        ("pseudonym_key", "gateway", None, 2),
        ("stop", "SIGTERM", None, 2),
    ]


def test_pseudonym_keys_are_recorded_when_a_version_or_the_number_of_tenants_changes(recorded: Recorded) -> None:
    in_use = [("main", "acme", 1), ("main", "globex", 1), ("other", "acme", 7)]
    for keys in (in_use, in_use, [*in_use, ("main", "acme", 2)], in_use[1:]):
        recorded.audit.pseudonym_keys(keys)
    assert [line["details"] for line in recorded.lines()] == [
        {"key": "main", "tenants": 2, "newest_version": 1},
        {"key": "other", "tenants": 1, "newest_version": 7},
        {"key": "main", "tenants": 2, "newest_version": 2},
        {"key": "main", "tenants": 1, "newest_version": 1},
    ]


def test_edges_are_recorded_and_the_rest_is_counted(recorded: Recorded) -> None:
    audit = recorded.audit
    for _ in range(100):
        audit.admin_access("ops", None, "127.0.0.1", "/_metrics")
        audit.admin_denied("10.0.0.9", "/_metrics", limited=False)
        audit.identity_refused("unknown_credential", address="10.0.0.9", transport="http")
        audit.key_first_used("acme", "k1")
        audit.tenant_claims("acme", Signal.LOGS, "refuse")
    for verdict in ("within", "over", "over", "within", "within", "over"):
        audit.quota_verdict("acme", Signal.LOGS, "items_per_second", verdict)
    audit.admin_denied("10.0.0.10", "/_metrics", limited=False)
    audit.stopped("SIGTERM")
    lines = recorded.lines()
    kinds = [line["event"] for line in lines]
    for kind in ("admin_access", "identity_refused", "key_first_used", "tenant_claims"):
        assert kinds.count(kind) == 1, kind
    verdicts = [line["details"]["verdict"] for line in lines if line["event"] == "quota_verdict"]
    assert verdicts == ["over", "within", "over"]
    assert [line["details"]["not_shown"] for line in lines if line["event"] == "admin_denied"] == [0, 99]


def test_a_storm_from_many_addresses_is_a_bounded_number_of_lines() -> None:
    now = [0.0]
    edge = FirstSeen(60.0, most=60, max_keys=100, clock=lambda: now[0])
    assert sum(edge.passes(f"10.0.{number // 250}.{number % 250}") for number in range(5000)) == 60
    assert edge.take_held_back() == 4940
    now[0] = 61.0
    assert edge.passes("10.0.0.0")
    assert not edge.passes("10.0.0.0")
    assert edge.take_held_back() == 1


def test_a_change_of_state_passes_and_its_memory_is_bounded() -> None:
    edge = Changes("within", max_keys=2)
    assert not edge.passes("a", "within")
    assert [edge.passes("a", state) for state in ("over", "over", "within")] == [True, False, True]
    assert all(edge.passes(key, "over") for key in "abc")
    assert edge.passes("a", "over"), "it was forgotten, so it is said once more"


def test_without_a_section_nothing_is_recorded_and_nothing_fails() -> None:
    audit = Audit.open(None, lambda: 1)
    audit.started("1.0", config())
    asyncio.run(audit.close())
    assert audit.stats() is None


def test_two_gateways_cannot_write_one_trail(recorded: Recorded, tmp_path: Path) -> None:
    settings = AuditConfig(dir=tmp_path / "trail", key_file=tmp_path / "key")
    with pytest.raises(AuditError, match="another gateway writes the audit trail"):
        Audit.open(settings, lambda: 1)
    recorded.lines()


def test_keygen_writes_a_pair_with_the_right_modes_and_overwrites_nothing(tmp_path: Path) -> None:
    run = CliRunner()
    old_mask = os.umask(0)
    try:
        assert run.invoke(app, ["audit", "keygen", str(tmp_path / "audit.key")]).exit_code == 0
    finally:
        os.umask(old_mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"audit.key": 0o600, "audit.key.pub": 0o644}
    content = {name: (tmp_path / name).read_bytes() for name in modes}
    for gone in (None, *modes):
        for name, pem in content.items():
            (tmp_path / name).write_bytes(pem)
        if gone is not None:
            (tmp_path / gone).unlink()
        again = run.invoke(app, ["audit", "keygen", str(tmp_path / "audit.key")])
        left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert (again.exit_code, left) == (2, {name: pem for name, pem in content.items() if name != gone})
        assert "exists; name another file" in again.stderr


def test_the_command_proves_a_trail_or_names_the_broken_line(recorded: Recorded, tmp_path: Path) -> None:
    recorded.audit.started("1.0", config())
    recorded.lines()
    run = CliRunner()
    command = ["audit", "verify", str(recorded.folder), "--public-key", str(tmp_path / "key.pub")]
    proved = run.invoke(app, command)
    assert proved.exit_code == 0, proved.stderr
    assert "4 lines in 1 files" in proved.stdout
    (file,) = trail_files(recorded.folder)
    file.path.write_bytes(file.path.read_bytes().replace(b'"tenants":2', b'"tenants":3'))
    refused = run.invoke(app, command)
    assert refused.exit_code == 1
    assert f"{file.path}:3: its hash is not that of its content" in refused.stderr
    assert run.invoke(app, ["audit", "verify", str(tmp_path / "nowhere")]).exit_code == 1
    assert run.invoke(app, ["audit", "verify", str(recorded.folder), "--public-key", str(FILE)]).exit_code == 2


BAD = {
    "no key": ("/no/such.key", "audit.key_file: cannot read /no/such.key: No such file or directory"),
    "not a key": ("/etc/hostname", "holds no unencrypted Ed25519 private key; `gateway audit keygen` makes one"),
}


@pytest.mark.parametrize(("key_file", "message"), BAD.values(), ids=BAD)
def test_check_names_a_key_that_cannot_sign(tmp_path: Path, key_file: str, message: str) -> None:
    text = f"{BASE}audit: {{dir: {tmp_path}, key_file: {key_file}}}\n"
    assert any(message in str(problem) for problem in check(load_text(text, FILE)))


def test_check_warns_of_a_key_that_everybody_may_read(tmp_path: Path) -> None:
    generate(tmp_path / "key")
    text = f"{BASE}audit: {{dir: {tmp_path}, key_file: {tmp_path}/key}}\n"
    assert not any("chmod 600" in str(problem) for problem in check(load_text(text, FILE)))
    (tmp_path / "key").chmod(0o644)
    assert any("chmod 600" in str(problem) for problem in check(load_text(text, FILE)))
