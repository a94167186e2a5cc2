"""The configuration as typed models: what every key means, its default and its bounds.

Keys are promises (see CHANGELOG.md). Unknown keys are refused. Secrets are `SecretStr`, which no `repr` shows.
"""

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from gateway.config.base import Model
from gateway.config.identity import DEFAULT_IDENTITY, ApiKey, IdentityProvider, Tokens
from gateway.config.masking import Mask
from gateway.config.names import Address, TenantId, Url
from gateway.config.pseudonyms import PseudonymKeySource, VaultConfig
from gateway.config.quantities import ByteSize, Seconds
from gateway.config.quotas import Quotas
from gateway.config.tls import ClientTls, ListenTls, ServerTls
from gateway.types import Signal


class Listen(Model):
    """Where OTLP comes in."""

    grpc: Address = "127.0.0.1:4317"
    """OTLP/gRPC."""
    http: Address = "127.0.0.1:4318"
    """OTLP/HTTP."""
    tls: ListenTls | None = None
    """TLS for both."""
    max_request_bytes: Annotated[ByteSize, Field(ge=1024, le=1 << 31)] = 64 << 20
    """The largest request, before and after decompression."""
    max_inflight_bytes: Annotated[ByteSize, Field(ge=1 << 20)] = 256 << 20
    """What all requests under way may hold together; over it, clients are told to retry."""
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Connections over it are closed at once."""
    threads: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=lambda: min(os.cpu_count() or 1, 4))
    """Threads of the data path; at most four by default."""

    @model_validator(mode="after")
    def _room_for_a_request(self) -> Self:
        if self.max_inflight_bytes < self.max_request_bytes:
            raise ValueError("max_inflight_bytes must be at least max_request_bytes")
        return self


class AdminToken(Model):
    """Who may read `/_metrics`, by bearer token."""

    name: str
    """Shown in logs instead of the token."""
    token: SecretStr
    """An empty one counts as not configured."""
    tenant: TenantId = "*"
    """Whose series it sees; `*`: everybody's, and it may reload."""


class AdminUser(Model):
    """Who may read `/_metrics`, by basic authentication."""

    name: str
    password: SecretStr
    tenant: TenantId = "*"
    """Whose series it sees; `*`: everybody's, and it may reload."""


class Admin(Model):
    """Health, metrics and reload."""

    address: Address = "127.0.0.1:9464"
    tls: ServerTls | None = None
    """With client_ca_file, a client certificate that it signed is an operator's credential."""
    tokens: tuple[AdminToken, ...] = ()
    basic: tuple[AdminUser, ...] = ()

    @property
    def open_to_somebody(self) -> bool:
        """Whether any credential is configured; without one, `/_metrics` refuses everybody."""
        tokens = any(token.token.get_secret_value() for token in self.tokens)
        users = any(user.password.get_secret_value() for user in self.basic)
        return tokens or users or (self.tls is not None and self.tls.client_ca_file is not None)


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
    password: SecretStr


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
    retry: Retry = Retry()
    max_request_bytes: Annotated[ByteSize, Field(ge=1024)] = 4 << 20
    """Queued batches are joined into requests up to this size, before compression."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """How many requests of a tenant and signal may be under way. A series, a log stream or a resource is always in the
    same shard, so its order is kept; not across a change of this number."""

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.basic_auth is not None and self.bearer_token is not None:
            raise ValueError("name basic_auth or bearer_token, not both")
        return self

    @model_validator(mode="after")
    def _headers_once(self) -> Self:
        """Of two headers of one name, whose case may differ, a backend takes one or the other."""
        names = [name.lower() for name in self.headers]
        if len(set(names)) < len(names):
            raise ValueError("headers has a name twice; their case makes no difference")
        if self.tenant_header is not None and self.tenant_header.lower() in names:
            raise ValueError(f"headers has {self.tenant_header}, which tenant_header fills; name it once")
        if "authorization" in names and (self.basic_auth is not None or self.bearer_token is not None):
            raise ValueError("headers has authorization beside basic_auth or bearer_token; name one of them")
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

    label: Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
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


class Queue(Model):
    """The durable queue between the gateway and its destinations."""

    dir: Path = Path("data/queue")
    max_bytes: Annotated[ByteSize, Field(ge=1 << 20)] = 4 << 30
    """When it is full, clients are told to retry."""
    ack: Literal["durable", "memory"] = "durable"
    """When a request is answered OK: after its batch is on disk, or when it is in memory."""
    memory_max_bytes: Annotated[ByteSize, Field(ge=1 << 20)] = 64 << 20
    """With `ack: memory`, what is held in memory before batches go to disk."""


class Batch(Model):
    """When a batch closes, whichever comes first. With `ack: durable` also as soon as the disk is idle."""

    max_bytes: Annotated[ByteSize, Field(ge=1024, le=64 << 20)] = 4 << 20
    max_items: Annotated[int, Field(ge=1)] = 8192
    max_age: Annotated[Seconds, Field(ge=0.001, le=60)] = 0.2


class RelabelRule(Model):
    """Prometheus' relabel_config. Regexes are RE2 and anchored at both ends."""

    action: Literal[
        "replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep",
        "lowercase", "uppercase",
    ] = "replace"  # fmt: skip
    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    regex: str = "(.*)"
    modulus: Annotated[int, Field(ge=0)] = 0
    target_label: str = ""
    replacement: str = "$1"


