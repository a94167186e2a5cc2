"""What a person who writes a configuration is told."""

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.check import check, load_checked
from gateway.config.loader import load_text
from gateway.config.problems import ConfigError
from gateway.config.schema import json_schema
from gateway.daemon import try_policy
from tests.support.certificates import Authority

ROOT = Path(__file__).parents[2]
TENANT = "destinations: {d: {type: file, path: /tmp/x}}\ntenants: {acme: {}}\n"
LOKI = "tenants: {acme: {}}\ndestinations: {l: {type: loki, url: 'http://l/push', "
OTLP = "tenants: {acme: {}}\ndestinations: {j: {type: otlp, endpoint: 'http://j:4317', "
OIDC = TENANT + "identity: [{oidc: {audience: gateway, %s}}]"
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
    (TENANT + "identity: [{mtls: {}}]", "identity[0].mtls.tenant_from: it is missing"),
    (TENANT + "identity: [{}]", "identity[0]: name exactly one of api_key, oidc, mtls, trusted_header, anonymous"),
    (TENANT + "identity: [{oidc: {}}]", "identity[0].oidc.issuer: it is missing"),
    (OIDC % "issuer: http://sso.example/realms/a", "is not https, so anybody on the way could make tokens"),
    (OIDC % "issuer: https://sso.example, jwks_url: http://10.0.0.1/keys", "http://10.0.0.1/keys is not https"),
    (OIDC % "issuer: http://127.0.0.1.example/a", "is not https"),
    (OIDC % "issuer: https://user:secret@sso.example", "identity[0].oidc.issuer: write a URL"),
    (OIDC % "issuer: https://sso.example, algorithms: [none]", "algorithms[0]: must be one of 'RS256'"),
    (OIDC % "issuer: https://sso.example, algorithms: [HS256]", "algorithms[0]: must be one of 'RS256'"),
    (OIDC % "issuer: https://sso.example, algorithms: []", "algorithms: tuple should have at least 1 item"),
    (OIDC % "issuer: https://sso.example, tenant_pattern: '/tenants/.*'", "put the tenant's name, and nothing else"),
    (OIDC % "issuer: https://sso.example, tenant_pattern: '('", "it is not a regular expression: missing )"),
    (OIDC % "issuer: https://sso.example, scopes: {spans: x}", "scopes"),
    (OIDC % "issuer: https://sso.example, leeway: 1h", "leeway: input should be less than or equal to 300"),
    (OIDC % "issuer: https://sso.example, refresh: 2h, max_stale: 1h", "max_stale must be at least refresh"),
    (OIDC % "issuer: https://sso.example, ca_file: /no/such.crt", "oidc.ca_file: cannot read /no/such.crt"),
    (
        TENANT + "identity: [{oidc: {issuer: https://a.b, audience: x}}, {oidc: {issuer: https://a.b, audience: y}}]",
        "identity[1].oidc.issuer: this issuer stands here already",
    ),
    (TENANT + "identity: [{anonymous: {tenant: nobody}}]", "identity[0].anonymous.tenant: there is no tenant nobody"),
    (TENANT + "defaults: {routes: {traces: [x]}}", "defaults.routes.traces[0]: there is no destination x"),
    (TENANT + "defaults: {routes: {logs: [{to: x, when: {a: b}}]}}", "routes.logs[0]: there is no destination x"),
    (TENANT + "defaults: {routes: {logs: [{when: {a: b}}]}}", "defaults.routes.logs[0].to: it is missing"),
    (TENANT + "defaults: {routes: {logs: [{to: d, if: {a: b}}]}}", "defaults.routes.logs[0].if: unknown key"),
    (TENANT + "defaults: {routes: {logs: [7]}}", "defaults.routes.logs[0]: must be a mapping (key: value)"),
    (
        TENANT + "defaults: {routes: {logs: [{to: d, when: {team: '(shop'}}]}}",
        "defaults.routes.logs[0].when.team: missing ), unterminated subpattern at column 1; regexes are RE2, anchored",
    ),
    (
        TENANT + "defaults: {routes: {logs: [{to: d, unless: {team: 7}}]}}",
        "defaults.routes.logs[0].unless.team: must be text; put it in quotes",
    ),
    (
        TENANT + "defaults: {routes: {logs: [d, {to: d, when: {team: shop}}]}}",
        "defaults.routes.logs[1]: d stands here already; it would get items twice",
    ),
    (
        "destinations: {p: {type: remote_write, url: 'http://p/w'}}\ntenants: {a: {routes: {logs: [p]}}}",
        "tenants.a.routes.logs[0]: p is remote_write, which takes metrics only",
    ),
    (
        "destinations: {p: {type: remote_write, url: 'http://u:secret@p/w'}}\ntenants: {a: {}}",
        "credentials go into basic_auth or bearer_token",
    ),
    (
        LOKI + "basic_auth: {username: 'a:b', password: secret}}}",
        "username: a user name of basic authentication holds no",
    ),
    (
        LOKI + "headers: {x: 'a sécret'}}}",
        "destinations.l.headers.x: a header's value is one line of printable ASCII",
    ),
    (
        LOKI + 'bearer_token: "a secret\\n"}}',
        "destinations.l.bearer_token: a header's value is one line of printable ASCII",
    ),
    (LOKI + "headers: {'x y': secret}}}", "destinations.l.headers.x y: "),
    (
        LOKI + "stream_labels: [service, {label: service, attribute: app}]}}",
        "destinations.l: stream_labels names a label twice",
    ),
    (LOKI + "max_line_bytes: 100}}", "destinations.l.max_line_bytes: input should be greater than"),
    (LOKI + "long_lines: truncate}}", "destinations.l.long_lines: must be one of 'cut', 'split', 'drop'"),
    (LOKI + "tenant_header: 'x:'}}", "destinations.l.tenant_header: string should match pattern"),
    (
        OTLP + "tls: {insecure_skip_verify: true}}}",
        "destinations.j: gRPC verifies every certificate; name tls.ca_file, or use protocol: http",
    ),
    *(
        (f"tenants: {{a: {{}}}}\ndestinations: {{j: {{type: otlp, endpoint: '{url}'}}}}", f"destinations.j{expected}")
        for url, expected in {
            "http://j:4317/v1/traces": ": gRPC has no path: write http://j:4317, or use protocol: http",
            "https://j/otlp/": ": gRPC has no path: write https://j, or use protocol: http",
            "http://j:4317/?a=b": ": an OTLP endpoint has no ? and no #",
            "http://j:99999": ".endpoint: the URL's host or port is not usable",
            "http://j:port": ".endpoint: the URL's host or port is not usable",
            "http://j:0": ".endpoint: the URL's host or port is not usable",
            "http://[::1": ".endpoint: the URL's host or port is not usable",
            "http://j?a=b": ".endpoint: write a URL as http://HOST:PORT/PATH",
            "j:4317": ".endpoint: write a URL as http://HOST:PORT/PATH",
        }.items()
    ),
    (
        LOKI + "tenant_header: X-Scope-OrgID, headers: {x-scope-orgid: a}}}",
        "headers has X-Scope-OrgID, which tenant_header fills",
    ),
    (LOKI + "headers: {x-a: secret, X-A: secret}}}", "destinations.l: headers has a name twice"),
    (
        LOKI + "bearer_token: secret, headers: {Authorization: secret}}}",
        "headers has authorization beside bearer_token",
    ),
    (LOKI + "headers: {Content-Type: text/plain}}}", "destinations.l: the gateway sets the header content-type itself"),
    (OTLP + "tenant_header: grpc-timeout}}", "destinations.j: the gateway sets the header grpc-timeout itself"),
    (OTLP + "headers: {trace-bin: a}}}", "destinations.j: the gateway sets the header trace-bin itself"),
    (OTLP + "compression: zstd}}", "destinations.j: over gRPC, compression is none or gzip"),
    (
        OTLP + "bearer_token: a, basic_auth: {username: a, password: b}}}",
        "name one credential, not basic_auth and bearer_token",
    ),
    (OTLP + "shards: 65}}", "destinations.j.shards: input should be less than or equal to 64"),
    (LOKI + "shards: 0}}", "destinations.l.shards: input should be greater than or equal to 1"),
    (
        "tenants: {a: {}}\ndestinations: {d: {type: file, path: out, shards: 2}}",
        "destinations.d.shards: unknown key",
    ),
    (OTLP + "tls: {cert_file: a}}}", "destinations.j.tls: cert_file and key_file go together"),
    (TENANT + "listen: {max_inflight_bytes: 1MiB}", "max_inflight_bytes must be at least max_request_bytes"),
    (
        TENANT + "batch: {max_bytes: %s}" % ("9" * 400),
        "batch.max_bytes: write a value like 64MiB; this one is too large",
    ),
    (
        TENANT + "defaults: {quotas: {logs: {active_series: 5}}}",
        "defaults.quotas.logs.active_series: active_series is a quota of metrics",
    ),
    (TENANT + "defaults: {quotas: {logs: {burst: 5}}}", "defaults.quotas.logs.burst: burst needs items_per_second"),
    (
        TENANT + "defaults: {quotas: {traces: {burst_requests: 5}}}",
        "defaults.quotas.traces.burst_requests: burst_requests needs requests_per_second",
    ),
    (
        TENANT + "defaults: {quotas: {metrics: {items_per_second: 5, over_limit: downsample}}}",
        "defaults.quotas.metrics.over_limit: points cannot be downsampled: a sum would be wrong; use reject or trim",
    ),
    (
        TENANT + "defaults: {quotas: {logs: {burst_bytes: 5}}}",
        "defaults.quotas.logs.burst_bytes: burst_bytes needs bytes_per_second",
    ),
    (TENANT + "defaults: {relabel: {logs: [{action: lowercase}]}}", "action lowercase needs target_label"),
    (
        TENANT + "defaults: {relabel: {logs: [{action: labeldrop, regex: a, target_label: b}]}}",
        "action labeldrop takes regex only, not target_label",
    ),
    (
        TENANT + "defaults: {relabel: {logs: [{action: keepequal, target_label: b, regex: a}]}}",
        "action keepequal compares labels and takes no regex",
    ),
    (
        "destinations: {d: {type: file, path: /tmp/x}}\ntenants:\n  a: {api_keys: [{id: k, sha256: &h '%s'}]}\n"
        "  b: {api_keys: [{id: k, sha256: *h}]}" % ("a" * 64),
        "tenants.b.api_keys[0].sha256: key k of a has the same hash; every key is one tenant's",
    ),
    ("destinations: {l: {type: loci, url: x}}\ntenants: {a: {}}", "destinations.l: unknown type; one of"),
    ("destinations: {l: {url: x}}\ntenants: {a: {}}", "destinations.l: type is missing: one of"),
    ("destinations: {l: {type: loki}}\ntenants: {a: {}}", "gateway.yaml:1:16 destinations.l.url: it is missing"),
    ("tenants: {a: {}}", "gateway.yaml:1:1 destinations: it is missing"),
    ("destinations: [a]\ntenants: {a: {}}", "destinations: must be a mapping (key: value)"),
    (TENANT + "admin: {tokens: 5}", "admin.tokens: must be a list"),
    (TENANT + "admin: {tokens: [{name: a, token: 5}]}", "admin.tokens[0].token: must be text; put it in quotes"),
    (TENANT + "queue: {ack: never}", "queue.ack: must be one of 'durable', 'memory'"),
    ("destinations: {d: {type: file, path: x}}\ntenants: {'a|b': {}}", "a tenant's name is 1 to 150 of the characters"),
    (TENANT + "defaults: {sample: {traces: {ratio: 2}}}", "defaults.sample.traces.ratio: input should be less than"),
    (TENANT + "defaults: {relabel: {logs: [{action: hashmod, target_label: x}]}}", "hashmod needs a modulus above 0"),
    (TENANT + "admin: {tokens: [{name: x, token: '${env:NO_SUCH_VARIABLE}'}]}", "NO_SUCH_VARIABLE is not set"),
    (TENANT + "listen: {tls: {cert_file: a, key_file: b, client_auth: request}}", "client_auth is about client"),
    (TENANT + "listen: {tls: {cert_file: a, key_file: b, crl_file: c}}", "tls: crl_file is about client certificates"),
    (TENANT + "identity: [{mtls: {tenant_from: san_uri}}]", "identity[0].mtls: tenant_from: san_uri needs a pattern"),
    (TENANT + "identity: [{mtls: {tenant_from: cn}}]", "identity[0].mtls.tenant_from: must be one of 'san_uri'"),
    (TENANT + "identity: [{mtls: {tenant_from: san_dns}}]", "identity[0].mtls: clients are not asked"),
    (TENANT + "identity: [{}]", "identity[0]: name exactly one of api_key, oidc, mtls, trusted_header, anonymous"),
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


