"""Fixtures of the fault harness."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.harness.backend_control import ScriptedBackend, run_backend
from tests.fault.harness.disk_faults import DiskFaults, compile_shim
from tests.fault.harness.scale import SEED


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled disk shim."""
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def disk(shim: Path, tmp_path: Path) -> Iterator[DiskFaults]:
    """The disk below tmp_path/queue, where `config_for` has the queue."""
    with DiskFaults(shim, tmp_path / "queue", tmp_path / "disk.control") as faults:
        yield faults


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[ScriptedBackend]:
    with run_backend(tmp_path / "backend", seed=SEED) as running:
        yield running
