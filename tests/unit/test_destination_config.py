"""What a configuration may say of destinations' credentials and TLS, and what is said of its mistakes."""

import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from gateway.config.check import check
from gateway.config.destinations import Destination
from gateway.config.loader import load_text
from gateway.config.problems import ConfigError

FILE = Path("gateway.yaml")
BASE = "tenants: {acme: {}}\nadmin: {tokens: [{name: a, token: a}]}\ndestinations:\n  d: {"
HTTPS = "type: remote_write, url: 'https://d/push', "
HTTP = "type: remote_write, url: 'http://d/push', "
GRPC = "type: otlp, endpoint: 'https://d:4317', "
OAUTH2 = "token_url: 'https://sso/token', client_id: gateway"


def problems(destination: str) -> list[str]:
    try:
        loaded = load_text(BASE + destination + "}", FILE)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return [f"{problem.severity}: {problem}" for problem in check(loaded)]


BAD = [
    (
        HTTPS + "bearer_token: secret, bearer_token_file: f",
        "name one credential, not bearer_token and bearer_token_file",
    ),
    (HTTPS + "sigv4: {region: eu-west-1}, bearer_token: secret", "name one credential, not bearer_token and sigv4"),
    (HTTPS + "bearer_token_file: f, headers: {authorization: secret}", "authorization beside bearer_token_file"),
    (HTTPS + "basic_auth: {username: u}", "basic_auth: name password or password_file, one of them"),
    (HTTPS + "basic_auth: {username: u, password: secret, password_file: f}", "basic_auth: name password or password"),
    (HTTPS + f"oauth2: {{{OAUTH2}}}", "oauth2: name client_secret or client_secret_file, one of them"),
    (HTTPS + f"oauth2: {{{OAUTH2}, client_secret: secret, client_secret_file: f}}", "oauth2: name client_secret or"),
    (HTTPS + f"oauth2: {{{OAUTH2}, client_secret: secret, scopes: ['a b']}}", "oauth2.scopes[0]: string should match"),
    (
        HTTPS + f"oauth2: {{{OAUTH2}, client_secret: secret, endpoint_params: {{scope: x}}}}",
        "oauth2: endpoint_params has scope, which has a key of its own",
    ),
    (
        HTTPS + f"oauth2: {{{OAUTH2}, client_secret: secret, audience: a, endpoint_params: {{audience: x}}}}",
        "oauth2: endpoint_params has audience, which has a key of its own",
    ),
    (HTTPS + "sigv4: {}", "sigv4.region: it is missing"),
    (HTTPS + "sigv4: {region: 'eu west'}", "sigv4.region: string should match"),
    (GRPC + "sigv4: {region: eu-west-1}", "sigv4 signs requests over HTTP; use protocol: http"),
    (HTTPS + "tls: {server_name: 'a b'}", "tls.server_name: string should match"),
    (
        HTTPS + f"oauth2: {{{OAUTH2}, client_secret: secret, tls: {{ca_file: no.crt}}}}",
        "error: gateway.yaml:4:140 destinations.d.oauth2.tls.ca_file: cannot read no.crt: No such file or directory",
    ),
    (HTTP + "bearer_token: secret", "warning: gateway.yaml:4:27 destinations.d.url: bearer_token travels without TLS"),
    (
        "type: otlp, endpoint: 'http://10.0.0.1:4317', basic_auth: {username: u, password: secret}",
        "destinations.d.endpoint: basic_auth travels without TLS; whoever is on the way has it; use https",
    ),
    (
        HTTPS + "oauth2: {token_url: 'http://sso/token', client_id: g, client_secret: secret}",
        "destinations.d.oauth2.token_url: the client's secret travels without TLS",
    ),
    (
        HTTPS + "bearer_token_file: /no/such/file",
        "warning: gateway.yaml:4:50 destinations.d.bearer_token_file: cannot read /no/such/file yet: No such file",
    ),
    (HTTPS + "basic_auth: {username: u, password_file: /dev/null}", "/dev/null is empty; the destination waits until"),
    (HTTPS + f"oauth2: {{{OAUTH2}, client_secret_file: /no/file}}", "oauth2.client_secret_file: cannot read /no/file"),
    (HTTPS + "bearer_token_file: /etc/passwd", "everybody may read /etc/passwd; chmod 600 it"),
]


@pytest.mark.parametrize(("destination", "expected"), BAD)
def test_each_mistake_is_named_with_its_place(destination: str, expected: str) -> None:
    found = problems(destination)
    assert any(expected in problem for problem in found), found
    assert not any("secret" in problem.replace("client_secret", "").replace("client's secret", "") for problem in found)


GOOD = [
    HTTPS + "bearer_token: secret",
    "type: loki, url: 'http://127.0.0.1:3100/push', bearer_token: secret",
    "type: otlp, endpoint: 'http://localhost:4317', basic_auth: {username: u, password: secret}",
    HTTPS + f"oauth2: {{{OAUTH2}, client_secret: secret, scopes: [a, b], audience: x, client_auth: body}}",
    GRPC + f"oauth2: {{{OAUTH2}, client_secret: secret, endpoint_params: {{resource: x}}}}",
    HTTPS + "sigv4: {region: eu-west-1, service: aps, profile: p}",
    HTTPS + "tls: {server_name: backend.example}",
]


@pytest.mark.parametrize("destination", GOOD)
def test_what_is_right_is_no_problem(destination: str) -> None:
    assert problems(destination) == []


def test_sigv4_without_its_library_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    (found,) = problems(HTTPS + "sigv4: {region: eu-west-1}")
    assert found.startswith("error: ")
    assert found.endswith(
        "destinations.d.sigv4: the library that signs is not installed: pip install 'telemetry-gateway[aws]'"
    )


def test_no_secret_shows_in_a_repr() -> None:
    settings = {
        "type": "loki",
        "url": "https://d/push",
        "oauth2": {
            "token_url": "https://sso/token",
            "client_id": "gateway",
            "client_secret": "hush",
            "endpoint_params": {"resource": "hush"},
        },
    }
    assert "hush" not in repr(TypeAdapter(Destination).validate_python(settings))