OPEN = TENANT + "admin: {tokens: [{name: a, token: a}]}\n"
WARNINGS = [
    (OPEN, None),
    (TENANT, "no credential is configured, so /_metrics refuses everybody; add admin.tokens"),
    (
        TENANT + "admin: {tokens: [{name: a, token: ''}]}",
        "its credential is empty, so /_metrics refuses everybody; set",
    ),
    (OPEN + "identity: [{anonymous: {tenant: acme}}]", None),
    (OPEN + "listen: {grpc: 'localhost:1', http: '[::1]:2'}\nidentity: [{anonymous: {tenant: acme}}]", None),
    (
        OPEN + "listen: {grpc: '0.0.0.0:1'}\nidentity: [{anonymous: {tenant: acme}}]",
        "identity[0].anonymous: whoever reaches listen.grpc is tenant acme; listen on loopback or ask for keys",
    ),
    (
        OPEN + "listen: {grpc: '[::]:1', http: 'gateway:2'}\nidentity: [{anonymous: {tenant: acme}}]",
        "identity[0].anonymous: whoever reaches listen.grpc and listen.http is tenant acme",
    ),
    (
        TENANT + "admin: {tokens: [{name: a, token: a, tenant: acmee}]}",
        "admin.tokens[0].tenant: there is no tenant acmee; this credential sees nothing",
    ),
    (
        TENANT + "admin: {basic: [{name: a, password: a, tenant: acmee}]}",
        "admin.basic[0].tenant: there is no tenant acmee; this credential sees nothing",
    ),
    (
        LOKI + "tls: {insecure_skip_verify: true}}}\nadmin: {tokens: [{name: a, token: a}]}",
        "destinations.l.tls.insecure_skip_verify: whoever answers is believed; name tls.ca_file instead",
    ),
]


