"""Prometheus as the oracle: its own OTLP endpoint and our remote write must make the same series of the same metrics.

One Prometheus gets OTLP directly, another gets it through the gateway. What differs on purpose is in the cases, as
data, with the reason; all that the gateway writes has the label `tenant` besides.
"""

import itertools
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar

from tests.support.backends import Prometheus, get, run_prometheus
from tests.support.clients import bearer, send_http
from tests.support.gateway import Gateway, base_config, run_gateway
from tests.support.metric_cases import (
    CASES,
    PROMOTED,
    UNITS,
    Case,
    buckets,
    counter,
    gauge,
    histogram,
    number,
    of,
    stamped,
    up_down,
)
from tests.support.processes import wait_until

SECONDS_A_CASE = 1
"""Each case has its own second: that is how its samples are told from those of others."""
SPARE_SECONDS = 200
"""After the last case, for random ones."""


@dataclass
class Sides:
    """The oracle and the gateway, each with what Prometheus has of them after all cases were sent."""

    oracle: Prometheus
    gateway: Gateway
    behind_gateway: Prometheus
    begin_ms: int
    refused: set[str] = field(default_factory=set)
    spare: Iterator[int] = field(default_factory=itertools.count)

    def begin_of(self, case: Case) -> int:
        return self.begin_ms + CASES.index(case) * SECONDS_A_CASE * 1000

    def send(self, payload: bytes) -> bool:
        """The same bytes to both; whether the oracle took them. The gateway must."""
        answer = send_http(self.gateway, payload, signal="metrics", headers=bearer("acme-key"))
        assert answer.code == "OK", answer
        request = urllib.request.Request(
            f"{self.oracle.url}/api/v1/otlp/v1/metrics", payload, {"content-type": "application/x-protobuf"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10):
                return True
        except urllib.error.HTTPError:
            return False


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    folder = tmp_path_factory.mktemp("conversion")
    config = base_config(folder)
    promoted = {"promote_resource_attributes": list(PROMOTED)}
    with (
        run_prometheus(folder / "oracle", otlp=promoted) as oracle,
        run_prometheus(folder / "behind") as behind_gateway,
    ):
        config["destinations"] = {"prom": {"type": "remote_write", "url": behind_gateway.write_url, **promoted}}
        config["defaults"] = {"routes": {"metrics": ["prom"]}}
        with run_gateway(folder / "gateway", config) as gateway:
            begin_ms = (int(time.time()) - SPARE_SECONDS - len(CASES) * SECONDS_A_CASE) * 1000
            sides = Sides(oracle, gateway, behind_gateway, begin_ms)
            for case in CASES:
                if not sides.send(stamped(case.sent, sides.begin_of(case)).SerializeToString()):
                    sides.refused.add(case.name)
            gateway.wait_delivered()
            yield sides


def samples(prometheus: Prometheus, begin_ms: int) -> set[str]:
    """`name{labels} value` of every sample in the second that begins then; later ones with how much later."""
    end_ms = begin_ms + SECONDS_A_CASE * 1000 - 1
    # A range is open at its begin.
    answer = json.loads(
        get(
            f"{prometheus.url}/api/v1/query",
            query=f'{{__name__=~".+"}}[{end_ms - begin_ms + 1}ms]',
            time=f"{end_ms / 1000:.3f}",
        )
    )
    found = set()
    for series in answer["data"]["result"]:
        labels = dict(series["metric"])
        name = labels.pop("__name__")
        shown = ",".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(labels.items()))
        values = [*series.get("values", []), *([at, "histogram"] for at, _ in series.get("histograms", []))]
        for at, value in values:
            later_ms = round(at * 1000) - begin_ms
            found.add(f"{name}{{{shown}}} {value}" + (f" +{later_ms} ms" if later_ms else ""))
    return found


