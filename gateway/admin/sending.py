"""How sending goes: circuits and windows of every tenant and destination (docs/metrics.md)."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.types import MAX_TENANTS, OTHER_TENANTS, PaceStats

_LABELS = ("tenant", "destination")


class SendingCollector(Collector):
    """Reads everything anew at each scrape. `tenant`: show this tenant's series only."""

    def __init__(self, paces: Callable[[], Iterable[PaceStats]], tenant: str | None = None) -> None:
        self._paces, self._tenant = paces, tenant

    def collect(self) -> Iterator[Metric]:
        paces = [pace for pace in self._paces() if self._tenant in (None, pace.tenant)]
        shown = set(sorted({pace.tenant for pace in paces})[:MAX_TENANTS])
        open_circuits: dict[tuple[str, str], int] = {}
        windows: dict[tuple[str, str], int] = {}
        for pace in paces:
            labels = (pace.tenant if pace.tenant in shown else OTHER_TENANTS, pace.destination)
            open_circuits[labels] = open_circuits.get(labels, 0) + pace.circuit_open
            windows[labels] = windows.get(labels, 0) + pace.window
        for name, help_text, values in (
            ("gateway_circuit_open", "Whether sending pauses after a failure", open_circuits),
            ("gateway_send_window", "Requests that may be under way at once", windows),
        ):
            family = GaugeMetricFamily(name, help_text, labels=_LABELS)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
