"""Where data goes: what every kind of destination can be told."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from gateway.config.base import Model
from gateway.config.credentials import CREDENTIALS, BasicAuth, HeaderName, HeaderValue, OAuth2, SigV4
from gateway.config.names import Url
from gateway.config.quantities import ByteSize, Seconds
from gateway.config.tls import ClientTls


class Retry(Model):
    """Exponential backoff with full jitter, on answers that allow it."""

    initial: Annotated[Seconds, Field(gt=0)] = 0.5
    max: Annotated[Seconds, Field(gt=0)] = 30.0
    max_age: Annotated[Seconds, Field(gt=0)] | None = None
    """Items older than this are dropped, with reason `too_old`; by default they wait for ever."""


# What a sender, or the protocol under it, says about its own requests.
_OWN_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "host", "te", "transfer-encoding",
        "upgrade", "user-agent", "x-prometheus-remote-write-version",
    }
)  # fmt: skip


class NetworkDestination(Model):
    """What all destinations over HTTP and gRPC have."""

    tenant_header: HeaderName | None = None
    """Header that names the tenant to the backend, such as X-Scope-OrgID."""
    headers: Mapping[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Sent with every request."""
    timeout: Annotated[Seconds, Field(gt=0)] = 10.0
    tls: ClientTls = ClientTls()
    basic_auth: BasicAuth | None = None
    bearer_token: HeaderValue | None = None
    bearer_token_file: Path | None = None
    """The token in a file, which is watched."""
    oauth2: OAuth2 | None = None
    sigv4: SigV4 | None = None
    """Over HTTP only."""
    retry: Retry = Retry()
    max_request_bytes: Annotated[ByteSize, Field(ge=1024)] = 4 << 20
    """Queued batches are joined into requests up to this size, before compression."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """How many requests of a tenant and signal may be under way. A series, a log stream or a resource is always in the
    same shard, so its order is kept; not across a change of this number."""
    dead_letter: str | None = None
    """A `file` destination that keeps what this one refuses for good (docs/dead-letters.md)."""

    @property
    def credentials(self) -> list[str]:
        """The keys of credentials that are set; a valid destination has at most one."""
        return [name for name in CREDENTIALS if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if len(named := self.credentials) > 1:
            raise ValueError(f"name one credential, not {' and '.join(named)}")
        return self

    @model_validator(mode="after")
    def _headers_once(self) -> Self:
        """Of two headers of one name, whose case may differ, a backend takes one or the other."""
        names = [name.lower() for name in self.headers]
        if len(set(names)) < len(names):
            raise ValueError("headers has a name twice; their case makes no difference")
        if self.tenant_header is not None and self.tenant_header.lower() in names:
            raise ValueError(f"headers has {self.tenant_header}, which tenant_header fills; name it once")
        if "authorization" in names and self.credentials:
            raise ValueError(f"headers has authorization beside {self.credentials[0]}; name one of them")
        for name in (*names, (self.tenant_header or "").lower()):
            if name in _OWN_HEADERS or name.startswith("grpc-") or name.endswith("-bin"):
                raise ValueError(f"the gateway sets the header {name} itself")
        return self


class RemoteWriteDestination(NetworkDestination):
    """Prometheus and all that take its remote write; metrics."""

    type: Literal["remote_write"]
    url: Url
    version: Literal["auto", "1"] = "auto"
    """Of the protocol; `auto` speaks 1.0, which every receiver understands."""
    promote_resource_attributes: tuple[str, ...] = ()
    """Resource attributes that become labels of every series, besides job, instance and tenant."""


class StreamLabel(Model):
    """A Loki stream label and the resource attribute that it is taken from."""

    label: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=1024)]
    attribute: str


STREAM_LABEL_ALIASES = {
    "service": "service.name",
    "namespace": "service.namespace",
    "instance": "service.instance.id",
    "region": "cloud.region",
    "environment": "deployment.environment.name",
}


def _stream_label(value: Any) -> Any:
    if isinstance(value, str):
        return {"label": re.sub(r"[^a-zA-Z0-9_]", "_", value), "attribute": STREAM_LABEL_ALIASES.get(value, value)}
    return value


class LokiDestination(NetworkDestination):
    """Loki and all that take its push API; logs."""

    type: Literal["loki"]
    url: Url
    stream_labels: tuple[Annotated[StreamLabel, BeforeValidator(_stream_label)], ...] = Field(
        default=tuple(StreamLabel(**_stream_label(name)) for name in ("tenant", "service", "region", "instance")),
        min_length=1,
        max_length=15,
    )
    """Few and stable. A name (tenant, service, namespace, instance, region, environment, or a resource attribute), or
    {label: NAME, attribute: KEY}. Everything else becomes structured metadata."""
    max_line_bytes: Annotated[ByteSize, Field(ge=1024, le=64 << 20)] = 256 << 10
    """The longest line; Loki's own limit by default."""
    long_lines: Literal["cut", "split", "drop"] = "cut"
    """What becomes of a longer one: cut, with a mark that says how much is missing; split into entries with `part`; or
    dropped, with reason `line_too_long`."""
    max_metadata_bytes: Annotated[ByteSize, Field(ge=1024, le=16 << 20)] = 64 << 10
    """Names and values of an entry's structured metadata together; what does not fit is left out, never the line."""
    max_metadata_pairs: Annotated[int, Field(ge=16, le=1024)] = 128
    """How many pairs an entry's structured metadata may have."""
    log_form: Literal["off", "keep", "message"] = "keep"
    """Of a body that is a JSON log line, level, ids and metadata become structured metadata (`keep`), and its message
    the line (`message`); `off`: it is a text like any other."""

    @model_validator(mode="after")
    def _labels_once(self) -> Self:
        labels = [label.label for label in self.stream_labels]
        if len(set(labels)) < len(labels):
            raise ValueError("stream_labels names a label twice, and Loki refuses such streams")
        return self


class OtlpDestination(NetworkDestination):
    """Jaeger, and all that take OTLP; every signal."""

    type: Literal["otlp"]
    endpoint: Url
    """Of HTTP without the /v1/… path."""
    protocol: Literal["grpc", "http"] = "grpc"
    compression: Literal["none", "gzip", "zstd"] = "none"

    @model_validator(mode="after")
    def _grpc_can(self) -> Self:
        parts = urlsplit(self.endpoint)
        if parts.query or parts.fragment:
            raise ValueError("an OTLP endpoint has no ? and no #")
        if self.protocol == "grpc" and parts.path.strip("/"):
            raise ValueError(f"gRPC has no path: write {parts.scheme}://{parts.netloc}, or use protocol: http")
        if self.protocol == "grpc" and self.compression == "zstd":
            raise ValueError("over gRPC, compression is none or gzip")
        if self.protocol == "grpc" and self.tls.insecure_skip_verify:
            raise ValueError("gRPC verifies every certificate; name tls.ca_file, or use protocol: http")
        if self.protocol == "grpc" and self.sigv4 is not None:
            raise ValueError("sigv4 signs requests over HTTP; use protocol: http")
        return self


class FileDestination(Model):
    """OTLP JSON lines on disk; every signal."""

    type: Literal["file"]
    path: Path
    """`{tenant}` and `{signal}` in it are filled in."""
    max_bytes: Annotated[ByteSize, Field(ge=4096)] = 100 << 20
    """A larger file is rotated: path.1 is the newest old one."""
    max_files: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many rotated files are kept."""


Destination = Annotated[
    RemoteWriteDestination | LokiDestination | OtlpDestination | FileDestination, Field(discriminator="type")
]
