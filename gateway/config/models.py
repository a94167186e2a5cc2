"""The configuration as typed models: what every key means, its default and its bounds.

Keys are promises (see CHANGELOG.md). Unknown keys are refused. Secrets are `SecretStr`, which no `repr` shows.
"""

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from gateway.config.base import Model
from gateway.config.destinations import Destination
from gateway.config.encryption import QueueEncryption
from gateway.config.identity import DEFAULT_IDENTITY, ApiKey, IdentityProvider, Tokens
from gateway.config.masking import Mask
from gateway.config.names import Address, TenantId
from gateway.config.pseudonyms import PseudonymKeySource, VaultConfig
from gateway.config.quantities import ByteSize, Seconds
from gateway.config.quotas import Quotas
from gateway.config.routes import Routes
from gateway.config.tls import ListenTls, ServerTls
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
    header_timeout: Annotated[Seconds, Field(ge=0.1, le=300)] = 10.0
    """For a TLS handshake, and for the head of a request over HTTP/1.1."""
    body_timeout: Annotated[Seconds, Field(ge=0.1, le=3600)] = 60.0
    """For a request's body, from its head on."""
    idle_timeout: Annotated[Seconds, Field(ge=1, le=86400)] = 300.0
    """A connection without a request for so long is closed."""
    keepalive_interval: Annotated[Seconds, Field(ge=1, le=3600)] = 60.0
    """How often a quiet client is asked whether it is still there; one that is not is closed after about half as long
    again."""
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


class Queue(Model):
    """The durable queue between the gateway and its destinations."""

    dir: Path = Path("data/queue")
    max_bytes: Annotated[ByteSize, Field(ge=1 << 20)] = 4 << 30
    """When it is full, clients are told to retry."""
    tenant_max_bytes: Annotated[ByteSize, Field(ge=1 << 20)] | None = None
    """What one tenant may have of it. By default four times what is free, so that there is always room for another."""
    ack: Literal["durable", "memory"] = "durable"
    """When a request is answered OK: after its batch is on disk, or when it is in memory."""
    memory_max_bytes: Annotated[ByteSize, Field(ge=1 << 20)] = 64 << 20
    """What is kept in memory: with `ack: memory` before it goes to disk, with `durable` so that it need not be read."""
    encryption: QueueEncryption | None = None
    """Of what lies on disk. Without this section, records are in the clear."""


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


class TenantSettings(Model):
    """What may be set for all tenants in `defaults` and for one under `tenants`."""

    routes: Mapping[Signal, Routes] = Field(default_factory=dict)
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
    drain_delay: Annotated[Seconds, Field(ge=0, le=3600)] = 0.0
    """How long load balancers are told of a stop, by /-/ready and health checks, before connections are refused.
    `drain_timeout` comes after it."""
    audit: Audit | None = None
    usage: Usage | None = None
    vault: VaultConfig | None = None
    pseudonym_keys: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], PseudonymKeySource] = Field(
        default_factory=dict
    )
    """Keys that values are pseudonymised with, by name (docs/pseudonym-keys.md). Each tenant has its own."""
    log: Log = Log()