@pytest.mark.parametrize(("text", "warning"), WARNINGS)
def test_what_is_allowed_but_dangerous_is_a_warning(text: str, warning: str | None) -> None:
    found = list(check(load_text(text, FILE)))
    assert len(found) == (0 if warning is None else 1), found
    assert warning is None or (found[0].severity, warning in str(found[0])) == ("warning", True)


def test_a_variable_that_is_not_set_is_one_problem() -> None:
    (found,) = problems(
        TENANT.replace("{acme: {}}", "{acme: {api_keys: [{id: k, sha256: '${env:NO_SUCH_VARIABLE}'}]}}")
    )
    assert "the environment variable NO_SUCH_VARIABLE is not set" in found


TLS_FILES = [
    ("{cert_file: a.crt, key_file: a.key, client_ca_file: authority.crt}", None),
    ("{cert_file: no.crt, key_file: a.key}", "listen.tls.cert_file: cannot read no.crt: No such file or directory"),
    ("{cert_file: a.crt, key_file: no.key}", "listen.tls.key_file: cannot read no.key: No such file or directory"),
    ("{cert_file: a.crt, key_file: b.key}", "a.crt and b.key are not a certificate and its unencrypted key"),
    ("{cert_file: a.key, key_file: a.crt}", "a.key and a.crt are not a certificate and its unencrypted key"),
    ("{cert_file: a.crt, key_file: locked.key}", "a.crt and locked.key are not a certificate and its unencrypted key"),
    ("{cert_file: a.crt, key_file: a.key, client_ca_file: a.key}", "tls.client_ca_file: a.key holds no CA certificate"),
    ("{cert_file: a.crt, key_file: a.key, client_ca_file: authority.crt, crl_file: authority.crl}", None),
    (
        "{cert_file: a.crt, key_file: a.key, client_ca_file: authority.crt, crl_file: a.crt}",
        "listen.tls.crl_file: a.crt holds no CRL",
    ),
    (
        "{cert_file: a.crt, key_file: a.key, client_ca_file: authority.crt, crl_file: no.crl}",
        "listen.tls.crl_file: cannot read no.crl: No such file or directory",
    ),
    ("{cert_file: a.crt, key_file: a.key, client_ca_file: no}", "tls.client_ca_file: cannot read no: No such file"),
]


