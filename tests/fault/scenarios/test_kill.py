"""kill -9 at any moment: what was answered OK arrives, the ledger closes, and only what was in flight comes twice."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.fault.harness.backend_control import ScriptedBackend
from tests.fault.harness.behaviour import Behaviour, Kind, refusing
from tests.fault.harness.clients import Clients
from tests.fault.harness.daemon import Daemon, config_for
from tests.fault.harness.disk_faults import DiskFaults, Kill
from tests.fault.harness.judge import judge
from tests.fault.harness.scale import SEED, Note, scaled
from tests.support.gateway import sha256

TENANTS = ["acme", "globex", "initech"]
# Mostly well, sometimes slow, refusing, or gone before it has answered: something is always queued or under way.
MOODY = (
    Behaviour(share=8),
    Behaviour(delay_s=0.05, share=4),
    refusing(503),
    Behaviour(Kind.RESET),
    Behaviour(Kind.RESET_AFTER, stores=True),
)
PEAK_RSS_MIB = 250
Point = Callable[[Daemon, DiskFaults, random.Random], None]


def at_a_random_moment(daemon: Daemon, disk: DiskFaults, dice: random.Random) -> None:
    time.sleep(dice.uniform(0.05, 0.5))
    daemon.kill()


def inside_a_commit(daemon: Daemon, disk: DiskFaults, dice: random.Random) -> None:
    """At one of the next calls that change the queue's files: a commit is a few of them."""
    time.sleep(dice.uniform(0.05, 0.2))
    disk.kill_at(dice.randint(1, 12), dice.choice(list(Kill)))
    daemon.wait_killed()


def during_a_reload(daemon: Daemon, disk: DiskFaults, dice: random.Random) -> None:
    time.sleep(dice.uniform(0.05, 0.2))
    tenant = f"new{dice.randrange(10**6)}"
    daemon.config["tenants"][tenant] = {"api_keys": [{"id": "k1", "sha256": sha256(tenant)}]}
    daemon.write_config()
    daemon.gateway.process.signal(signal.SIGHUP)
    time.sleep(dice.uniform(0, 0.1))
    daemon.kill()


def during_a_drain(daemon: Daemon, disk: DiskFaults, dice: random.Random) -> None:
    time.sleep(dice.uniform(0.05, 0.2))
    daemon.gateway.process.signal(signal.SIGTERM)
    if dice.random() < 0.5:
        disk.kill_at(dice.randint(1, 6), dice.choice(list(Kill)))
    time.sleep(dice.uniform(0, 0.15))
    daemon.kill()


def while_it_recovers(daemon: Daemon, disk: DiskFaults, dice: random.Random) -> None:
    """Killed under load, and then again while the next process opens the queue."""
    daemon.kill()
    disk.kill_at(dice.randint(1, 4), dice.choice(list(Kill)))
    daemon.start_to_die()


def test_what_was_answered_ok_survives_kill_9_at_any_moment(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults, note: Note
) -> None:
    dice = random.Random(SEED)
    points: list[Point] = [
        *[at_a_random_moment] * scaled(6, 80),
        *[inside_a_commit] * scaled(6, 60),
        *[during_a_reload] * scaled(2, 20),
        *[during_a_drain] * scaled(2, 20),
        *[while_it_recovers] * scaled(2, 20),
    ]
    dice.shuffle(points)
    backend.treat(*MOODY)
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED) as clients:
            for point in points:
                point(daemon, disk, dice)
                disk.heal()
                daemon.start()
            time.sleep(0.5)
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        verdict = judge(
            clients.sent, backend.arrivals(), interruptions=daemon.interruptions, least_answered=20 * len(points)
        )
        note(verdict, clients.sent.codes(), f"peak RSS {daemon.peak_rss_mib:.0f} MiB")
        assert daemon.peak_rss_mib < PEAK_RSS_MIB
