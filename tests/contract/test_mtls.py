"""Identity by client certificate: which names make a tenant, and what a certificate that names none is answered."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import bearer
from tests.support.gateway import run_gateway, start_and_fail
from tests.support.payloads import traces
from tests.support.tls_clients import Client, Deployment, GrpcClient, HandshakeRefusedError, HttpClient

SPAN = traces().SerializeToString()
CLIENTS = [pytest.param(GrpcClient, id="grpc"), pytest.param(HttpClient, id="http")]
SPIFFE = {"mtls": {"tenant_from": "san_uri", "pattern": "spiffe://example.org/tenant/([^/]+)(?:/.*)?"}}
DNS = {"mtls": {"tenant_from": "san_dns", "pattern": r"([^.]+)\.clients\.example"}}
COMMON_NAME = {"mtls": {"tenant_from": "common_name", "pattern": "tenant (.+)"}}
API_KEY = {"api_key": {"header": "authorization", "scheme": "Bearer"}}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Every client must show a certificate, and is known by nothing else."""
    deployment = Deployment(tmp_path_factory.mktemp("strict"))
    with run_gateway(deployment.folder, deployment.config(SPIFFE, DNS, COMMON_NAME)) as gateway:
        deployment.gateway = gateway
        yield deployment
        assert gateway.unaccounted() == 0


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A certificate, or an API key, or both."""
    deployment = Deployment(tmp_path_factory.mktemp("mixed"))
    with run_gateway(deployment.folder, deployment.config(SPIFFE, API_KEY, client_auth="request")) as gateway:
        deployment.gateway = gateway
        yield deployment
        assert gateway.unaccounted() == 0


NAMES = {
    "a SPIFFE id": ({"uris": ["spiffe://example.org/tenant/acme"]}, "acme"),
    "a SPIFFE id with a workload": ({"uris": ["spiffe://example.org/tenant/globex/ns/shop"]}, "globex"),
    "a DNS name": ({"dns_names": ["localhost", "acme.clients.example"]}, "acme"),
    "a common name": ({"common_name": "tenant globex"}, "globex"),
    "two names of one tenant": (
        {"uris": ["spiffe://example.org/tenant/acme"], "common_name": "tenant acme"},
        "acme",
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(("names", "tenant"), NAMES.values(), ids=NAMES)
def test_a_name_of_the_certificate_is_the_tenant(
    strict: Deployment, kind: type[Client], names: dict[str, Any], tenant: str
) -> None:
    before = strict.accepted(tenant)
    with strict.client(kind, strict.clients.issue("named", **names)) as client:
        assert client.send(SPAN).code == "OK"
        # The tenant is the certificate's, whatever headers say.
        assert client.send(SPAN, {"x-scope-orgid": "other", **bearer("globex-key")}).code == "OK"
    assert strict.accepted(tenant) == before + 2


NOBODY = {
    "no tenant's name": ({"uris": ["spiffe://other.org/tenant/acme"]}, "certificate_without_tenant"),
    "a longer name": ({"dns_names": ["acme.clients.example.evil.example"]}, "certificate_without_tenant"),
    "a tenant that does not exist": ({"common_name": "tenant initech"}, "certificate_of_unknown_tenant"),
    "two tenants in one form": (
        {"dns_names": ["acme.clients.example", "globex.clients.example"]},
        "certificate_of_several_tenants",
    ),
    "two tenants in two forms": (
        {"uris": ["spiffe://example.org/tenant/acme"], "common_name": "tenant globex"},
        "certificate_of_several_tenants",
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(("names", "reason"), NOBODY.values(), ids=NOBODY)
def test_a_certificate_that_is_nobodys_is_unauthenticated(
    strict: Deployment, kind: type[Client], names: dict[str, Any], reason: str
) -> None:
    before = strict.refused(reason)
    with strict.client(kind, strict.clients.issue("nobody", **names)) as client:
        answer = client.send(SPAN)
    assert (answer.code, answer.http_status) in [("UNAUTHENTICATED", None), ("UNAUTHENTICATED", 401)]
    assert "client certificate" in answer.message
    assert strict.refused(reason) == before + 1


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_without_a_certificate_of_the_ca_does_not_get_in(strict: Deployment, kind: type[Client]) -> None:
    stranger = strict.strangers.issue("stranger", uris=["spiffe://example.org/tenant/acme"])
    for certificate, reason in ((None, "no_certificate"), (stranger, "unknown_issuer")):
        before = strict.failed_handshakes(reason)
        with strict.client(kind, certificate) as client, pytest.raises(HandshakeRefusedError):
            client.send(SPAN)
        assert strict.failed_handshakes(reason) > before


@pytest.mark.parametrize("kind", CLIENTS)
def test_where_certificates_are_requested_only_an_api_key_will_do(mixed: Deployment, kind: type[Client]) -> None:
    acme = mixed.clients.issue("acme", uris=["spiffe://example.org/tenant/acme"])
    nameless = mixed.clients.issue("nameless")
    for certificate, headers, expected in (
        (None, bearer("acme-key"), "OK"),
        (None, bearer("wrong"), "UNAUTHENTICATED"),
        (None, {}, "UNAUTHENTICATED"),
        (acme, {}, "OK"),
        (acme, bearer("acme-key"), "OK"),
        (acme, bearer("globex-key"), "UNAUTHENTICATED"),
        (nameless, bearer("globex-key"), "OK"),
        (nameless, {}, "UNAUTHENTICATED"),
    ):
        with mixed.client(kind, certificate) as client:
            assert client.send(SPAN, headers).code == expected, (certificate, headers)


@pytest.mark.parametrize("kind", CLIENTS)
def test_where_certificates_are_requested_one_that_is_shown_must_be_good(mixed: Deployment, kind: type[Client]) -> None:
    stranger = mixed.strangers.issue("stranger", uris=["spiffe://example.org/tenant/acme"])
    with mixed.client(kind, stranger) as client, pytest.raises(HandshakeRefusedError):
        client.send(SPAN, bearer("acme-key"))


def test_a_certificate_that_cannot_be_read_is_not_the_same_as_none(mixed: Deployment) -> None:
    # An x400Address, which is a name that nobody uses, and no X.509 library of ours reads.
    unreadable = mixed.clients.issue("unreadable", subject_alternative_name=b"\x30\x04\xa3\x02\x05\x00")
    with mixed.client(HttpClient, unreadable) as client, pytest.raises(HandshakeRefusedError):
        client.send(SPAN, bearer("acme-key"))
    assert mixed.failed_handshakes("bad_certificate") == 1


def pem(label: str, body: str) -> str:
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


BAD_FILES = {
    "a certificate that is none": ({"cert_file": pem("CERTIFICATE", "AAAA")}, "listen.tls.cert_file: "),
    "a key that is none": ({"key_file": "not a key"}, "are not a certificate and its unencrypted key"),
    "a CA that is none": ({"client_ca_file": "nothing"}, "listen.tls.client_ca_file: "),
    "a CRL that is none": ({"crl_file": "nothing"}, "listen.tls.crl_file: "),
    "a CRL of nonsense": ({"crl_file": pem("X509 CRL", "AAAA")}, "listen.tls.crl_file: it holds an unusable CRL"),
}


@pytest.mark.parametrize(("files", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_malformed_file_at_the_start_is_one_sentence_and_exit_code_2(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    deployment = Deployment(tmp_path)
    for key, text in files.items():
        (tmp_path / key).write_text(text)
    tls = {key: str(tmp_path / key) for key in files}
    result = start_and_fail(tmp_path, deployment.config(SPIFFE, **tls))
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if "_file" in line or "problems" in line]
    assert message in line
    assert "Traceback" not in result.stderr


BAD_CONFIGS = {
    "no CA": ({"listen": {}}, [SPIFFE], "identity[0].mtls: clients are not asked for a certificate"),
    "no pattern": (
        {},
        [{"mtls": {"tenant_from": "san_uri"}}],
        "mtls: tenant_from: san_uri needs a pattern",
    ),
    "two groups": (
        {},
        [{"mtls": {"tenant_from": "san_dns", "pattern": "(a)(b)"}}],
        "identity[0].mtls.pattern: it has 2 groups; write exactly one ( ) around the tenant",
    ),
    "a look-ahead": (
        {},
        [{"mtls": {"tenant_from": "san_dns", "pattern": "(?=a)(b)"}}],
        "identity[0].mtls.pattern: look-around",
    ),
}


@pytest.mark.parametrize(("change", "identity", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_a_provider_that_cannot_work_is_named(
    tmp_path: Path, change: dict[str, Any], identity: list[dict[str, Any]], message: str
) -> None:
    result = start_and_fail(tmp_path, {**Deployment(tmp_path).config(*identity), **change})
    assert result.returncode == 2
    assert message in result.stderr


def test_a_crl_without_a_client_ca_is_named(tmp_path: Path) -> None:
    config = Deployment(tmp_path).config(API_KEY, crl_file="crl.pem")
    del config["listen"]["tls"]["client_ca_file"]
    result = start_and_fail(tmp_path, config)
    assert result.returncode == 2
    assert "listen.tls: crl_file is about client certificates; it needs client_ca_file" in result.stderr
