"""The gateway's own metrics: one collector over the engine's counters and those of delivery (docs/metrics.md)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.types import (
    DELIVERY_DURATION_BOUNDS_S,
    MAX_TENANTS,
    OTHER_TENANTS,
    Lane,
    LaneCounters,
    QueueStats,
    Signal,
    TlsReloads,
)

PROTOCOLS = ("grpc", "http")


@dataclass(slots=True)
class DaemonState:
    """What the daemon itself has to say."""

    version: str
    generation: int = 0
    reload_successful: bool = True
    reload_success_at: float = 0.0
    admin_denied: int = 0
    tls_reloads: TlsReloads = field(default_factory=TlsReloads)
    admin_tls_reloads: TlsReloads = field(default_factory=TlsReloads)
    token_verdicts: dict[str, int] = field(default_factory=dict)


class GatewayCollector(Collector):
    """Reads everything anew at each scrape."""

    def __init__(
        self,
        snapshot: Callable[[], bytes],
        lanes: Callable[[], dict[Lane, LaneCounters]],
        queue: Callable[[], QueueStats],
        state: DaemonState,
        clock: Callable[[], float],
        tenant: str | None = None,
    ) -> None:
        """`tenant`: show this tenant's series only, and nothing of the process."""
        self._snapshot = snapshot
        self._lanes = lanes
        self._queue = queue
        self._state = state
        self._clock = clock
        self._tenant = tenant

    def collect(self) -> Iterator[Metric]:
        snapshot = orjson.loads(self._snapshot())
        lanes = self._lanes()
        names = self._names(snapshot, lanes)
        yield from self._intake([entry for entry in snapshot["intake"] if entry["tenant"] in names], names)
        yield from self._quotas(snapshot, names)
        yield from self._active([entry for entry in snapshot["active"] if entry["tenant"] in names], names)
        yield from self._delivery(snapshot, lanes, names)
        if self._tenant is None:
            yield from self._requests(snapshot)
            yield from self._tokens(snapshot)
            yield from self._tls(snapshot)
            yield from self._process(snapshot)

    def _names(self, snapshot: dict[str, Any], lanes: dict[Lane, LaneCounters]) -> dict[str, str]:
        """Tenants to show, and under which name."""
        known = dict.fromkeys(entry["tenant"] for entry in snapshot["intake"])
        known.update(dict.fromkeys(entry["tenant"] for entry in snapshot["outlets"]))
        known.update(dict.fromkeys(entry["tenant"] for entry in snapshot["quotas"]))
        known.update(dict.fromkeys(lane.tenant for lane in lanes))
        known.update(dict.fromkeys(entry["tenant"] for entry in snapshot["active"]))
        if self._tenant is not None:
            return {self._tenant: self._tenant}
        shown = sorted(known)
        return {name: name if index < MAX_TENANTS else OTHER_TENANTS for index, name in enumerate(shown)}

    def _intake(self, entries: list[dict[str, Any]], names: dict[str, str]) -> Iterator[Metric]:
        def labels(entry: dict[str, Any], *more: str) -> tuple[str, ...]:
            return (names[entry["tenant"]], entry["signal"], *more)

        simple = (
            ("gateway_received_items", "received", "Items (spans, points, log records) that came in"),
            ("gateway_received_bytes", "bytes", "Bytes of OTLP that came in, uncompressed"),
            ("gateway_admitted_bytes", "admitted_bytes", "Of those, what was within the tenant's quotas"),
            ("gateway_filtered_items", "filtered", "Items of which relabelling left nothing, or that masking drops"),
            ("gateway_sampled_out_items", "sampled_out", "Items that sampling left out"),
            ("gateway_accepted_items", "accepted", "Items that were answered OK and are kept"),
            ("gateway_tenant_claims", "tenant_claims", "Payloads that claimed another tenant"),
        )
        for name, key, help_text in simple:
            family = CounterMetricFamily(name, help_text, labels=("tenant", "signal"))
            yield _summed(family, ((labels(entry), entry[key]) for entry in entries))
        by_key = (
            ("gateway_rejected_items", "rejected", "reason", "Items that were refused"),
            ("gateway_rejected_requests", "rejected_requests", "reason", "Refused requests"),
            ("gateway_masked_values", "masked", "detector", "Values that masking changed"),
            ("gateway_mask_dry_run_values", "mask_dry_run", "detector", "Values that masking would have changed"),
            ("gateway_mask_failures", "mask_failures", "reason", "Texts whose masking did not come to their end"),
        )
        for name, key, label, help_text in by_key:
            family = CounterMetricFamily(name, help_text, labels=("tenant", "signal", label))
            yield _summed(family, ((labels(e, inner), count) for e in entries for inner, count in e[key].items()))
        held = GaugeMetricFamily("gateway_held_items", "Items that wait in a window", labels=("tenant", "signal"))
        yield _summed(held, ((labels(entry), entry["held"]) for entry in entries))

    def _quotas(self, snapshot: dict[str, Any], names: dict[str, str]) -> Iterator[Metric]:
        entries = [entry for entry in snapshot["quotas"] if entry["tenant"] in names]
        for name, key, help_text in (
            ("gateway_quota_limit", "max", "What a limit allows: the burst of a rate, or bytes"),
            ("gateway_quota_used", "used", "What is used of a limit at present; more than the limit is a debt"),
        ):
            family = GaugeMetricFamily(name, help_text, labels=("tenant", "signal", "limit"))
            yield _summed(family, (((names[e["tenant"]], e["signal"] or "all", e["limit"]), e[key]) for e in entries))
        kept = GaugeMetricFamily(
            "gateway_downsampling_ratio", "Share of the items that is kept to hold a quota", labels=("tenant", "signal")
        )
        for entry in snapshot["downsampling"]:
            name = names.get(entry["tenant"], OTHER_TENANTS)
            if name != OTHER_TENANTS:  # shares do not add up
                kept.add_metric((name, entry["signal"]), entry["kept_ratio"])
        yield kept

    def _active(self, entries: list[dict[str, Any]], names: dict[str, str]) -> Iterator[Metric]:
        gauges = (
            ("gateway_active_series", "active_series", "Series within the budget that were seen in the window"),
            ("gateway_folded_series", "folded_series", "Series over the budget that are folded"),
            ("gateway_overflow_series", "overflow_series", "Series that others are folded into"),
            ("gateway_active_streams", "active_streams", "Log streams within the budget that were seen in the window"),
        )
        for name, key, help_text in gauges:
            family = GaugeMetricFamily(name, help_text, labels=("tenant",))
            yield _summed(family, (((names[entry["tenant"]],), entry[key]) for entry in entries))
        counters = (
            ("gateway_folded_points", "folded_points", "Points that were folded into overflow series"),
            ("gateway_overflow_log_entries", "overflow_entries", "Log lines that went to the overflow stream"),
        )
        for name, key, help_text in counters:
            counter = CounterMetricFamily(name, help_text, labels=("tenant",))
            yield _summed(counter, (((names[entry["tenant"]],), entry[key]) for entry in entries))
        offending = GaugeMetricFamily(
            "gateway_series_limit_offending_label",
            "About how many values a label had among the series over the budget; the three with most",
            labels=("tenant", "label"),
        )
        yield _summed(
            offending,
            (
                ((names[entry["tenant"]], label), values)
                for entry in entries
                for label, values in entry["offending_labels"]
                if names[entry["tenant"]] != OTHER_TENANTS
            ),
        )

    def _delivery(
        self, snapshot: dict[str, Any], lanes: dict[Lane, LaneCounters], names: dict[str, str]
    ) -> Iterator[Metric]:
        per_lane = ("tenant", "destination", "signal")
        engine = {
            Lane(entry["tenant"], entry["destination"], Signal(entry["signal"])): entry
            for entry in snapshot["outlets"]
            if entry["tenant"] in names
        }
        ours = {lane: counters for lane, counters in lanes.items() if lane.tenant in names}
        everything = sorted(engine.keys() | ours.keys())
        nothing: dict[str, Any] = {"encoded": 0, "open": 0, "dropped": {}, "label_collisions": 0, "limited": {}}
        rows = [(lane, engine.get(lane, nothing), ours.get(lane, LaneCounters())) for lane in everything]

        def labels(lane: Lane, *more: str) -> tuple[str, ...]:
            return (names[lane.tenant], lane.destination, lane.signal, *more)

        def counter(name: str, help_text: str, value: Callable[[dict[str, Any], LaneCounters], float]) -> Metric:
            family = CounterMetricFamily(name, help_text, labels=per_lane)
            return _summed(family, ((labels(lane), value(entry, mine)) for lane, entry, mine in rows))

        def gauge(name: str, help_text: str, value: Callable[[dict[str, Any], LaneCounters], float]) -> Metric:
            family = GaugeMetricFamily(name, help_text, labels=per_lane)
            return _summed(family, ((labels(lane), value(entry, mine)) for lane, entry, mine in rows))

        yield counter(
            "gateway_encoded_items",
            "Spans, log lines and samples made for a destination, in what the destination counts",
            lambda entry, _: entry["encoded"],
        )
        yield counter("gateway_resumed_items", "Found in the queue at start-up", lambda _, mine: mine.resumed)
        yield counter(
            "gateway_maybe_duplicated_items",
            "Of those, what was under way when the former run ended",
            lambda _, mine: mine.maybe_delivered,
        )
        yield counter("gateway_delivered_items", "Taken by the destination", lambda _, mine: mine.delivered)
        yield counter(
            "gateway_delivered_bytes",
            "Bytes taken by the destination, uncompressed",
            lambda _, mine: mine.delivered_bytes,
        )
        yield counter("gateway_delivery_retries", "Attempts that have to be made again", lambda _, mine: mine.retries)
        yield counter(
            "gateway_label_collisions",
            "Labels that met another of the same name after translation",
            lambda entry, _: entry["label_collisions"],
        )
        limited = CounterMetricFamily(
            "gateway_limited_values",
            "Values that a limit of the destination's format cut, split or left out",
            labels=(*per_lane, "limit"),
        )
        yield _summed(
            limited, ((labels(lane, limit), n) for lane, entry, _ in rows for limit, n in entry["limited"].items())
        )
        dropped = CounterMetricFamily(
            "gateway_dropped_items", "Given up after they were accepted, and why", labels=(*per_lane, "reason")
        )
        yield _summed(
            dropped,
            (
                (labels(lane, reason), count)
                for lane, entry, mine in rows
                for counts in (entry["dropped"], mine.dropped)
                for reason, count in counts.items()
            ),
        )
        yield gauge("gateway_queued_items", "Waiting to be delivered", lambda entry, mine: entry["open"] + mine.queued)
        yield gauge("gateway_queue_bytes", "Bytes waiting to be delivered", lambda _, mine: mine.queued_bytes)
        now = self._clock()
        yield gauge(
            "gateway_queue_oldest_age_seconds",
            "Age of the oldest item that waits to be delivered",
            lambda _, mine: max(0.0, now - mine.oldest_at) if mine.oldest_at else 0.0,
        )
        up = GaugeMetricFamily("gateway_destination_up", "Whether the last attempt got an answer", labels=per_lane)
        for lane, _, mine in rows:
            if mine.up is not None:
                up.add_metric(labels(lane), float(mine.up))
        yield up
        durations = HistogramMetricFamily("gateway_delivery_duration_seconds", "Time of one attempt", labels=per_lane)
        for lane, _, mine in rows:
            if mine.duration_count:
                durations.add_metric(labels(lane), _cumulative(mine), mine.duration_sum_s)
        yield durations
        yield self._unaccounted(snapshot["intake"], rows, names)

    def _unaccounted(
        self,
        intake: list[dict[str, Any]],
        rows: list[tuple[Lane, dict[str, Any], LaneCounters]],
        names: dict[str, str],
    ) -> GaugeMetricFamily:
        """Both sums of the ledger; what they do not explain."""
        family = GaugeMetricFamily(
            "gateway_unaccounted_items",
            "Items that the ledger cannot explain; anything but 0 at rest is a bug",
            labels=("tenant", "signal", "ledger"),
        )
        samples: list[tuple[tuple[str, ...], float]] = []
        for entry in intake:
            if entry["tenant"] in names:
                explained = sum(entry["rejected"].values()) + sum(
                    entry[key] for key in ("filtered", "sampled_out", "held", "accepted", "in_process")
                )
                samples.append(((names[entry["tenant"]], entry["signal"], "intake"), entry["received"] - explained))
        for lane, entry, mine in rows:
            came = entry["encoded"] + mine.resumed
            went = mine.delivered + sum(mine.dropped.values()) + sum(entry["dropped"].values()) + mine.queued
            samples.append(((names[lane.tenant], lane.signal, "delivery"), came - went))
        _summed(family, samples)
        return family

    def _requests(self, snapshot: dict[str, Any]) -> Iterator[Metric]:
        by_code = ("transport", "signal", "code")
        requests = CounterMetricFamily("gateway_requests", "Answered requests by gRPC status", labels=by_code)
        durations = HistogramMetricFamily(
            "gateway_request_duration_seconds", "From headers to answer", labels=("transport", "signal")
        )
        sums: dict[tuple[str, str], tuple[dict[float, int], int, float]] = {}
        for entry in snapshot["requests"]:
            requests.add_metric((entry["transport"], entry["signal"], entry["code"]), entry["count"])
            buckets, count, seconds = sums.get((entry["transport"], entry["signal"]), ({}, 0, 0.0))
            for bound, below in entry["buckets"]:
                buckets[bound] = buckets.get(bound, 0) + below
            sums[entry["transport"], entry["signal"]] = (
                buckets,
                count + entry["count"],
                seconds + entry["sum_seconds"],
            )
        for labels, (buckets, count, seconds) in sums.items():
            cumulative = [(str(bound), float(below)) for bound, below in sorted(buckets.items())]
            durations.add_metric(labels, [*cumulative, ("+Inf", float(count))], seconds)
        yield requests
        yield durations
        unauthenticated = CounterMetricFamily(
            "gateway_unauthenticated_requests", "Requests without a known credential", labels=("reason",)
        )
        for reason, count in snapshot["unauthenticated_requests"].items():
            unauthenticated.add_metric((reason,), count)
        yield unauthenticated

    def _tokens(self, snapshot: dict[str, Any]) -> Iterator[Metric]:
        tokens = snapshot["tokens"]
        known = GaugeMetricFamily("gateway_known_tokens", "Tokens whose verdict is remembered", labels=("verdict",))
        known.add_metric(("believed",), tokens["believed"])
        known.add_metric(("refused",), tokens["refused"])
        yield known
        yield GaugeMetricFamily("gateway_tokens_in_question", "Tokens being judged", value=tokens["pending"])
        yield GaugeMetricFamily("gateway_token_waiters", "Requests that wait for a verdict", value=tokens["waiting"])
        yield CounterMetricFamily("gateway_tokens_throttled", "Unknown tokens not judged", value=tokens["throttled"])
        verdicts = CounterMetricFamily("gateway_token_verdicts", "Tokens judged, by verdict", labels=("verdict",))
        for verdict, count in sorted(self._state.token_verdicts.items()):
            verdicts.add_metric((verdict,), count)
        yield verdicts

    def _tls(self, snapshot: dict[str, Any]) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "gateway_tls_handshake_failures", "Connections that ended before their first request", labels=("reason",)
        )
        for reason, count in snapshot["tls_handshake_failures"].items():
            failures.add_metric((reason,), count)
        yield failures
        both = (self._state.tls_reloads, self._state.admin_tls_reloads)
        about = "Changes of the files of listen.tls and admin.tls"
        reloads = CounterMetricFamily("gateway_tls_reloads", about, labels=("result",))
        reloads.add_metric(("success",), sum(done.succeeded for done in both))
        reloads.add_metric(("failure",), sum(done.failed for done in both))
        yield reloads
        yield GaugeMetricFamily(
            "gateway_tls_last_reload_successful",
            "Whether the files of listen.tls and admin.tls are what is in use",
            value=float(all(done.successful for done in both)),
        )

    def _process(self, snapshot: dict[str, Any]) -> Iterator[Metric]:
        queue, state = self._queue(), self._state
        connections = GaugeMetricFamily("gateway_connections", "Open connections", labels=("protocol",))
        for protocol in PROTOCOLS:
            connections.add_metric((protocol,), snapshot["connections"][protocol])
        yield connections
        gauges = (
            ("gateway_active_requests", "Requests under way", snapshot["active_requests"]),
            ("gateway_inflight_bytes", "Bytes of requests and batches under way", snapshot["inflight_bytes"]),
            ("gateway_inflight_limit_bytes", "Bound of gateway_inflight_bytes", snapshot["max_inflight_bytes"]),
            ("gateway_queue_capacity_bytes", "Bound of the queue", queue.max_bytes),
            ("gateway_queue_full", "Whether requests are refused because the queue has no room", queue.full),
            ("gateway_queue_full_tenants", "Tenants that are refused: they have their share", queue.tenants_full),
            ("gateway_queue_resident_bytes", "What is queued and in memory", queue.resident_bytes),
            ("gateway_policy_generation", "Grows by one with each reload", snapshot["generation"]),
            ("gateway_config_last_reload_successful", "Whether the last reload worked", state.reload_successful),
            (
                "gateway_config_last_reload_success_timestamp_seconds",
                "When the configuration was last loaded",
                state.reload_success_at,
            ),
        )
        for name, help_text, value in gauges:
            yield GaugeMetricFamily(name, help_text, value=float(value))
        counters = (
            ("gateway_refused_connections", "Connections over the bound", snapshot["refused_connections"]),
            ("gateway_queue_commits", "Commits of the queue", queue.commits),
            ("gateway_queue_commit_seconds", "Time spent in commits", queue.commit_seconds),
            ("gateway_queue_commit_errors", "Commits that failed", queue.commit_errors),
            ("gateway_admin_denied", "Refused requests on the admin port", state.admin_denied),
        )
        closed = CounterMetricFamily(
            "gateway_closed_connections", "Connections that the gateway closed, and why", labels=("protocol", "reason")
        )
        for protocol, reason, count in snapshot["closed_connections"]:
            closed.add_metric((protocol, reason), count)
        yield closed
        abandoned = CounterMetricFamily(
            "gateway_abandoned_requests", "Requests whose client did not wait for the answer", labels=("protocol",)
        )
        for protocol, count in snapshot["abandoned_requests"].items():
            abandoned.add_metric((protocol,), count)
        yield abandoned
        for name, help_text, value in counters:
            yield CounterMetricFamily(name, help_text, value=value)
        build = GaugeMetricFamily("gateway_build_info", "Always 1", labels=("version",))
        build.add_metric((state.version,), 1)
        yield build


Samples = Iterable[tuple[tuple[str, ...], float]]
Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)


def _summed(family: Family, samples: Samples) -> Family:
    """Adds samples to a family; those with equal labels become one."""
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in samples:
        sums[labels] = sums.get(labels, 0) + value
    for labels, value in sums.items():
        family.add_metric(labels, value)
    return family


def _cumulative(counters: LaneCounters) -> list[tuple[str, float]]:
    total, buckets = 0.0, []
    for bound, count in zip((*DELIVERY_DURATION_BOUNDS_S, "+Inf"), counters.duration_buckets, strict=True):
        total += count
        buckets.append((str(bound), total))
    return buckets
