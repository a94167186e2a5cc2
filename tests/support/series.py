"""Cumulative metrics of many series, as one application counts them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from tests.support.payloads import resource, text

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
BOUNDS = (1.0, 5.0)


@dataclass
class CountingApplication:
    """Counters `orders` by user and histograms `latency` by route, all from zero at the start."""

    service: str = "shop"
    started_ns: int = field(default_factory=time.time_ns)
    orders: dict[str, int] = field(default_factory=dict)
    latency: dict[str, list[int]] = field(default_factory=dict)

    def count(self, orders: Mapping[str, int], latency: Mapping[str, Sequence[int]] | None = None) -> None:
        for user, more in orders.items():
            self.orders[user] = self.orders.get(user, 0) + more
        for route, buckets in (latency or {}).items():
            known = self.latency.get(route, [0] * len(buckets))
            self.latency[route] = [before + more for before, more in zip(known, buckets, strict=True)]

    def request(self) -> ExportMetricsServiceRequest:
        """Everything as it stands now; histograms first."""
        request = ExportMetricsServiceRequest()
        now = time.time_ns()
        origin = resource(self.service, **{"service.instance.id": "i1"})
        scope = request.resource_metrics.add(resource=origin).scope_metrics.add()
        if self.latency:
            histogram = scope.metrics.add(name="latency").histogram
            histogram.aggregation_temporality = CUMULATIVE
            for route, buckets in self.latency.items():
                histogram.data_points.add(
                    attributes=[text("route", route)],
                    start_time_unix_nano=self.started_ns,
                    time_unix_nano=now,
                    count=sum(buckets),
                    sum=float(sum(buckets)),
                    bucket_counts=buckets,
                    explicit_bounds=BOUNDS,
                )
        if self.orders:
            counter = scope.metrics.add(name="orders").sum
            counter.aggregation_temporality = CUMULATIVE
            counter.is_monotonic = True
            for user, value in self.orders.items():
                counter.data_points.add(
                    attributes=[text("user", user)],
                    start_time_unix_nano=self.started_ns,
                    time_unix_nano=now,
                    as_int=value,
                )
        return request


def gauges(values: Mapping[str, float]) -> ExportMetricsServiceRequest:
    """One gauge `queue_length` by name."""
    request = ExportMetricsServiceRequest()
    points = request.resource_metrics.add(resource=resource()).scope_metrics.add().metrics.add(name="queue_length")
    for name, value in values.items():
        points.gauge.data_points.add(attributes=[text("queue", name)], time_unix_nano=time.time_ns(), as_double=value)
    return request
