"""Today's usage on `/_metrics`."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.types import MAX_TENANTS, OTHER_TENANTS
from gateway.usage.meter import Amounts, Meter, Readings
from gateway.usage.usage import UsageStats

_GAUGES: tuple[tuple[str, str, Callable[[Amounts], int]], ...] = (
    ("gateway_usage_items", "Items taken in today (UTC)", lambda amounts: amounts.items),
    ("gateway_usage_received_bytes", "Bytes that came in today (UTC)", lambda amounts: amounts.bytes_in),
    ("gateway_usage_delivered_bytes", "Bytes delivered today (UTC)", lambda amounts: amounts.bytes_out),
    ("gateway_usage_masked_values", "Values masked today (UTC)", lambda amounts: amounts.masked_values),
    ("gateway_usage_rejected_items", "Items of refused requests today (UTC)", lambda amounts: amounts.rejected_items),
)


class UsageCollector(Collector):
    """Gauges, since a day's usage begins again at zero; as of the last interval."""

    def __init__(self, stats: Callable[[], UsageStats | None], tenant: str | None = None) -> None:
        """`tenant`: show this tenant's only."""
        self._stats = stats
        self._tenant = tenant

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        if stats is None:
            return
        shown = self._shown(stats.today)
        for name, help_text, value in _GAUGES:
            family = GaugeMetricFamily(name, help_text, labels=("tenant", "signal"))
            for meter, amounts in shown.items():
                family.add_metric((meter.tenant, meter.signal), value(amounts))
            yield family
        if self._tenant is None:
            yield GaugeMetricFamily(
                "gateway_usage_writable", "Whether usage could last be written", value=float(stats.writable)
            )
            yield CounterMetricFamily(
                "gateway_usage_write_errors", "Writes of usage that failed, each made up for by the next that works",
                value=stats.write_errors,
            )  # fmt: skip

    def _shown(self, today: Readings) -> Readings:
        if self._tenant is not None:
            return {meter: amounts for meter, amounts in today.items() if meter.tenant == self._tenant}
        names = sorted({meter.tenant for meter in today})
        own = set(names[:MAX_TENANTS])
        shown: Readings = {}
        for meter, amounts in today.items():
            named = meter if meter.tenant in own else Meter(OTHER_TENANTS, meter.signal)
            shown[named] = shown.get(named, Amounts()) + amounts
        return shown
