"""What the queue takes on disk, and what became of its damaged parts (docs/queue.md)."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.types import QueueDiskStats


class QueueDiskCollector(Collector):
    """Reads everything anew at each scrape; nothing is shown while the disk cannot be read (`stats` gives None)."""

    def __init__(self, stats: Callable[[], QueueDiskStats | None]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        if stats is None:
            return
        for name, help_text, value in (
            ("gateway_queue_file_bytes", "Size of the queue's file", stats.file_bytes),
            ("gateway_queue_live_bytes", "Of it, pages that are in use", stats.live_bytes),
            ("gateway_quarantined_records", "Damaged records that are kept aside", stats.quarantined_records),
            ("gateway_quarantined_bytes", "What they take", stats.quarantined_bytes),
            ("gateway_queue_untracked_shards", "Shards without marks of progress", stats.untracked_shards),
            ("gateway_queue_rebuilt_records", "Records saved from a damaged file at the start", stats.rebuilt_records),
            ("gateway_queue_rebuilt_corrupt_records", "Beginnings that could not be read", stats.rebuilt_corrupt),
        ):
            yield GaugeMetricFamily(name, help_text, value=float(value or 0))
        for name, help_text, value in (
            ("gateway_quarantine_evicted_records", "Left quarantine for newer ones", stats.quarantine_evicted),
            ("gateway_queue_reclaimed_bytes", "Given back to the disk", stats.reclaimed_bytes),
        ):
            yield CounterMetricFamily(name, help_text, value=float(value))
