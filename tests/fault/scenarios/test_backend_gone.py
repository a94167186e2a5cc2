"""Backends that are away for long, or lie: what is given up has a reason and a count, and the rest arrives."""

import time
from pathlib import Path

from tests.fault.harness.backend_control import ScriptedBackend
from tests.fault.harness.behaviour import OK, Behaviour, Kind, refusing
from tests.fault.harness.clients import Clients, Sent
from tests.fault.harness.daemon import Daemon, config_for
from tests.fault.harness.disk_faults import DiskFaults
from tests.fault.harness.judge import judge
from tests.fault.harness.scale import SEED, Note, scaled

TENANTS = ["acme", "globex"]
HOUR_S = 3600.0


def test_a_backend_that_is_dead_for_an_hour_gets_everything_when_it_is_back(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults, note: Note
) -> None:
    """Without max_age nothing is too old. The hour passes in a moment, with the daemon restarted in its midst."""
    backend.treat(Behaviour(Kind.RESET), refusing(503), refusing(502))
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        sent = Sent()
        for _ in range(scaled(2, 6)):
            with Clients(daemon.gateway, tenants=TENANTS, seed=SEED, sent=sent):
                time.sleep(0.7)
            disk["clock_offset_ns"] += round(HOUR_S / 2 * 1e9)
            daemon.kill()
            daemon.start()
        assert backend.stored_items() == 0
        oldest = max(
            value for (name, _), value in daemon.gateway.metrics().items() if name.endswith("oldest_age_seconds")
        )
        assert oldest > HOUR_S / 2
        backend.treat(OK)
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        note(judge(sent, backend.arrivals(), interruptions=daemon.interruptions))


def test_what_waits_longer_than_max_age_is_dropped_by_reason_and_only_that(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    config = config_for(tmp_path, backend, TENANTS, retry={"initial": "50ms", "max": "200ms", "max_age": "3s"})
    backend.treat(refusing(503))
    with Daemon(tmp_path, config) as daemon:
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED) as old:
            time.sleep(0.5)
        time.sleep(3.2)
        young = Sent([*old.sent.attempts])
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED, sent=young):
            time.sleep(0.3)
        backend.treat(OK)
        daemon.at_rest()
        dropped = daemon.all_dropped()
        assert dropped.keys() == {"too_old"}
        arrivals = backend.arrivals()
        judge(young, arrivals, dropped=dropped["too_old"])
        old_names = old.sent.names("OK")
        assert young.names("OK") - old_names <= arrivals.times.keys(), "what is young arrives"
        assert not old_names & arrivals.times.keys(), "what is old does not"
        # target_info and the like are samples too.
        assert dropped["too_old"] >= len(old_names)


def test_a_backend_that_comes_and_goes_gets_each_item(tmp_path: Path, backend: ScriptedBackend, note: Note) -> None:
    moods = [
        [refusing(503)], [OK], [Behaviour(Kind.RESET)], [OK], [Behaviour(Kind.GARBAGE)], [OK], [Behaviour(Kind.CUT)],
        [OK], [refusing(429, Retry_After="1")], [OK], [Behaviour(Kind.SLOW_READ)], [OK],
        [Behaviour(Kind.RESET_AFTER, stores=True)],
    ]  # fmt: skip
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS)) as daemon:
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED) as clients:
            for mood in moods * scaled(1, 10):
                backend.treat(*mood)
                time.sleep(0.25)
            assert set(clients.sent.codes()) == {"OK"}, "clients feel nothing of it"
            backend.treat(OK)
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        note(judge(clients.sent, backend.arrivals(), least_answered=500))


# What a tenant's backend answers, and what it keeps.
PARTIAL_2 = bytes([0x0A, 0x02, 0x08, 0x02]).hex()
PARTIAL_ABSURD = bytes([0x0A, 0x0A, 0x08, *[0xFF] * 8, 0x7F]).hex()
LIES = {
    # partial_success.rejected = 2 of 5, truthfully.
    "refusestwo": Behaviour(body=PARTIAL_2, refuses=2),
    # The same, but everything was kept.
    "kept": Behaviour(body=PARTIAL_2),
    # More items refused than were sent; everything was kept.
    "absurd": Behaviour(body=PARTIAL_ABSURD),
    # A 200 with something else than it should hold.
    "noise": Behaviour(body=bytes(range(256)).hex()),
    "huge": Behaviour(body="00" * 300_000),
    # Half of an answer, then the end; the items were kept, but nobody knows.
    "half": Behaviour(Kind.CUT, body="00" * 50, stores=True, share=0.5),
    "garbage": Behaviour(Kind.GARBAGE, stores=True, share=0.5),
    # 3xx is not followed, and is no success.
    "moved": refusing(302, Location="http://127.0.0.1:1/"),
}
NEVER_WELL = {"moved"}


def test_a_lying_backend_breaks_neither_the_ledger_nor_others(
    tmp_path: Path, backend: ScriptedBackend, note: Note
) -> None:
    tenants = [*LIES, "honest"]
    for tenant, lie in LIES.items():
        # Where the lie is not taken for an answer, the truth must follow at some time.
        retried = lie.kind is not Kind.ANSWER
        backend.treat(lie, *([OK] if retried else []), tenant=tenant)
    with Daemon(tmp_path, config_for(tmp_path, backend, tenants)) as daemon:
        with Clients(daemon.gateway, tenants=tenants, seed=SEED) as clients:
            time.sleep(scaled(2, 20))
            assert set(clients.sent.codes()) == {"OK"}
        for tenant in NEVER_WELL:
            backend.treat(OK, tenant=tenant)
        daemon.at_rest()
        arrived = backend.arrivals()
        dropped = daemon.all_dropped()
        note(dropped, judge(clients.sent, arrived, dropped=sum(dropped.values())))
        for tenant in set(tenants) - {"refusestwo", *NEVER_WELL}:
            assert clients.sent.names("OK", tenant=tenant) <= arrived.times.keys(), tenant
        missing = clients.sent.names("OK", tenant="refusestwo") - arrived.times.keys()
        assert 0 < len(missing) <= daemon.gateway.total("gateway_dropped_items_total", tenant="refusestwo")
        assert daemon.gateway.total("gateway_dropped_items_total", tenant="honest") == 0
