"""A wall clock that jumps an hour, either way: nothing becomes too old by it, nothing stalls, and the ledger closes."""

import random
import time
from pathlib import Path

import pytest

from tests.fault.harness.backend_control import ScriptedBackend
from tests.fault.harness.behaviour import OK, refusing
from tests.fault.harness.clients import Clients, Sent
from tests.fault.harness.daemon import Daemon, config_for
from tests.fault.harness.disk_faults import DiskFaults
from tests.fault.harness.judge import judge
from tests.fault.harness.scale import SEED, Note, scaled
from tests.support.processes import wait_until

TENANTS = ["acme", "globex"]
HOUR_S = 3600.0
# Far more than the test takes, far less than the jump.
RETRY = {"initial": "50ms", "max": "300ms", "max_age": "10m"}


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["an hour on", "an hour back"])
def test_a_jump_of_the_clock_makes_nothing_too_old_and_stops_nothing(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults, jump_s: float, note: Note
) -> None:
    """It jumps while some wait in the queue, some are under way and more come in."""
    config = config_for(tmp_path, backend, TENANTS, retry=RETRY)
    with Daemon(tmp_path, config, disk) as daemon:
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED) as clients:
            backend.treat(refusing(503, Retry_After="1"))
            time.sleep(0.5)
            disk.shift_clock(jump_s)
            time.sleep(0.5)
            backend.treat(OK)
            waiting = clients.sent.names("OK")
            wait_until(
                lambda: waiting <= backend.arrivals().times.keys() or bool(daemon.all_dropped()),
                "what waited over the jump to be delivered",
            )
            now = time.monotonic()
            wait_until(lambda: sum(attempt.started > now for attempt in clients.sent.attempts) > 20, "answers")
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        assert set(clients.sent.codes()) == {"OK"}
        note(judge(clients.sent, backend.arrivals()))


def test_a_clock_that_jumps_to_and_fro_under_load_with_a_crash_between_loses_nothing(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults, note: Note
) -> None:
    """Without max_age, since nobody can tell how long it was down."""
    dice = random.Random(SEED)
    backend.treat(OK, refusing(503), refusing(429, Retry_After="1"))
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        sent = Sent()
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED, sent=sent):
            for _ in range(scaled(2, 30)):
                disk.shift_clock(dice.choice([-HOUR_S, 0, HOUR_S, dice.uniform(-HOUR_S, HOUR_S)]))
                time.sleep(0.3)
                disk.shift_clock(dice.choice([-HOUR_S, HOUR_S]))
                daemon.kill()
                daemon.start()
            time.sleep(0.3)
        backend.treat(OK)
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        note(judge(sent, backend.arrivals(), interruptions=daemon.interruptions))
