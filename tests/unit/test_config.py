"""What a person who writes a configuration is told."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.check import check, load_checked
from gateway.config.loader import load_text
from gateway.config.problems import ConfigError
from gateway.config.schema import json_schema
from gateway.daemon import try_policy

ROOT = Path(__file__).parents[2]
TENANT = "destinations: {d: {type: file, path: /tmp/x}}\ntenants: {acme: {}}\n"
FILE = Path("gateway.yaml")


def problems(text: str) -> list[str]:
    """Every problem, errors and warnings, of a configuration."""
    try:
        loaded = load_text(text, FILE)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in check(loaded)]


BAD = [
    ("", "gateway.yaml:1:1: it is empty"),
    ("a: [", "did not find expected node content"),
    (TENANT + "listn: {}", "gateway.yaml:3:1 listn: unknown key; did you mean listen?"),
    (TENANT + "batch: {max_age: 3 parsecs}", "batch.max_age: write a value like 200ms, 5s or 1m"),
    (TENANT + "batch: {}\nbatch: {}", "gateway.yaml:4:1 batch: key 'batch' stands here again"),
    (TENANT + "identity: [{oidc: {}}]", "identity[0].oidc: OIDC comes with a later release"),
    (TENANT + "identity: [{anonymous: {tenant: nobody}}]", "identity[0].anonymous.tenant: there is no tenant nobody"),
    (TENANT + "defaults: {routes: {traces: [x]}}", "defaults.routes.traces[0]: there is no destination x"),
    (
        "destinations: {p: {type: remote_write, url: 'http://p/w'}}\ntenants: {a: {routes: {logs: [p]}}}",
        "tenants.a.routes.logs[0]: p is remote_write, which takes metrics only",
    ),
    (
        "destinations: {p: {type: remote_write, url: 'http://u:secret@p/w'}}\ntenants: {a: {}}",
        "credentials go into basic_auth or bearer_token",
    ),
    (TENANT + "defaults: {sample: {traces: {ratio: 2}}}", "defaults.sample.traces.ratio: input should be less than"),
    (TENANT + "defaults: {relabel: {logs: [{action: hashmod, target_label: x}]}}", "hashmod needs a modulus above 0"),
    (TENANT + "admin: {tokens: [{name: x, token: '${env:NO_SUCH_VARIABLE}'}]}", "NO_SUCH_VARIABLE is not set"),
    (TENANT + "audit: {dir: /tmp}", "audit.key_file: it is missing"),
    (TENANT + "usage: {path: /tmp}", "usage.path: /tmp is a folder; name a file in it"),
    (TENANT + "usage: {path: /etc/passwd/usage.db}", "usage.path: cannot write to /etc/passwd"),
    (TENANT + "usage: {path: u.db, prices: {logs: {per_gb: -1}}}", "usage.prices.logs.per_gb: input should be greater"),
    (TENANT + "listen: {grpc: '127.0.0.1:1', http: '127.0.0.1:1'}", "listen.grpc listens on 127.0.0.1:1 already"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_each_mistake_is_named_with_its_place(text: str, expected: str) -> None:
    found = problems(text)
    assert any(expected in problem for problem in found), found
    assert not any("secret" in problem for problem in found)


def test_values_mean_what_they_say() -> None:
    text = """
destinations: {d: {type: file, path: /tmp/x, max_bytes: 10MiB}}
tenants:
  no: {api_keys: [{id: 012, sha256: "%s"}]}
queue: {max_bytes: 2GiB}
batch: {max_age: 250ms}
""" % ("a" * 64)
    config = load_text(text, FILE).config
    assert list(config.tenants) == ["no"]
    assert config.tenants["no"].api_keys[0].id == "012"
    assert config.queue.max_bytes == 2 << 30
    assert config.batch.max_age == 0.25


def test_substitution_fills_scalars_and_shows_in_no_repr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "hush: {not: yaml}")
    (tmp_path / "token").write_text("from-a-file\n")
    text = TENANT + "admin: {tokens: [{name: a, token: '${env:TOKEN_OF_TEST}'}, {name: b, token: '${file:token}'}]}"
    config = load_text(text, tmp_path / "gateway.yaml").config
    tokens = [token.token.get_secret_value() for token in config.admin.tokens]
    assert tokens == ["hush: {not: yaml}", "from-a-file"]
    assert "hush" not in repr(config)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_configuration_or_a_list_of_problems(text: str) -> None:
    assert isinstance(problems(text), list)


@pytest.mark.parametrize("name", ["gateway.yaml", "production.yaml"])
def test_every_shipped_configuration_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "x")
    monkeypatch.setenv("ACME_KEY_SHA256", "a" * 64)
    monkeypatch.setenv("GLOBEX_KEY_SHA256", "b" * 64)
    text = (
        (ROOT / "config" / name)
        .read_text()
        .replace("/etc/gateway/tls", str(tmp_path))
        .replace("/var/lib", str(tmp_path))
    )
    text = text.replace(f"  tls: {{cert_file: {tmp_path}/tls.crt, key_file: {tmp_path}/tls.key}}\n", "")
    path = tmp_path / name
    path.write_text(text)
    load_checked(path, try_policy)


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "config" / "schema.json").read_text() == json_schema(), "run: gateway schema > config/schema.json"
