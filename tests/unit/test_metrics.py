"""The gateway's own metrics page: well-formed by Prometheus' own checker, and documented."""

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import binary
from tests.support.clients import bearer, send_http
from tests.support.gateway import ADMIN_TOKEN, Gateway, accounted_config, run_gateway
from tests.support.payloads import traces

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """One with every section that has metrics."""
    with run_gateway(tmp_path, accounted_config(tmp_path)) as running:
        yield running


def test_promtool_finds_nothing_and_every_metric_is_documented(gateway: Gateway) -> None:
    assert send_http(gateway, traces().SerializeToString(), headers=bearer("acme-key")).code == "OK"
    gateway.wait_delivered()
    request = urllib.request.Request(
        f"{gateway.admin_url}/_metrics", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        page = response.read()
    checked = subprocess.run([binary("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    complaints = [line for line in (checked.stdout + checked.stderr).decode().splitlines() if "gateway_" in line]
    assert not complaints
    exposed = set(re.findall(r"^# TYPE (gateway_\w+)", page.decode(), re.MULTILINE))
    documented = set(re.findall(r"`(gateway_\w+)`", DOCS.read_text()))
    assert exposed == documented
