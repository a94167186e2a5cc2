"""Fixtures of the scenarios, and the summary that the long form ends with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault.harness.backend_control import ScriptedBackend, run_backend
from tests.fault.harness.disk_faults import DiskFaults, compile_shim
from tests.fault.harness.scale import SEED, SOAK, Note

_NOTED = "noted"


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


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """What a scenario came to, for the summary."""

    def noted(*what: object) -> None:
        record_property(_NOTED, "; ".join(map(str, what)))

    return noted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not SOAK:
        return
    terminalreporter.section(f"what the scenarios came to (seed {SEED})")
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call" or outcome == "error":
                terminalreporter.line(f"{outcome:7} {report.duration:6.0f} s  {report.nodeid.rpartition('::')[2]}")
                for name, value in report.user_properties:
                    if name == _NOTED:
                        terminalreporter.line(f"{'':18}{value}")
