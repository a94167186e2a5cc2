"""A demo that cannot run says why, once, and leaves nothing behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import Process

# Something of the demo's gateway is spoiled, then the demo runs as the command does.
SCRIPT = """
import os, sys, psutil
from gateway.demo import setup
setup.{name} = {value}
from gateway.demo.command import run
code = run(4, False)
assert not psutil.Process().children(), "the gateway still runs"
assert not os.listdir(os.environ["TMPDIR"]), "files are left"
sys.exit(code)
"""
SPOILED = {
    "its configuration": ("_CONFIG", 'setup._CONFIG.replace("256MiB", "3 parsecs")', "queue.max_bytes: write a value"),
    "its queue": (
        "_CONFIG",
        'setup._CONFIG.replace("{queue}", "/proc/queue")',
        "cannot write to the queue folder /proc/queue",
    ),
    "its time": ("_START_TIMEOUT_S", "0.01", "the gateway did not start in 0.01 s"),
}


@pytest.mark.parametrize(("name", "value", "message"), SPOILED.values(), ids=SPOILED)
def test_a_gateway_that_does_not_start_is_one_clear_message(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(name=name, value=value)],
        env={"TMPDIR": str(tmp_path), "GRPC_VERBOSITY": "ERROR"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert "the gateway did not start" in result.stdout
    assert message in result.stdout


@pytest.mark.parametrize("arguments", [("sink", "--http-port", "0", "--grpc-port", "0"), ("demo", "--seconds", "60")])
def test_ctrl_c_ends_it_without_noise(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process = Process([sys.executable, "-m", "gateway", *arguments], log=tmp_path / "log", env={"COLUMNS": "500"})
    started = {"sink": "Ctrl-C stops", "demo": "gateway on "}[arguments[0]]
    try:
        process.wait_ready(lambda: started in process.output())
        process.signal(signal.SIGINT)
        assert process.wait(10) == {"sink": 0, "demo": 1}[arguments[0]]
    finally:
        process.kill()
    for noise in ("Traceback", "Exception ignored", "Warning", "Task"):
        assert noise not in process.output()
