"""OTLP metrics that Prometheus converts itself at its OTLP endpoint and that the gateway converts to remote write.

A case is data: what is sent, and where the two are meant to differ, with the reason. Times are milliseconds after the
case's own beginning; whoever sends adds that (`stamped`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
    Summary,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

CUMULATIVE = 2
DELTA = 1
PROMOTED = ("cloud.region", "service.name", "k8s.pod.name")
"""What both sides are configured to promote to a label of every series."""

Attributes = Mapping[str, Any] | Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class Difference:
    """Lines that only one side has, on purpose."""

    reason: str
    prometheus: frozenset[str] = frozenset()
    gateway: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Case:
    name: str
    sent: tuple[ResourceMetrics, ...]
    differences: tuple[Difference, ...] = ()
    refused: bool = False
    """Prometheus refuses the whole request; the gateway takes what it can of it."""
    dropped: tuple[str, int] | None = None
    """What the gateway counts as dropped: the reason, and how many points."""


def any_value(value: Any) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[any_value(element) for element in value]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=attributes(value)))
        case _:
            return AnyValue(string_value=value)


def attributes(pairs: Attributes) -> list[KeyValue]:
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [KeyValue(key=key, value=any_value(value)) for key, value in items]


def number(value: float | None, labels: Attributes = (), at_ms: int = 0) -> NumberDataPoint:
    point = NumberDataPoint(attributes=attributes(labels), time_unix_nano=at_ms * 1_000_000)
    if isinstance(value, int):
        point.as_int = value
    elif value is not None:
        point.as_double = value
    return point


def gauge(name: str, *points: NumberDataPoint, unit: str = "") -> Metric:
    return Metric(name=name, unit=unit, gauge=Gauge(data_points=points or [number(1)]))


def counter(name: str, *points: NumberDataPoint, unit: str = "", temporality: Any = CUMULATIVE) -> Metric:
    total = Sum(data_points=points or [number(1)], is_monotonic=True, aggregation_temporality=temporality)
    return Metric(name=name, unit=unit, sum=total)


def up_down(name: str, *points: NumberDataPoint, unit: str = "") -> Metric:
    return Metric(name=name, unit=unit, sum=Sum(data_points=points or [number(1)], aggregation_temporality=CUMULATIVE))


def buckets(bounds: Sequence[float], counts: Sequence[int], labels: Attributes = (), **more: Any) -> HistogramDataPoint:
    return HistogramDataPoint(
        explicit_bounds=bounds, bucket_counts=counts, attributes=attributes(labels), **{"count": sum(counts), **more}
    )


def histogram(name: str, *points: HistogramDataPoint, unit: str = "") -> Metric:
    data = Histogram(data_points=points, aggregation_temporality=CUMULATIVE)
    return Metric(name=name, unit=unit, histogram=data)


def summary(name: str, quantiles: Mapping[float, float], labels: Attributes = ()) -> Metric:
    values = [SummaryDataPoint.ValueAtQuantile(quantile=q, value=v) for q, v in quantiles.items()]
    point = SummaryDataPoint(count=3, sum=4.5, quantile_values=values, attributes=attributes(labels))
    return Metric(name=name, unit="s", summary=Summary(data_points=[point]))


def of(resource: Attributes, *metrics: Metric) -> ResourceMetrics:
    return ResourceMetrics(
        resource=Resource(attributes=attributes(resource)), scope_metrics=[ScopeMetrics(metrics=metrics)]
    )


def labelled(*points: Attributes) -> ResourceMetrics:
    """A gauge with a point for each attribute set."""
    return of({}, gauge("g", *(number(index, labels) for index, labels in enumerate(points))))


def stamped(sent: Sequence[ResourceMetrics], begin_ms: int) -> ExportMetricsServiceRequest:
    """A request whose points' times, given relative to `begin_ms`, are absolute."""
    request = ExportMetricsServiceRequest(resource_metrics=sent)
    for resource_metrics in request.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    point.time_unix_nano += begin_ms * 1_000_000
    return request


NAMES = (
    "http.server.active_requests", "already_fine", "Upper.Case", "a:colon:name", "2xx responses", "__two", "a__b..c",
    "größe", "wörld.温度.x", "tab\there", "ends.", "total", "my.total.things", "ratio.of.things",
)  # fmt: skip
UNITS = (
    "", "1", "{request}", "{request}/s", "s", "ms", "us", "ns", "min", "h", "d", "By", "KiBy", "MiBy", "GiBy", "TiBy",
    "KBy", "MBy", "GBy", "TBy", "m", "V", "A", "J", "W", "g", "Cel", "Hz", "%", "By/s", "m/s", "/s", "1/s", "1/m",
    "By/h", "W/d", "W/w", "W/mo", "W/y", "m/{x}", "foo", "foo-bar", "foo/bar baz", "m^2", " s ", "a/b/c", "/", "µs",
)  # fmt: skip
SCOPES = (
    ScopeMetrics(scope=InstrumentationScope(name="lib", version="1.0"), metrics=[gauge("of_lib")]),
    ScopeMetrics(
        scope=InstrumentationScope(name="other", attributes=attributes({"k": "v"})), metrics=[gauge("of_other")]
    ),
)
SERVICE = {"service.namespace": "eu", "service.name": "shop", "service.instance.id": "pod-0"}


