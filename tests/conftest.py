"""Fixtures that more than one folder of tests uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import (
    Jaeger,
    Prometheus,
    VictoriaLogs,
    run_jaeger,
    run_prometheus,
    run_victoria_logs,
)
from tests.support.gateway import Gateway, run_gateway
from tests.support.keycloak import Keycloak, run_keycloak


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with run_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(scope="session")
def victoria_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaLogs]:
    with run_victoria_logs(tmp_path_factory.mktemp("victoria-logs")) as server:
        yield server


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    with run_jaeger(tmp_path_factory.mktemp("jaeger")) as server:
        yield server


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """Starts, which takes half a minute, when the first test asks for it."""
    with run_keycloak(tmp_path_factory.mktemp("keycloak")) as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of its own for one test: two tenants, everything to files."""
    with run_gateway(tmp_path) as running:
        yield running
