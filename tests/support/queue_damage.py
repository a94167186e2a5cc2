"""Damages a queue's file in one place and opens it; a process of its own, since LMDB may take it down with it.

    python -m tests.support.queue_damage FOLDER SEED TIMES

prints one JSON line each time: where, how the start went, and what is wrong afterwards, which should be nothing.
"""

import json
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.delivery.disk.pages import PageFile
from gateway.delivery.disk.survey import RECORDS
from gateway.delivery.queue import DurableQueue, Stored
from gateway.types import Shard
from tests.support.queue import payload, payloads, read_all, record, shard

SHARDS = [shard(tenant, number) for tenant in ("acme", "globex", "initech") for number in (0, 1)]
# In a leaf page, just over one page, several pages.
SIZES = (30, 300, 1500, 3900, 5000, 20_000)
PAGE, SECTOR, META_BYTES = 4096, 512, 152


@dataclass(frozen=True)
class Written:
    """What is in the queue that is damaged."""

    payloads: dict[Shard, list[bytes]]
    delivered: dict[Shard, list[bytes]]


def write_queue(folder: Path) -> Written:
    """Records of all sizes, free pages with delivered ones, a quarantined one."""
    queue = DurableQueue(folder, 64 << 20)
    kept: dict[Shard, list[bytes]] = {where: [] for where in SHARDS}
    delivered: dict[Shard, list[bytes]] = {where: [] for where in SHARDS}
    for step in range(12):
        sequence = queue.first_sequence + step
        made = {where: payload((where, step), SIZES[(step + place) % len(SIZES)]) for place, where in enumerate(SHARDS)}
        queue.commit([(sequence, record(where, content)) for where, content in made.items()], [])
        for where, content in made.items():
            kept[where].append(content)
        if step % 3 == 2:
            for where in SHARDS:
                delivered[where].append(kept[where].pop(0))
                first = queue.first_sequence + len(delivered[where])
                queue.progress.settled(where, first)
            queue.commit([], [(where, queue.first_sequence + len(delivered[where]) - 1) for where in SHARDS])
    queue.close()
    return Written(kept, delivered)


def frames(file: Path) -> list[tuple[int, int]]:
    """Where the records lie."""
    with PageFile(file) as pages:
        return [(entry.offset, entry.offset + entry.size) for entry in pages.entries() if entry.database == RECORDS]


@dataclass(frozen=True)
class Damage:
    """Other bytes at a place."""

    place: int
    content: bytes

    def hits(self, start: int, end: int) -> bool:
        return start < self.place + len(self.content) and self.place < end


def damages(file: Path, seed: int, times: int) -> Iterator[Damage]:
    """By turns a wrong bit: in what the first two pages say, in the first bytes of a page, anywhere; a lost sector."""
    chance, whole = random.Random(seed), file.read_bytes()
    pages = len(whole) // PAGE
    for number in range(times):
        match number % 4:
            case 0:
                place = chance.randrange(2) * PAGE + chance.randrange(META_BYTES)
            case 1:
                place = chance.randrange(pages) * PAGE + chance.randrange(64)
            case 2:
                place = chance.randrange(len(whole))
            case _:
                sector = chance.randrange(len(whole) // SECTOR) * SECTOR
                yield Damage(sector, chance.choice((bytes(SECTOR), chance.randbytes(SECTOR))))
                continue
        yield Damage(place, bytes((whole[place] ^ 1 << chance.randrange(8),)))


def whats_wrong(folder: Path, written: Written, hit: int) -> tuple[bool, list[str]]:
    """Open, read, write, and open again; whether the file was made anew, and what is not as it should be."""
    wrong: list[str] = []
    queue = DurableQueue(folder, 64 << 20)
    rebuilt = queue.disk_stats().rebuilt_records is not None
    backlog = queue.backlog()
    missing = 0
    for where, expected in written.payloads.items():
        found = payloads(queue, where)
        corrupt = sum(not isinstance(read, Stored) for read in read_all(queue, where))
        missing += len(set(expected) - set(found))
        if set(found) - set(expected) - set(written.delivered[where]):
            wrong.append(f"{where} has a payload that nobody wrote")
        if set(found) & set(written.delivered[where]):
            wrong.append(f"{where} has a record that was delivered")
        if [content for content in expected if content in found] != found:
            wrong.append(f"{where} is out of order, or has a record twice")
        counted = backlog[where].records if where in backlog else 0
        if counted != len(found) + corrupt:
            wrong.append(f"{where} counts {counted} records, and has {len(found)} and {corrupt} corrupt ones")
    if missing > hit:
        wrong.append(f"{missing} records are missing, and {hit} were hit")
    where = SHARDS[0]
    before = payloads(queue, where)
    new = [payload(("new", number), size) for number, size in enumerate(SIZES)]
    queue.commit([(queue.first_sequence + number, record(where, content)) for number, content in enumerate(new)], [])
    queue.close()
    queue = DurableQueue(folder, 64 << 20)
    if payloads(queue, where) != before + new:
        wrong.append("what was written after the start is not there at the next one")
    if queue.disk_stats().rebuilt_records is not None:
        wrong.append("the file that was mended is damaged again")
    queue.close()
    return rebuilt, wrong


def main(work: Path, seed: int, times: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sound, damaged = work / "sound", work / "damaged"
    written = write_queue(sound)
    records = frames(sound / "data.mdb")
    for damage in damages(sound / "data.mdb", seed, times):
        shutil.copytree(sound, damaged)
        with (damaged / "data.mdb").open("r+b") as file:
            file.seek(damage.place)
            file.write(damage.content)
        hit = sum(damage.hits(*record) for record in records)
        where = {"page": damage.place // PAGE, "byte": damage.place % PAGE, "bytes": len(damage.content)}
        # Before anything happens, so that it is seen if the process ends here.
        sys.stdout.write(json.dumps(where) + " ")
        sys.stdout.flush()
        rebuilt, wrong = whats_wrong(damaged, written, hit)
        sys.stdout.write(json.dumps({"rebuilt": rebuilt, "wrong": wrong}) + "\n")
        shutil.rmtree(damaged)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
