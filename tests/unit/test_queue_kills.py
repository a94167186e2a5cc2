"""Killed at any moment, also while it starts: what was kept is there, what was delivered is not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.delivery.queue import DurableQueue, Stored
from tests.support.queue import payload, read_all, shard
from tests.support.queue_kills import SHARDS

RUNS = 40
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [1])
def test_no_kill_loses_what_was_kept_or_sends_again_what_was_delivered(tmp_path: Path, seed: int) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.queue_kills", str(tmp_path), str(seed), str(RUNS)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    outcome = json.loads(run.stdout)
    queue = DurableQueue(tmp_path, 64 << 20)
    found: set[tuple[int, int]] = set()
    for number in range(SHARDS):
        for stored in read_all(queue, shard(number=number)):
            assert isinstance(stored, Stored)
            assert stored.record.payload == payload((number, stored.sequence), stored.record.size)
            found.add((number, stored.sequence))
    backlog = sum(backlog.records for backlog in queue.backlog().values())
    queue.close()
    kept, delivered = ({tuple(place) for place in outcome[what]} for what in ("kept", "delivered"))
    assert kept - found == set()
    assert delivered & found == set()
    assert backlog == len(found)
    # It shows something only if many were killed after a commit; how many before, the disk decides.
    assert outcome["committing"] >= RUNS // 2
    assert len(delivered) > 10
    assert kept
