"""The queue against a list: whatever is done to it, and however a run ends, the list is what is found."""

import random
from pathlib import Path

import pytest

from gateway.delivery.queue import DurableQueue, Stored
from gateway.types import Shard
from tests.support.queue import config, payload, read_all, record, shard

STEPS = 120
SHARDS = [shard("acme"), shard("acme", 1), shard("globex"), shard("globex", destination="other")]
SIZES = (0, 1, 100, 2000, 5000, 40_000)


class Model:
    """A queue, and what must be in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.settings = config(folder, max_bytes="64MiB", encryption={"key": "ab" * 32, "write": seed % 2 == 1})
        self.waiting: dict[Shard, list[tuple[int, bytes]]] = {where: [] for where in SHARDS}
        self.folder = folder
        self.made = 0
        self.open()

    def open(self) -> None:
        self.queue = DurableQueue.open(self.settings)
        self.next = dict.fromkeys(SHARDS, self.queue.first_sequence)

    def put(self) -> None:
        puts = []
        for where in self.chance.choices(SHARDS, k=self.chance.randrange(1, 5)):
            self.made += 1
            content = payload(self.made, self.chance.choice(SIZES))
            puts.append((self.next[where], record(where, content)))
            self.waiting[where].append((self.next[where], content))
            self.next[where] += 1
        self.queue.commit(puts, [])

    def deliver(self) -> None:
        where = self.chance.choice(SHARDS)
        delivered = self.waiting[where][: self.chance.randrange(4)]
        if not delivered:
            return
        self.queue.progress.under_way(where, delivered[-1][0] + 1)
        self.queue.progress.settled(where, delivered[-1][0] + 1)
        self.waiting[where] = self.waiting[where][len(delivered) :]
        if self.chance.random() < 0.5:
            self.queue.commit([], [(where, sequence) for sequence, _ in delivered])
        else:
            # The run ends before they leave the disk.
            self.reopen()

    def reopen(self) -> None:
        self.queue.close()
        self.open()

    def rewrite(self) -> None:
        self.queue._rewrite()

    def lose_the_tree(self) -> None:
        self.queue.close()
        with (self.folder / "data.mdb").open("r+b") as file:
            for page in (0, 1):
                file.seek(page * 4096 + 16)
                file.write(b"nonsense")
        self.open()

    def check(self) -> None:
        for where, expected in self.waiting.items():
            found = list(read_all(self.queue, where))
            assert all(isinstance(read, Stored) for read in found)
            assert [(read.sequence, read.record.payload) for read in found if isinstance(read, Stored)] == expected
        backlog = self.queue.backlog()
        assert {where: found.size for where, found in backlog.items()} == {
            where: sum(len(content) for _, content in expected) for where, expected in self.waiting.items() if expected
        }


@pytest.mark.parametrize("seed", range(4))
def test_the_queue_is_what_was_put_and_not_delivered(tmp_path: Path, seed: int) -> None:
    model = Model(tmp_path / "queue", seed)
    for _ in range(STEPS):
        step = model.chance.choices(
            [model.put, model.deliver, model.reopen, model.rewrite, model.lose_the_tree], weights=[8, 8, 1, 1, 1]
        )[0]
        step()
        model.check()
    assert model.made > STEPS // 2
    model.queue.close()
