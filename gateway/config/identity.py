"""Who may send: the ways to say who one is, and API keys."""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, RootModel, model_validator

from gateway.config.base import Model
from gateway.config.names import TenantId, Url
from gateway.config.quantities import Seconds
from gateway.config.tls import Mtls
from gateway.types import Signal


def _network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError:
        raise ValueError("write a network as 10.0.0.0/8 or 2001:db8::/32, without bits behind the prefix") from None
    return value


Network = Annotated[str, AfterValidator(_network)]


class ApiKey(Model):
    """A key, known by its SHA-256 only; `gateway keys new` makes one."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    signals: Annotated[tuple[Signal, ...], Field(min_length=1)] | None = None
    """What it may send; without it, all that its tenant may."""
    expires: AwareDatetime | None = None
    """When it ends, as 2026-12-31T00:00:00Z."""


class KeysFile(RootModel[Mapping[TenantId, tuple[ApiKey, ...]]]):
    """What `api_keys_file` holds: tenant to keys."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class ApiKeyHeader(Model):
    """An API key in a header."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "authorization"
    scheme: str | None = None
    """`Bearer`, `Basic` (the password is the key), any other, or none: the header's value is the key."""


class TrustedHeader(Model):
    """The tenant's name in a header, from gateways whose word is taken."""

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "x-scope-orgid"
    networks: tuple[Network, ...] = ()
    """Where those gateways are, such as 10.0.0.0/8."""
    client_certificates: tuple[str, ...] = ()
    """Or who they are: a URI, a DNS name or the common name of their client certificate."""

    @model_validator(mode="after")
    def _of_somebody(self) -> Self:
        if not self.networks and not self.client_certificates:
            raise ValueError("say whose word is taken, by networks or client_certificates")
        return self


class Anonymous(Model):
    """Whoever shows no credential at all is this tenant."""

    tenant: TenantId


SignatureAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448",
]  # fmt: skip
"""Signatures that a public key verifies; `Ed25519` and `Ed448` are what RFC 9864 calls the two kinds of `EdDSA`."""


def _tenant_pattern(value: str) -> str:
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"it is not a regular expression: {error.msg}") from None
    if groups != 1:
        raise ValueError("put the tenant's name, and nothing else, into one group, as in /tenants/([^/]+)")
    return value


class Oidc(Model):
    """JSON Web Tokens (JWT) of an OpenID Connect issuer; see docs/identity.md."""

    issuer: Url
    """Exactly as tokens name it in `iss`; its `/.well-known/openid-configuration` says where its keys are."""
    audience: Annotated[str, Field(min_length=1)]
    """What `aud` must hold: the gateway's name at the issuer."""
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "authorization"
    """Where the token stands."""
    scheme: str | None = "Bearer"
    """The word before the token; none: the header's value is the token."""
    jwks_url: Url | None = None
    """Where the issuer's keys are, if it has no discovery document."""
    ca_file: Path | None = None
    """CA that signed the issuer's certificate; the system's by default."""
    allow_http: bool = False
    """Fetch keys without TLS from other machines too. Whoever is on the way can then make tokens."""
    algorithms: Annotated[tuple[SignatureAlgorithm, ...], Field(min_length=1)] = get_args(SignatureAlgorithm)
    """Signatures that are believed."""
    leeway: Annotated[Seconds, Field(ge=0, le=300)] = 30.0
    """How far the issuer's clock and ours may be apart."""
    tenant_claim: Annotated[str, Field(min_length=1)] = "tenant_id"
    """The claim that names the tenant: text, or a list of which one is the tenant. `a.b` is `b` inside `a`, unless a
    claim is called `a.b`."""
    tenant_pattern: Annotated[str, AfterValidator(_tenant_pattern)] | None = None
    """Regular expression, anchored at both ends, with one group: the tenant's name. Values that do not match are not
    looked at: `/tenants/([^/]+)` picks `acme` from the groups `/staff` and `/tenants/acme`."""
    scopes: Annotated[Mapping[Signal, Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """The scope that a token needs to send a signal; signals that are not named here cannot be sent. Without it, every
    token may send all signals."""
    timeout: Annotated[Seconds, Field(gt=0, le=60)] = 5.0
    """For fetching the keys."""
    refresh: Annotated[Seconds, Field(ge=1)] = 300.0
    """How often the keys are fetched anew; an unknown key is asked for at once."""
    max_stale: Annotated[Seconds, Field(ge=1)] = 86400.0
    """How long known keys are believed while the issuer cannot be reached."""

    @model_validator(mode="after")
    def _keys_come_safely(self) -> Self:
        for url in filter(None, (self.issuer, self.jwks_url)):
            if not self.may_fetch(url):
                raise ValueError(
                    f"{url} is not https, so anybody on the way could make tokens; use https, or allow_http: true"
                )
        if self.max_stale < self.refresh:
            raise ValueError("max_stale must be at least refresh")
        return self

    def may_fetch(self, url: str) -> bool:
        """Whether keys from `url` are the issuer's: over TLS, from this machine, or from anywhere by `allow_http`."""
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and (self.allow_http or _is_loopback(parts.hostname)))


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


class IdentityProvider(Model):
    """One way to say who one is; exactly one key."""

    api_key: ApiKeyHeader | None = None
    oidc: Oidc | None = None
    mtls: Mtls | None = None
    trusted_header: TrustedHeader | None = None
    anonymous: Anonymous | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = list(type(self).model_fields)
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError(f"name exactly one of {', '.join(kinds)}")
        return self


class Tokens(Model):
    """How many tokens are remembered, and how many are judged."""

    max_believed: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Tokens that are known to be good."""
    max_refused: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Tokens that are known to be nobody's; a storm of them drives no good one out."""
    verifications_per_second: Annotated[float, Field(gt=0)] = 200.0
    """Unknown tokens that are judged in a second, twice as many after a rest; for others clients are told to retry."""
    verifications_per_address: Annotated[float, Field(gt=0)] = 50.0
    """The same for one client address, four times as many after a rest."""


DEFAULT_IDENTITY = (
    IdentityProvider(api_key=ApiKeyHeader(header="authorization", scheme="Bearer")),
    IdentityProvider(api_key=ApiKeyHeader(header="authorization", scheme="Basic")),
    IdentityProvider(api_key=ApiKeyHeader(header="x-api-key")),
)
