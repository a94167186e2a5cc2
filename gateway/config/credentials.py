"""How the gateway identifies itself to a destination. What stands in a file is read again when the file changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.config.base import Model
from gateway.config.names import Url
from gateway.config.quantities import Seconds
from gateway.config.tls import ClientTls


def _username(value: str) -> str:
    if ":" in value:
        raise ValueError("a user name of basic authentication holds no colon")
    return value


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("a header's value is one line of printable ASCII")
    return value


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]


class BasicAuth(Model):
    """Credentials of HTTP basic authentication."""

    username: Annotated[str, AfterValidator(_username)]
    password: SecretStr | None = None
    password_file: Path | None = None
    """The password in a file, which is watched."""

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if (self.password is None) == (self.password_file is None):
            raise ValueError("name password or password_file, one of them")
        return self


class OAuth2(Model):
    """A token by the client credentials grant (RFC 6749 §4.4); fetched when it is needed, and before it ends."""

    token_url: Url
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    """The secret in a file, which is watched."""
    client_auth: Literal["basic", "body"] = "basic"
    """Where id and secret stand: in the header `Authorization`, or in the form, for servers that want it so."""
    scopes: tuple[Annotated[str, Field(pattern=r"^[\x21\x23-\x5B\x5D-\x7E]+$")], ...] = ()
    audience: Annotated[str, Field(min_length=1)] | None = None
    """Sent as the parameter `audience`, which Auth0 and others ask for."""
    endpoint_params: Mapping[str, SecretStr] = Field(default_factory=dict)
    """More parameters of the form."""
    timeout: Annotated[Seconds, Field(gt=0, le=60)] = 10.0
    """Of fetching a token."""
    tls: ClientTls = ClientTls()
    """Towards `token_url`."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("name client_secret or client_secret_file, one of them")
        return self

    @model_validator(mode="after")
    def _params_once(self) -> Self:
        own = {"grant_type", "scope", "client_id", "client_secret"} | ({"audience"} if self.audience else set())
        if taken := sorted(own & self.endpoint_params.keys()):
            raise ValueError(f"endpoint_params has {taken[0]}, which has a key of its own")
        return self


class SigV4(Model):
    """AWS Signature Version 4, as Amazon Managed Service for Prometheus asks for; needs the extra `aws`.

    Access keys come from where AWS' own tools look: variables, the shared files, a role of the pod or machine.
    """

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    service: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "aps"
    """The name that signatures bear: `aps` for Prometheus, `xray` and `logs` for AWS' OTLP endpoints."""
    profile: Annotated[str, Field(min_length=1)] | None = None
    """Of the shared credentials file."""


CREDENTIALS = ("basic_auth", "bearer_token", "bearer_token_file", "oauth2", "sigv4")
"""The keys of a destination of which one may be named."""
