"""Bits of the queue's files that flip while it is down: no crash, what is damaged is named, and the rest arrives."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fault.harness.backend_control import run_backend
from tests.fault.harness.behaviour import refusing
from tests.fault.harness.clients import Clients, Sent
from tests.fault.harness.daemon import Daemon, config_for
from tests.fault.harness.judge import judge
from tests.fault.harness.scale import SEED, Note, scaled
from tests.support.processes import wait_until

TENANTS = ["acme", "globex"]
PAGE = 4096
# How many lie in the queue, and how much is added to each: a record of five takes pages of its own.
ITEMS, PADDING = 500, 2000


@dataclass(frozen=True)
class Backlog:
    """A queue folder, what lies in it, and the configuration that wrote it."""

    queue: Path
    sent: Sent
    config: dict[str, Any]

    def copy_to(self, folder: Path) -> Path:
        """A queue to damage, for a daemon in `folder`."""
        return Path(shutil.copytree(self.queue, folder / "queue", ignore=shutil.ignore_patterns("*.sock")))


@pytest.fixture(scope="module")
def backlog(tmp_path_factory: pytest.TempPathFactory) -> Backlog:
    folder = tmp_path_factory.mktemp("backlog")
    with run_backend(folder, seed=SEED) as backend:
        backend.treat(refusing(503))
        config = config_for(folder, backend, TENANTS)
        with Daemon(folder, config) as daemon:
            clients = Clients(daemon.gateway, tenants=TENANTS, seed=SEED, count=5, padding=PADDING, threads=2)
            with clients:
                wait_until(lambda: clients.sent.ok_count() >= ITEMS, "the backlog")
            daemon.kill()
    return Backlog(folder / "queue", clients.sent, config)


def files_with_records(folder: Path) -> list[Path]:
    """The queue's files, the largest ones first: those that hold the records."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size >= PAGE]
    return sorted(files, key=lambda path: -path.stat().st_size)


def flip(folder: Path, flips: int, dice: random.Random, pages: Sequence[int] | None = None) -> str:
    """Flip single bits of the largest file, somewhere, or in one of `pages`; what was done."""
    path = files_with_records(folder)[0]
    content = bytearray(path.read_bytes())
    where = []
    for _ in range(flips):
        page = dice.choice(pages) if pages is not None else dice.randrange(len(content) // PAGE)
        position, bit = page * PAGE + dice.randrange(PAGE), dice.randrange(8)
        content[position] ^= 1 << bit
        where.append(f"page {page} byte {position % PAGE} bit {bit}")
    path.write_bytes(content)
    return ", ".join(where)


def arrived_from(folder: Path, backlog: Backlog, damage: str) -> float:
    """Start on the damaged queue in `folder` and let it deliver; the share of items that arrived."""
    sent = backlog.sent
    with run_backend(folder, seed=SEED) as backend:
        config = {**backlog.config, "destinations": backend.destinations()}
        config["queue"] = {**config["queue"], "dir": str(folder / "queue")}
        with Daemon(folder, config) as daemon:
            daemon.at_rest()
            arrivals, dropped = backend.arrivals(), daemon.all_dropped()
            ok = sent.names("OK")
            missing = ok - arrivals.times.keys()
            # Of a file that is made anew, what could not be found is not counted, but that it was made anew is said.
            said = dropped or daemon.gateway.total("gateway_queue_rebuilt_records")
            assert bool(missing) <= bool(said), f"{len(missing)} of {len(ok)} are missing without a word: {damage}"
            # How many items a record had whose head is damaged, nobody knows.
            judge(sent, arrivals, dropped=len(missing))
            with Clients(daemon.gateway, tenants=TENANTS, seed=SEED, threads=2) as after:
                wait_until(lambda: len(after.sent.attempts) >= 10, "answers")
            assert set(after.sent.codes()) == {"OK"}, "it goes on to work"
            daemon.at_rest()
            daemon.kill()
    return 1 - len(missing) / len(ok)


def test_bits_that_flip_anywhere_cost_no_more_than_what_they_hit(tmp_path: Path, backlog: Backlog, note: Note) -> None:
    dice = random.Random(SEED)
    shares = []
    for number in range(scaled(3, 80)):
        folder = tmp_path / str(number)
        damage = flip(backlog.copy_to(folder), 7, dice)
        shares.append(arrived_from(folder, backlog, damage))
        shutil.rmtree(folder)
    note(f"{len(shares)} times seven bits; of the items arrived {min(shares):.3f} at the least")
    assert sorted(shares)[len(shares) // 2] >= 0.9


@pytest.mark.parametrize("page", [0, 1])
def test_a_damaged_first_page_stops_nothing(tmp_path: Path, backlog: Backlog, page: int) -> None:
    """LMDB's meta pages, without which it opens nothing."""
    damage = flip(backlog.copy_to(tmp_path), 200, random.Random(SEED + page), [page])
    assert arrived_from(tmp_path, backlog, damage) >= 0.9


def test_a_file_that_ends_too_early_is_read_as_far_as_it_goes(tmp_path: Path, backlog: Backlog) -> None:
    path = files_with_records(backlog.copy_to(tmp_path))[0]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert arrived_from(tmp_path, backlog, "the second half is missing") > 0.2
