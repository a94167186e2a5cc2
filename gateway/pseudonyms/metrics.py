"""Pseudonym keys on `/_metrics`."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.pseudonyms.watch import KeyStatus


class PseudonymKeyCollector(Collector):
    """For operators only. Shows versions and counts, and nothing of a key."""

    def __init__(self, status: Callable[[], Sequence[KeyStatus]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        keys = self._status()
        if not keys:
            return
        newest = GaugeMetricFamily(
            "gateway_pseudonym_key_newest_version",
            "Newest version of a pseudonym key; of keys that tenants have for themselves, of all tenants",
            labels=("key",),
        )
        missing = GaugeMetricFamily(
            "gateway_pseudonym_keys_missing", "Tenants that are refused because this key is not there", labels=("key",)
        )
        success = GaugeMetricFamily(
            "gateway_pseudonym_key_last_success_timestamp_seconds",
            "When the key's source was last read with nothing amiss",
            labels=("key",),
        )
        for key in keys:
            missing.add_metric((key.name,), len(key.missing))
            if key.newest_version is not None:
                newest.add_metric((key.name,), key.newest_version)
            if key.last_success_at is not None:
                success.add_metric((key.name,), key.last_success_at)
        yield from (newest, missing, success)
