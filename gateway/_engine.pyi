"""The data path: receives OTLP, decides by the policy table, hands out encoded batches. Written in Rust (`engine/`)."""

from collections.abc import Sequence
from typing import Literal, final

@final
class Chunk:
    """Bytes that the engine owns, read in place through the buffer protocol. They never change."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Batch:
    """A closed batch of one tenant and one destination, in the destination's wire format, uncompressed.

    Formats concatenate: joining the payloads of several batches of one destination and signal gives one valid request.
    """

    @property
    def id(self) -> int: ...
    @property
    def tenant(self) -> str: ...
    @property
    def destination(self) -> str: ...
    @property
    def signal(self) -> Literal["traces", "metrics", "logs"]: ...
    @property
    def shard(self) -> int:
        """Which of its destination's shards; what has an order among itself is in one shard."""
    @property
    def generation(self) -> int:
        """Policy generation that the batch was made under."""
    @property
    def items(self) -> int:
        """What the backend counts: spans, log lines, samples."""
    @property
    def parts(self) -> list[Chunk]:
        """The payload, in order."""
    @property
    def size(self) -> int:
        """Bytes of all parts."""
    @property
    def opened_at(self) -> float:
        """When its first item came in, Unix seconds."""

@final
class Engine:
    """The running data path. Its threads never take the GIL for a request."""

    def __new__(
        cls,
        *,
        threads: int,
        max_request_bytes: int,
        max_inflight_bytes: int,
        max_connections: int,
        header_timeout_s: float = 10.0,
        body_timeout_s: float = 60.0,
        idle_timeout_s: float = 300.0,
        keepalive_interval_s: float = 60.0,
    ) -> Engine: ...
    def apply(self, table: bytes) -> None:
        """Swap in a policy table (JSON; schema in `engine/src/policy.rs`) while traffic flows.

        Raises ValueError, and keeps the old table, if this one does not compile.
        """

    def set_tls(
        self,
        protocol: Literal["grpc", "http"],
        *,
        certificate: bytes,
        private_key: bytes,
        client_ca: bytes | None = None,
        crl: bytes | None = None,
        require_client_certificate: bool = True,
    ) -> None:
        """Use this TLS material, PEM, for handshakes from now on; before `listen`, or while it serves.

        Connections go on, but for those whose client certificate is no longer trusted: their requests are refused and
        they are closed. `client_ca` may hold several CAs, `crl` several lists.

        Raises ValueError, and keeps the old material, if this one is unusable; the message begins with the key of
        `listen.tls` at fault.
        """

    def listen(self, protocol: Literal["grpc", "http"], fd: int) -> None:
        """Serve on a bound and listening socket; the engine owns `fd` from here on. Clear text without `set_tls`."""

    def event_fd(self) -> int:
        """A file descriptor that becomes readable when `drain` has something; the engine owns it."""

    def drain(self) -> list[Batch]:
        """The batches closed since the last call; resets `event_fd`."""

    def token_fd(self) -> int:
        """A file descriptor that becomes readable when `drain_tokens` has something; the engine owns it."""

    def drain_tokens(self) -> list[tuple[int, bytes]]:
        """Tokens that nobody has judged yet, each with the number to answer under; resets `token_fd`.

        Each is to be answered once, by `believe`, `refuse` or `cannot_tell`.
        """

    def believe(self, question: int, *, tenant: str, signals: Sequence[str] | None, holds_s: float) -> None:
        """The token is `tenant`'s and may send `signals` (None: all), for so many seconds."""

    def refuse(self, question: int, *, holds_s: float) -> None:
        """The token is nobody's, for so many seconds."""

    def cannot_tell(self, question: int, *, retry_after_s: float) -> None:
        """Nobody can tell now; clients are told to wait this long."""

    def forget_tokens(self) -> None:
        """Every token is to be judged anew: the identity providers are others now."""

    def refused_peers(self) -> list[tuple[str, str, Literal["grpc", "http"]]]:
        """Reason, address and transport of who was refused since the last call: each once, and at most 256."""

    def newly_used_keys(self) -> list[tuple[str, str]]:
        """Tenant and id of each API key that this generation saw for the first time since the last call."""

    def ack(self, ids: Sequence[int]) -> None:
        """These batches are kept; with `ack: durable` their requests are answered OK now."""

    def fail(self, ids: Sequence[int]) -> None:
        """These batches could not be kept; with `ack: durable` their requests are answered UNAVAILABLE."""

    def gate(self, tenant: str | None, reason: str | None) -> None:
        """Refuse new requests of `tenant` (None: of everybody) as UNAVAILABLE for `reason`, or admit again (None)."""

    def start_period(self, period: str, *, ends_in_s: float) -> None:
        """A `day` or `month` of the volume quotas has begun, of which nothing is used, and ends in `ends_in_s`.

        Raises ValueError for another period.
        """

    def set_volume(self, tenant: str, signal: str, *, day_bytes: int, month_bytes: int) -> None:
        """What a tenant used in the present periods before this engine counted; call it after `start_period`. What the
        engine has counted itself comes on top, so nothing that arrives meanwhile is lost.

        Raises ValueError for an unknown signal.
        """

    def trial(
        self, tenant: str, signal: Literal["traces", "metrics", "logs"], request: bytes, stages: Sequence[str]
    ) -> bytes:
        """What `stages` make of one request; nothing is counted, batched or delivered.

        `request` is an uncompressed protobuf Export*ServiceRequest. Stages: `mask`, `relabel` (of resources),
        `sample`, or the name of one of the tenant's destinations, whose wire format then comes out. Raises ValueError,
        naming the stage.
        """

    def explain(self, tenant: str, signal: Literal["traces", "metrics", "logs"], request: bytes) -> bytes:
        """The values of one request that the tenant's policy masks, also in a dry run, as a JSON list in their order.

        Each is `{path, place, key, rule, rule_name, finder, action, before, after}`: `path` as OTLP/JSON names the
        field, `key` the attribute's (null if there is none, or it is masked itself), `rule` an index, `finder` what
        found it: `key`, a detector or the rule's name. `request` is an uncompressed protobuf Export*ServiceRequest;
        nothing is counted or delivered. Raises ValueError for a request that is none, and for a tenant that there is
        not or that may not send the signal.
        """

    def set_pseudonym_keys(self, keys: Sequence[tuple[str, str, int, bytearray]]) -> None:
        """From now on these are all pseudonym keys: name, tenant, version, key. The newest version writes.

        The bytes are copied, so that the caller can wipe them. Requests of a tenant whose policy needs a key that is
        not among them are answered UNAVAILABLE. Raises ValueError for a key that is unfit; the old ones stay.
        """

    def flush(self) -> None:
        """Close every open batch now."""

    def leave(self, *, to_successor: bool) -> None:
        """Tell clients to go while connections are still taken: answers over HTTP/1.1 say `connection: close`.

        Health checks hear NOT_SERVING, unless another process goes on with the same sockets.
        """

    def close_listeners(self) -> None:
        """Accept no new connection; tell clients to go (GOAWAY, `connection: close`); running requests go on."""

    def close_intake(self) -> None:
        """Refuse every request whose body is not here yet, as UNAVAILABLE. Once `under_way` finds none taken, no more
        items come.
        """

    def awaited_connections(self) -> int:
        """Connections over HTTP/1.1 that have had no answer since `leave`, a moment after it."""

    def under_way(self) -> tuple[int, int, int, int]:
        """Open connections, active requests, those of them that are taken (their body is here), and batches that are
        closed and neither acked nor failed.
        """

    def dump_series(self, tenant: str, *, last: bool) -> bytes | None:
        """What is known of a tenant's active series and log streams; None if it has no such quota.

        `last`: nothing comes in any more, so that what was folded can go on in the next run.
        """

    def load_series(self, state: bytes) -> None:
        """Put back what `dump_series` gave, before the first `apply`.

        Raises ValueError if the bytes are damaged, or the tenant is in use already.
        """

    def snapshot(self) -> bytes:
        """Every counter, as JSON; see docs/engine-snapshot.md."""

    def stop(self) -> None:
        """Close all connections and join the threads. Idempotent."""

