"""Many at once: connections, and tenants. Everything arrives, in bounded memory."""

import time
from pathlib import Path

from tests.fault.harness.backend_control import ScriptedBackend
from tests.fault.harness.behaviour import OK, refusing
from tests.fault.harness.crowd import crowd
from tests.fault.harness.daemon import Daemon, config_for
from tests.fault.harness.judge import judge
from tests.fault.harness.scale import Note, scaled

CONNECTIONS = 2000
TENANTS = scaled(1000, 10_000)
PEAK_RSS_MIB = 400
# Of the process itself: mapped pages of the queue's file are the kernel's to take back.
MOST_ANONYMOUS_MIB = 180
START_S = 60


def test_two_thousand_connections_at_once_are_all_served(tmp_path: Path, backend: ScriptedBackend, note: Note) -> None:
    tenants = ["acme", "globex"]
    with Daemon(tmp_path, config_for(tmp_path, backend, tenants)) as daemon:
        sent = crowd(
            daemon.gateway.http,
            tenants=tenants,
            connections=CONNECTIONS,
            requests=scaled(2, 20),
            timeout_s=scaled(60, 600),
        )
        assert set(sent.codes()) == {"OK"}, sent.codes()
        daemon.at_rest()
        slowest = max(attempt.took_s for attempt in sent.attempts)
        note(judge(sent, backend.arrivals()), f"slowest answer {slowest:.2f} s", f"peak {daemon.peak_rss_mib:.0f} MiB")
        assert daemon.peak_rss_mib < PEAK_RSS_MIB


def test_thousands_of_tenants_start_and_are_all_served(tmp_path: Path, backend: ScriptedBackend, note: Note) -> None:
    tenants = [f"t{number}" for number in range(TENANTS)]
    daemon = Daemon(tmp_path, config_for(tmp_path, backend, tenants))
    with daemon:
        started_s = daemon.start_s
        sent = crowd(
            daemon.gateway.http, tenants=tenants, connections=50, requests=TENANTS // 50, timeout_s=scaled(60, 600)
        )
        assert set(sent.codes()) == {"OK"}, sent.codes()
        daemon.at_rest(120)
        assert {attempt.items.tenant for attempt in sent.attempts} == set(tenants), "each had its turn"
        note(judge(sent, backend.arrivals()), f"started in {started_s:.1f} s", f"peak {daemon.peak_rss_mib:.0f} MiB")
        assert daemon.peak_rss_mib < PEAK_RSS_MIB
        assert started_s < START_S


def test_a_backlog_of_many_tenants_lies_on_disk_and_not_in_memory(
    tmp_path: Path, backend: ScriptedBackend, note: Note
) -> None:
    """A tenant has about a MiB in its queue, while its backend refuses; it is read when it can be sent."""
    tenants = [f"t{number}" for number in range(scaled(200, 2000))]
    config = config_for(tmp_path, backend, tenants)
    config["queue"]["max_bytes"] = "8GiB"
    backend.treat(refusing(503))
    with Daemon(tmp_path, config) as daemon:
        sent = crowd(
            daemon.gateway.http,
            tenants=tenants,
            connections=8,
            requests=len(tenants) * 2 // 8,
            signals=["traces"],
            padding=256 << 10,
            timeout_s=scaled(60, 600),
        )
        assert set(sent.codes()) == {"OK"}, sent.codes()
        full = daemon.memory()
        daemon.kill()
        daemon.start()
        time.sleep(2)
        again = daemon.memory()
        backend.treat(OK)
        daemon.at_rest(scaled(60, 600))
        drained = daemon.memory()
        note(judge(sent, backend.arrivals(), interruptions=daemon.interruptions))
        anonymous = {
            when: round(one["RssAnon"]) for when, one in {"full": full, "restarted": again, "drained": drained}.items()
        }
        note(f"MiB: {anonymous}")
        assert max(anonymous.values()) <= MOST_ANONYMOUS_MIB, anonymous