class Relabel(Model):
    """Rules by what they see; a list that is given replaces the inherited one."""

    resource: tuple[RelabelRule, ...] | None = None
    """On the resource attributes of every signal."""
    traces: tuple[RelabelRule, ...] | None = None
    """On resource attributes, after `resource`."""
    logs: tuple[RelabelRule, ...] | None = None
    """On resource attributes, after `resource`."""
    metrics: tuple[RelabelRule, ...] | None = None
    """On the final labels of each series, `__name__` included (remote write only)."""


class TraceSampling(Model):
    """Consistent probability sampling by trace id."""

    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of traces to keep."""


class Sample(Model):
    traces: TraceSampling | None = None


class Route(Model):
    """Where items of a signal go, perhaps only those of some resources."""

    to: str
    """A destination."""
    when: Annotated[Mapping[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """Resource attributes to regexes, RE2 and anchored at both ends: items of resources where all match go there. An
    attribute that a resource does not have is empty."""
    unless: Annotated[Mapping[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """The same: items of resources where all match do not go there."""

    @property
    def takes_all(self) -> bool:
        return not (self.when or self.unless)


def _route(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


class TenantSettings(Model):
    """What may be set for all tenants in `defaults` and for one under `tenants`."""

    routes: Mapping[
        Signal,
        Annotated[
            tuple[Annotated[Route, BeforeValidator(_route, json_schema_input_type=str | Route)], ...],
            Field(max_length=64),
        ],
    ] = Field(default_factory=dict)
    """Destinations of each signal, each a name or {to: NAME, when: {ATTRIBUTE: REGEX}, unless: {ATTRIBUTE: REGEX}}; an
    empty list forbids the signal. Inherited signal by signal."""
    quotas: Quotas = Quotas()
    """Inherited key by key."""
    mask: Mask | None = None
    """Inherited key by key; without any, nothing is masked."""
    relabel: Relabel = Relabel()
    """Inherited list by list."""
    sample: Sample = Sample()
    claims: Literal["overwrite", "refuse"] | None = None
    """What happens to a payload that claims another tenant; `overwrite` by default. Counted either way."""


class Tenant(TenantSettings):
    api_keys: tuple[ApiKey, ...] = ()
    disabled: bool = False
    """Refuse everything it sends."""


class Audit(Model):
    """The tamper-evident trail of who did what (docs/audit.md). Without this section there is none."""

    dir: Path
    """Folder of the trail's files; one gateway writes to it."""
    key_file: Path
    """Ed25519 private key that signs the anchors; `gateway audit keygen` makes one."""
    max_bytes: Annotated[ByteSize, Field(ge=64 << 10)] = 64 << 20
    """A file that would grow over it is closed and the next begun; also at midnight UTC."""
    keep: Annotated[int, Field(ge=2, le=100_000)] = 400
    """How many files are kept; the oldest is deleted first."""


class Price(Model):
    """Prices of one signal; unset costs nothing."""

    per_gb: Annotated[Decimal, Field(ge=0)] = Decimal(0)
    """For 10^9 bytes that came in, uncompressed."""
    per_million_items: Annotated[Decimal, Field(ge=0)] = Decimal(0)
    """For a million items taken in: spans, points or log records."""


class Usage(Model):
    """Usage of each tenant, signal and day, kept on disk (docs/usage.md). Without this section it is not kept."""

    path: Path
    """The SQLite database."""
    interval: Annotated[Seconds, Field(ge=0.1, le=3600)] = 10.0
    """How often usage is written; a crash loses at most this."""
    keep_days: Annotated[int, Field(ge=1, le=3660)] = 400
    """Older days are deleted."""
    prices: Mapping[Signal, Price] = Field(default_factory=dict)
    currency: Annotated[str, Field(min_length=1, max_length=8)] = "EUR"
    """Shown beside costs; nothing is converted."""


class Log(Model):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"
    """`auto`: text on a terminal, JSON elsewhere."""


class Config(Model):
    """The whole configuration."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    identity: tuple[IdentityProvider, ...] = DEFAULT_IDENTITY
    """Tried in order. By default API keys as bearer token, basic password or x-api-key."""
    api_keys_file: Path | None = None
    """More API keys: YAML, tenant to a list like `api_keys`. It is watched: keys come and go without a reload."""
    tokens: Tokens = Tokens()
    """The bounds of judging tokens."""
    destinations: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], Destination]
    queue: Queue = Queue()
    batch: Batch = Batch()
    defaults: TenantSettings = TenantSettings()
    """What every tenant inherits."""
    tenants: Mapping[TenantId, Tenant] = Field(min_length=1)
    drain_timeout: Annotated[Seconds, Field(gt=0)] = 20.0
    """How long a stop may take."""
    audit: Audit | None = None
    usage: Usage | None = None
    vault: VaultConfig | None = None
    pseudonym_keys: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], PseudonymKeySource] = Field(
        default_factory=dict
    )
    """Keys that values are pseudonymised with, by name (docs/pseudonym-keys.md). Each tenant has its own."""
    log: Log = Log()