def compress(
    codec: Literal["identity", "snappy", "gzip", "zstd"], parts: Sequence[bytes | memoryview | Chunk]
) -> Chunk:
    """Join `parts` and compress the whole (snappy in its block format). Releases the GIL.

    Raises ValueError for a buffer that could change while it is read.
    """

def halve(
    format: Literal["remote_write", "loki", "otlp"],  # noqa: A002 - the word of the field
    signal: Literal["traces", "metrics", "logs"],
    payload: bytes | bytearray | memoryview | Chunk,
) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
    """Take a request apart into two of the same format, which hold its items between them, in order.

    Both come with the number of their items (spans, log lines, points or samples, as `Batch.items` counts them), which
    is above 0 and about the same; what describes items (labels, resource, scope, metric) stands around them in both.
    None if there is at most one item. Halving the halves again ends with single items. Releases the GIL.

    Raises ValueError for a payload that is no uncompressed request of the format, and for a signal that the format does
    not carry.
    """

def merge_streams(parts: Sequence[bytes | memoryview | Chunk]) -> Chunk | None:
    """The Loki push that `parts`, each some whole fields of a PushRequest, are together: each stream once, its entries
    stably sorted by time, all other fields kept. Releases the GIL.

    None: the parts are such a push as they stand, or are no PushRequest. Raises ValueError for a buffer that could
    change while it is read.
    """

def crc32(parts: Sequence[bytes | memoryview | Chunk]) -> int:
    """CRC-32 of the joined parts, as `zlib.crc32` has it, at some ten times its speed. Releases the GIL.

    Raises ValueError for a buffer that could change while it is read.
    """

def version() -> str: ...