def lines(*of_one_side: str) -> frozenset[str]:
    return frozenset(of_one_side)


CASES = (
    Case(
        "gauges",
        (
            of(
                SERVICE,
                gauge(
                    "g",
                    *(
                        number(value, {"n": index})
                        for index, value in enumerate(
                            (
                                0,
                                1,
                                -1,
                                2**53,
                                -(2**63),
                                0.1,
                                1e300,
                                5e-324,
                                -0.0,
                                float("inf"),
                                float("-inf"),
                                float("nan"),
                                None,
                            )
                        )
                    ),
                ),
            ),
        ),
    ),
    Case("counters and other sums", (of(SERVICE, counter("c", number(7, {"a": "b"})), up_down("u", number(-7.5))),)),
    Case("points in time", (of({}, gauge("g", *(number(index, at_ms=index * 100) for index in range(5)))),)),
    Case("names of gauges", (of({}, *(gauge(name) for name in NAMES)),)),
    Case("names of counters", (of({}, *(counter(name) for name in NAMES)),)),
    Case("units of gauges", (of({}, *(gauge(f"g{index}", unit=unit) for index, unit in enumerate(UNITS))),)),
    Case("units of counters", (of({}, *(counter(f"c{index}", unit=unit) for index, unit in enumerate(UNITS))),)),
    Case("units of other sums", (of({}, *(up_down(f"u{index}", unit=unit) for index, unit in enumerate(UNITS))),)),
    Case(
        "units that the name has already",
        (
            of(
                {},
                gauge("disk.bytes", unit="By"),
                counter("bytes.read", unit="By"),
                gauge("x.per.second", unit="m/s"),
                gauge("fill.ratio", unit="1"),
                counter("hits.total", unit="1"),
                gauge("seconds", unit="s"),
            ),
        ),
    ),
    Case(
        "a unit that ends in another character",
        (of({}, gauge("g", unit="foo?")),),
        (
            Difference(
                "The specification wants runs of underscores collapsed; Prometheus leaves one after a unit.",
                prometheus=lines("g_foo_{} 1"),
                gateway=lines("g_foo{} 1"),
            ),
        ),
    ),
    Case(
        "histograms",
        (
            of(
                SERVICE,
                histogram(
                    "h",
                    buckets([-0.5, 0.25, 10, 1e6, 1e21], [1, 2, 3, 0, 0, 4], {"k": "all"}, sum=1.5),
                    buckets([1e-7, 0.1], [1, 1, 1], {"k": "small"}, sum=-1.0),
                    buckets([], [], {"k": "no buckets"}, count=9, sum=2.0),
                    buckets([], [4], {"k": "one bucket, no sum"}),
                    buckets([1.0, float("inf")], [2, 3, 0], {"k": "infinity named", "le": "mine"}, sum=float("nan")),
                    unit="ms",
                ),
            ),
        ),
    ),
    Case(
        "a histogram whose buckets do not fit",
        (of({}, histogram("h", buckets([1.0, 2.0], [1, 2]))),),
        (
            Difference(
                "OTLP requires one count more than bounds; the gateway counts such a point as invalid.",
                prometheus=lines('h_bucket{le="1"} 1', 'h_bucket{le="2"} 3', 'h_bucket{le="+Inf"} 3', "h_count{} 3"),
            ),
        ),
        dropped=("invalid_point", 1),
    ),
    Case("summaries", (of(SERVICE, summary("s", {0: 1, 0.5: 2, 0.99: float("nan"), 1: 1e9}, {"quantile": "mine"})),)),
    Case(
        "exponential histograms",
        (
            of(
                {},
                gauge("g"),
                Metric(
                    name="e",
                    exponential_histogram=ExponentialHistogram(
                        aggregation_temporality=CUMULATIVE,
                        data_points=[ExponentialHistogramDataPoint(count=1, zero_count=1)],
                    ),
                ),
            ),
        ),
        (Difference("Remote write 1 has no native histograms.", prometheus=lines("e{} histogram")),),
        dropped=("exponential_histogram_unsupported", 1),
    ),
    Case(
        "delta temporality",
        (of({}, gauge("g"), counter("d", temporality=DELTA)),),
        (Difference("What is good of the request is taken.", gateway=lines("g{} 1")),),
        refused=True,
        dropped=("delta_temporality_unsupported", 1),
    ),
    Case(
        "a metric without a usable name",
        (of({}, gauge("g"), gauge("温度")),),
        (Difference("What is good of the request is taken.", gateway=lines("g{} 1")),),
        refused=True,
        dropped=("invalid_point", 1),
    ),
    Case(
        "values of attributes",
        (
            labelled(
                {"text": 'a"b\\c\nd é 温', "yes": True, "no": False, "int": -5, "big": 2**62},
                {"half": 0.5, "whole": 3.0, "large": 1e21, "small": 1e-7, "nan": float("nan"), "inf": float("-inf")},
                {"bytes": b"\x00\xff\x10", "no bytes": b"", "list": ["x", 1, 2.5, None, [True]], "no list": []},
                {"map": {"a": 1, "b": {"c": "<&>"}}, "no map": {}, "empty": "", "none": None},
                {"mixed": {"z": 1, "a": [{"y": b"\x01", "x": "\u0007\t"}]}},
            ),
        ),
    ),
    Case(
        "keys of attributes",
        (
            labelled(
                *(
                    {key: "v"}
                    for key in (
                        "http.request.method",
                        "Case-Kept",
                        "1st",
                        "_one",
                        "9",
                        "a..b",
                        "größe",
                        "é",
                        "-",
                        "a:b",
                        "x ",
                        "le",
                        "quantile",
                        "job",
                        "instance",
                        "__name__",
                    )
                ),
            ),
        ),
    ),
    Case(
        "keys with two underscores",
        (labelled({"__meta": "v", "n": "1"}),),
        (
            Difference(
                "Labels that begin with two underscores are temporary in relabelling rules, and end with them.",
                prometheus=lines('g{__meta="v",n="1"} 0'),
                gateway=lines('g{n="1"} 0'),
            ),
        ),
    ),
    Case(
        "keys of which nothing is left",
        (labelled({"..": "1"}, {"": "2", "n": "2"}),),
        (
            Difference(
                "A point is taken with the labels that it can have.", gateway=lines('g{key__="1"} 0', 'g{n="2"} 1')
            ),
        ),
        refused=True,
    ),
    Case(
        "keys that become equal",
        (
            labelled(
                [("a.b", "1"), ("a_b", "2"), ("a/b", "3")],
                [("b/a", "1"), ("b_a", "2"), ("b.a", "3")],
                [("c", "x"), ("c!", "only similar"), ("c.", "y")],
            ),
        ),
    ),
    Case(
        "an empty value among keys that become equal",
        (labelled([("a.b", "1"), ("a_b", "")]),),
        (
            Difference(
                "An empty value is an absent label: there is nothing to join.",
                prometheus=lines('g{a_b="1;"} 0'),
                gateway=lines('g{a_b="1"} 0'),
            ),
        ),
    ),
    Case(
        "attributes that the service overrules",
        (of(SERVICE, gauge("g", number(1, {"job": "mine", "instance": "mine", "k": "v"}))),),
    ),
    Case("no service", (of({"host.name": "h1"}, gauge("g")),)),
    Case("only a name", (of({"service.name": "shop", "host.name": "h1"}, gauge("g")),)),
    Case("only an instance", (of({"service.instance.id": 7, "host.name": "h1"}, gauge("g")),)),
    Case("only a namespace", (of({"service.namespace": "eu", "host.name": "h1"}, gauge("g")),)),
    Case(
        "an empty namespace",
        (of({"service.namespace": "", "service.name": "lone", "service.instance.id": "0"}, gauge("g")),),
        (
            Difference(
                "An empty attribute is an absent one.",
                prometheus=lines('g{instance="0",job="/lone",service_name="lone"} 1'),
                gateway=lines('g{instance="0",job="lone",service_name="lone"} 1'),
            ),
        ),
    ),
    Case(
        "target_info",
        (
            of(
                {**SERVICE, "host.name": "h1", "process.pid": 42, "é": "e", "a.b": "1", "a_b": "2", "none": ""},
                gauge("g"),
            ),
            of({"service.name": "bare"}, gauge("b")),
            of({"service.name": "other", "job": "mine", "list": ["x"]}, counter("c")),
        ),
    ),
    Case(
        "target_info of points at several times",
        (of({"service.name": "timed", "host.name": "h1"}, gauge("t", number(1), number(2, at_ms=900))),),
        (
            Difference(
                "One target_info a request, at its latest time; Prometheus fills the time from the earliest on.",
                prometheus=lines('target_info{host_name="h1",job="timed"} 1'),
            ),
        ),
    ),
    Case(
        "promoted resource attributes",
        (
            of(
                {**SERVICE, "cloud.region": "eu-1", "k8s.pod.name": "p-0", "host.name": "h1"},
                gauge("g", number(1, {"k": "v"}), number(2, {"k8s.pod.name": "nearer"})),
                histogram("h", buckets([1.0], [1, 1], sum=2.0)),
            ),
        ),
    ),
    Case("scopes", (ResourceMetrics(resource=Resource(attributes=attributes(SERVICE)), scope_metrics=SCOPES),)),
)
