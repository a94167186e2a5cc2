"""Prometheus, which refuses what is out of order, takes every sample that four shards send it side by side."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.backends import Prometheus
from tests.support.clients import bearer, send_http
from tests.support.gateway import base_config, run_gateway
from tests.support.payloads import metrics
from tests.support.processes import wait_until

SERIES = 40
TURNS = 50


def test_prometheus_takes_every_sample_of_every_series(tmp_path: Path, prometheus: Prometheus) -> None:
    config = base_config(tmp_path)
    config["destinations"] = {"prometheus": {"type": "remote_write", "url": prometheus.write_url, "shards": 4}}
    config["defaults"] = {"routes": {"metrics": ["prometheus"]}}
    begin_ns = time.time_ns() - TURNS * 1_000_000_000

    with run_gateway(tmp_path, config) as gateway:

        def send(application: int) -> None:
            """Each application sends its turns one after the other."""
            for turn in range(TURNS):
                request = metrics(SERIES // 2, name="sharded", service=f"sharded-{application}")
                for point in request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points:
                    point.time_unix_nano = begin_ns + turn * 1_000_000_000
                    point.as_int = turn
                answer = send_http(gateway, request.SerializeToString(), signal="metrics", headers=bearer("acme-key"))
                assert answer.code == "OK"

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(send, range(2)))
        gateway.wait_delivered()
        delivered = gateway.total("gateway_delivered_items_total", destination="prometheus")
        assert gateway.total("gateway_dropped_items_total") == 0
        assert gateway.unaccounted() == 0
    assert delivered >= SERIES * TURNS
    counted = f'count_over_time(sharded_total{{job=~"sharded-.*"}}[{2 * TURNS}s])'
    wait_until(lambda: len(prometheus.query(counted)) == SERIES, "all series")
    assert {int(found["value"][1]) for found in prometheus.query(counted)} == {TURNS}