def without_tenant(lines: set[str]) -> set[str]:
    """The lines without the label that the gateway gives to every series; each must have it."""
    assert all('tenant="acme"' in line for line in lines), lines
    return {
        line.replace(',tenant="acme"', "").replace('tenant="acme",', "").replace('tenant="acme"', "") for line in lines
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_gateway_writes_the_series_that_prometheus_makes_itself(sides: Sides, case: Case) -> None:
    begin_ms = sides.begin_of(case)
    expected = samples(sides.oracle, begin_ms)
    assert (case.name in sides.refused) == case.refused
    assert bool(expected) != case.refused, "a case that shows nothing"
    for difference in case.differences:
        assert difference.prometheus <= expected, f"no longer so: {difference.reason}"
        expected = (expected - difference.prometheus) | difference.gateway
    assert without_tenant(samples(sides.behind_gateway, begin_ms)) == expected


def is_alike(key: str) -> bool:
    """Whether both sides make the same label of a key; the cases say what they make of others, and why."""
    return not re.sub("[^a-zA-Z0-9]", "_", key).startswith("__")


def unit_is_alike(unit: str) -> bool:
    main = unit.split("/")[0].strip()
    return main in ("", "%") or main[-1].isalnum() or "{" in main or "}" in main


METRICS = st.tuples(
    st.sampled_from([gauge, counter, up_down]),
    st.text("abz09_.-:é/ ", min_size=1, max_size=8).filter(lambda name: re.search("[a-z0-9]", name) is not None),
    st.one_of(st.sampled_from(UNITS), st.text("ms1%By/-{} ", max_size=5).filter(unit_is_alike)),
    st.dictionaries(
        st.text("aB1_.-é:/ ", min_size=1, max_size=4).filter(is_alike),
        st.one_of(st.text(min_size=1, max_size=3), st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans()),
        max_size=4,
    ),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(METRICS, min_size=1, max_size=40))
def test_random_names_units_and_attributes_make_the_same_series(sides: Sides, metrics: list[Any]) -> None:
    begin_ms = sides.begin_ms + (len(CASES) + next(sides.spare)) * SECONDS_A_CASE * 1000
    # The attribute n tells series apart whose names became equal.
    sent = [
        make(name, number(n, {**labels, "n": n}), unit=unit) for n, (make, name, unit, labels) in enumerate(metrics)
    ]
    assert sides.send(stamped([of({}, *sent)], begin_ms).SerializeToString())
    sides.gateway.wait_delivered()
    expected = samples(sides.oracle, begin_ms)
    assert len(expected) == len(sent)
    assert without_tenant(samples(sides.behind_gateway, begin_ms)) == expected


def test_all_that_is_not_written_is_counted(sides: Sides) -> None:
    for reason in {case.dropped[0] for case in CASES if case.dropped}:
        expected = sum(case.dropped[1] for case in CASES if case.dropped and case.dropped[0] == reason)
        assert sides.gateway.total("gateway_dropped_items_total", reason=reason) == expected
    all_drops = sum(case.dropped[1] for case in CASES if case.dropped)
    assert sides.gateway.total("gateway_dropped_items_total") == all_drops
    assert sides.gateway.unaccounted() == 0


def test_a_point_without_value_ends_its_series_on_both_sides(sides: Sides) -> None:
    begin_ms = int(time.time() - 30) * 1000
    for at_ms, flags in ((begin_ms, 0), (begin_ms + 500, 1)):
        points = [number(1), buckets([1.0], [1, 1], sum=2.0)]
        for point in points:
            point.flags = flags
        metrics = (gauge("ending", points[0]), histogram("ending_h", points[1]))
        assert sides.send(stamped([of({}, *metrics)], at_ms).SerializeToString())
    sides.gateway.wait_delivered()
    for prometheus in (sides.oracle, sides.behind_gateway):
        for name, series in (("ending", 1), ("ending_h_bucket", 2), ("ending_h_sum", 1), ("ending_h_count", 1)):
            assert len(prometheus.query(f"{name} @ {begin_ms / 1000 + 0.4}")) == series
            assert len(prometheus.query(f"{name} @ {begin_ms / 1000 + 0.6}")) == 0


def exemplar(value: float, at_ms: int, **ids: bytes) -> Exemplar:
    return Exemplar(as_double=value, time_unix_nano=at_ms * 1_000_000, **ids)


def exemplars(prometheus: Prometheus) -> list[Any]:
    answer = json.loads(
        get(f"{prometheus.url}/api/v1/query_exemplars", query='{__name__=~"traced.+"}', start="0", end="9999999999")
    )
    found = []
    for series in answer["data"]:
        labels = {name: value for name, value in series["seriesLabels"].items() if name != "tenant"}
        found += [(sorted(labels.items()), sorted(one["labels"].items()), one["value"], one["timestamp"])
                  for one in series["exemplars"]]  # fmt: skip
    return sorted(found)


def test_exemplars_lead_to_the_same_traces_on_both_sides(sides: Sides) -> None:
    now_ms = int(time.time() * 1000)
    ids = {"trace_id": bytes(range(16)), "span_id": bytes(range(8))}
    total, latency = number(3), buckets([1.0, 5.0], [2, 1, 1], sum=9.0)
    total.exemplars.extend([exemplar(2, now_ms - 10, **ids), exemplar(1, now_ms - 20)])
    # In buckets by value, in a bucket by time.
    latency.exemplars.extend(
        exemplar(value, now_ms - age_ms, **ids) for value, age_ms in ((0.5, 30), (0.75, 40), (2.0, 20), (9.0, 50))
    )
    metrics = (counter("traced", total), histogram("traced_latency", latency))
    assert sides.send(stamped([of({}, *metrics)], now_ms).SerializeToString())
    sides.gateway.wait_delivered()
    wait_until(lambda: len(exemplars(sides.behind_gateway)) == 6, "the exemplars to arrive")
    assert exemplars(sides.behind_gateway) == exemplars(sides.oracle)
