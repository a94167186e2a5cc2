"""Fixtures that more than one folder of tests uses."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.alone import Turns
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

# An example that has to wait for its turn of a processor is no slow example.
settings.register_profile("shared machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
_TURNS = pytest.StashKey[Turns]()


def pytest_configure(config: pytest.Config) -> None:
    # Only pytest-xdist's workers have this; their temporary folders lie side by side.
    if hasattr(config, "workerinput"):
        config.stash[_TURNS] = Turns(Path(config.getoption("basetemp")).parent)


# First, so that pytest-timeout does not count the wait.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    turns = item.config.stash.get(_TURNS, None)
    if turns is None:
        return (yield)
    alone, next_alone = (one is not None and one.get_closest_marker("alone") is not None for one in (item, nextitem))
    with turns.turn(alone=alone, stays=next_alone):
        return (yield)


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
