"""The trail on `/_metrics`."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.audit.writer import AuditStats


class AuditCollector(Collector):
    """For operators only: the trail is nobody's of the tenants."""

    def __init__(self, stats: Callable[[], AuditStats | None]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        if stats is None:
            return
        events = CounterMetricFamily("gateway_audit_events", "Lines of the audit trail", labels=("event",))
        for event, count in stats.written.items():
            events.add_metric((event,), count)
        lost = CounterMetricFamily(
            "gateway_audit_lost_events", "Events that the audit trail could not keep", labels=("reason",)
        )
        for reason, count in stats.lost.items():
            lost.add_metric((reason,), count)
        yield events
        yield lost
        yield GaugeMetricFamily(
            "gateway_audit_writable", "Whether the audit trail could last be written", value=float(stats.writable)
        )
        yield GaugeMetricFamily(
            "gateway_audit_sequence",
            "Sequence of the last line: a trail that ends before it was cut",
            value=stats.sequence,
        )
