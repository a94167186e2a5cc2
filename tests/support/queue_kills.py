"""Runs on one queue folder that are killed at any moment, also while they start; what each was told is remembered.

    python -m tests.support.queue_kills FOLDER SEED RUNS

prints what was kept and never delivered, what was delivered, and how many runs came to a commit: JSON, places as shard
and sequence.
"""

import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import structlog

from gateway.delivery.queue import DurableQueue
from tests.support.queue import payload, record, shard

SHARDS = 3
# A start is a few synced writes.
LONGEST_START_S, LONGEST_COMMIT_S = 0.15, 0.03


def run(folder: Path, seed: int, told: int) -> None:
    """Commit, deliver, delete, until killed; a line for each thing that is certain, and for each that is begun."""
    chance = random.Random(seed)

    def tell(what: str, number: int, sequence: int) -> None:
        os.write(told, f"{what} {number} {sequence}\n".encode())

    queue = DurableQueue(folder, 64 << 20)
    waiting: dict[int, list[int]] = {}
    for number in range(SHARDS):
        found = list(queue.read(shard(number=number), 0, 1 << 30))
        waiting[number] = [stored.sequence for stored in found]  # type: ignore[union-attr]
    sequence = queue.first_sequence
    while True:
        number = chance.randrange(SHARDS)
        content = payload((number, sequence), chance.choice((10, 3000, 9000)))
        queue.commit([(sequence, record(shard(number=number), content))], [])
        tell("kept", number, sequence)
        waiting[number].append(sequence)
        sequence += 1
        done, waiting[number] = waiting[number][:2], waiting[number][2:]
        # Less than comes, so that something is left at the end.
        if done and chance.random() < 0.4:
            queue.progress.under_way(shard(number=number), done[-1] + 1)
            for one in done:
                tell("sent", number, one)
            queue.progress.settled(shard(number=number), done[-1] + 1)
            for one in done:
                tell("delivered", number, one)
            if chance.random() < 0.7:
                queue.commit([], [(shard(number=number), one) for one in done])
        else:
            waiting[number] = done + waiting[number]


def main(folder: Path, seed: int, runs: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    chance = random.Random(seed)
    events: dict[str, set[tuple[int, int]]] = {"kept": set(), "sent": set(), "delivered": set()}
    committing = 0
    for number in range(runs):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            run(folder, seed * 1000 + number, writing)
        os.close(writing)
        with open(reading, encoding="ascii") as lines:
            said = []
            if number % 2:
                time.sleep(chance.uniform(0.002, LONGEST_START_S))
            else:
                # Whatever the disk's pace: after so many things that were said, and a moment.
                said = list(itertools.islice(lines, chance.randrange(1, 20)))
                time.sleep(chance.uniform(0, LONGEST_COMMIT_S))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            said += list(lines)
        committing += bool(said)
        for what, place, sequence in map(str.split, said):
            events[what].add((int(place), int(sequence)))
    sys.stdout.write(
        json.dumps(
            {
                "kept": sorted(events["kept"] - events["sent"]),
                "delivered": sorted(events["delivered"]),
                "committing": committing,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