@pytest.mark.parametrize(("tls", "expected"), TLS_FILES)
def test_certificates_are_read_before_anything_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: str, expected: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path)
    issued = authority.issue("a")
    authority.issue("b")
    (tmp_path / "authority.crl").write_bytes(authority.revocation_list())
    (tmp_path / "locked.key").write_bytes(locked(issued.key_file))
    found = problems(TENANT + "admin: {tokens: [{name: a, token: a}]}\nlisten: {tls: " + tls + "}")
    assert len(found) == (0 if expected is None else 1), found
    assert expected is None or expected in found[0]


def locked(key_file: Path) -> bytes:
    """The key, with a passphrase."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


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


@pytest.mark.parametrize(
    "issuer",
    ["issuer: https://sso.example/realms/a", "issuer: http://127.0.0.1:8080/realms/a", "issuer: http://localhost",
     "issuer: 'http://[::1]:8080/a'", "issuer: http://sso.example, allow_http: true"],
)  # fmt: skip
def test_keys_come_over_tls_unless_they_need_not(issuer: str) -> None:
    assert problems(OIDC % issuer) == problems(TENANT)


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


SHIPPED = sorted(path.name for path in (ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_passes_without_a_warning(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "config" / name).read_text()
    for number, variable in enumerate(sorted(set(re.findall(r"\$\{env:(\w+)", text)))):
        monkeypatch.setenv(variable, f"{number:064x}")
    monkeypatch.chdir(tmp_path)
    authority = Authority(tmp_path)
    issued = authority.issue("gateway")
    for machine, here in {
        "/etc/gateway/tls/tls.crt": issued.cert_file,
        "/etc/gateway/tls/tls.key": issued.key_file,
        "/etc/gateway/tls/ca.crt": authority.file,
        "/var/lib/gateway": tmp_path,
    }.items():
        text = text.replace(machine, str(here))
    path = tmp_path / name
    path.write_text(text)
    _, warnings = load_checked(path, try_policy)
    assert not warnings


def test_a_configuration_stands_for_each_deployment_form() -> None:
    assert {"gateway.yaml", "sidecar.yaml", "daemonset.yaml", "central.yaml", "container.yaml"} <= set(SHIPPED)


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "config" / "schema.json").read_text() == json_schema(), "run: gateway schema > config/schema.json"
