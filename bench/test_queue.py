"""The durable queue on records of 1 MiB, in the clear and encrypted: microseconds a record are seconds a terabyte.

Run by `make bench`, or alone: pytest bench/test_queue.py. `commit` is to the disk of the temporary folder.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from gateway.config.models import Queue
from gateway.delivery.disk.frame import Encoder
from gateway.delivery.disk.sealing import DataKey
from gateway.delivery.queue import DurableQueue
from gateway.delivery.record import Record
from gateway.types import Lane, Shard, Signal

SHARD = Shard(Lane("acme", "loki", Signal.LOGS))
SIZE = 1 << 20
# Sixteen parts, as the engine hands them out.
RECORD = Record(SHARD, 8192, 1, 1_700_000_000.0, [os.urandom(SIZE // 16) for _ in range(16)], SIZE)
ENCRYPTED = pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "encrypted"])


@pytest.fixture
def queue(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[DurableQueue]:
    encryption = {"key": "ab" * 32} if request.param else None
    opened = DurableQueue.open(Queue.model_validate({"dir": str(tmp_path), "encryption": encryption}))
    yield opened
    opened.close()


@ENCRYPTED
def test_encode(benchmark: BenchmarkFixture, encrypted: bool) -> None:
    benchmark(Encoder(bytes(16)).encode, 1, RECORD, DataKey(bytes(8), bytes(32)) if encrypted else None)


@pytest.mark.parametrize("queue", [False, True], ids=["clear", "encrypted"], indirect=True)
def test_commit(benchmark: BenchmarkFixture, queue: DurableQueue) -> None:
    benchmark(lambda: queue.commit([(queue.first_sequence, RECORD)], []))


@pytest.mark.parametrize("queue", [False, True], ids=["clear", "encrypted"], indirect=True)
def test_read(benchmark: BenchmarkFixture, queue: DurableQueue) -> None:
    queue.commit([(queue.first_sequence, RECORD)], [])
    benchmark(lambda: list(queue.read(SHARD, 0, SIZE)))


def test_a_mark_of_progress(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    opened = DurableQueue(tmp_path, 1 << 20)
    benchmark(opened.progress.settled, SHARD, 9)
    opened.close()
