"""The demo is a promise of the first page: it runs by itself, in time, and its verdict is good."""

import subprocess
import sys
import time

import pytest


@pytest.mark.alone
def test_the_demo_ends_well_in_under_twenty_five_seconds() -> None:
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--seconds", "8"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert time.monotonic() - started < 25
    assert "unaccounted 0" in result.stdout
    assert "0 reached a backend" in result.stdout
    assert "items waited on disk" in result.stdout
    assert "✗" not in result.stdout
