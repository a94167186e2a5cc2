"""TLS, of listeners and towards destinations, and identity by client certificate."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.config.base import Model


class ServerTls(Model):
    """TLS of a listener."""

    cert_file: Path
    """Certificate chain, PEM."""
    key_file: Path
    """Private key, PEM."""
    client_ca_file: Path | None = None
    """If set, a client must show a certificate that this CA signed."""


class ListenTls(ServerTls):
    """TLS where OTLP comes in. The files are read again when they change."""

    client_ca_file: Path | None = None
    """CAs that sign client certificates, PEM. Without it, clients are not asked for one."""
    client_auth: Literal["require", "request"] = "require"
    """With client_ca_file: `require` turns clients without a certificate away, `request` lets them in, to identify
    themselves in another way. A certificate that is shown must be good either way."""
    crl_file: Path | None = None
    """Certificate revocation lists, PEM. Every CA of a client's chain needs one that is in force, or the client is
    turned away."""

    @model_validator(mode="after")
    def _about_client_certificates(self) -> Self:
        for name in ("client_auth", "crl_file"):
            if self.client_ca_file is None and name in self.model_fields_set:
                raise ValueError(f"{name} is about client certificates; it needs client_ca_file")
        return self


class ClientTls(Model):
    """TLS towards a destination, 1.2 or later. The files are read again when they change."""

    ca_file: Path | None = None
    """CA that signed the destination's certificate; the system's by default."""
    cert_file: Path | None = None
    """Client certificate, PEM; goes with key_file."""
    key_file: Path | None = None
    server_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]+$")] | None = None
    """The name that the destination's certificate must bear; that of the URL by default."""
    insecure_skip_verify: bool = False
    """Believe any certificate. For trying out only."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self


class Mtls(Model):
    """The tenant is named by the client certificate."""

    tenant_from: Literal["san_uri", "san_dns", "common_name"]
    """Where the tenant's name stands: in URIs (SPIFFE ids) or DNS names of the subject alternative name, or in the
    subject's CN."""
    pattern: Annotated[str, Field(min_length=1)] | None = None
    """Regex (RE2, anchored at both ends) whose one group is the tenant, such as `spiffe://example.org/tenant/([^/]+)`.
    Without it the whole name is the tenant; `san_uri` needs it."""

    @model_validator(mode="after")
    def _pattern_of_uris(self) -> Self:
        if self.tenant_from == "san_uri" and self.pattern is None:
            raise ValueError("tenant_from: san_uri needs a pattern whose one group is the tenant")
        return self
