"""A disk that is slow, full or broken: clients are told to retry, delivery goes on, and no restart is needed."""

import errno
import itertools
import time
from pathlib import Path

from tests.fault.harness.backend_control import ScriptedBackend
from tests.fault.harness.behaviour import OK, refusing
from tests.fault.harness.clients import NO_ANSWER, Attempt, Clients, Sent
from tests.fault.harness.daemon import Daemon, config_for
from tests.fault.harness.disk_faults import FOREVER, DiskFaults
from tests.fault.harness.items import Items
from tests.fault.harness.judge import judge
from tests.fault.harness.scale import SEED, Note, scaled
from tests.support.clients import bearer, send_http
from tests.support.processes import wait_until

TENANTS = ["acme", "globex"]


def requests_since(sent: Sent, moment: float, code: str) -> int:
    return sum(attempt.code == code and attempt.started > moment for attempt in list(sent.attempts))


def wait_for(sent: Sent, code: str, *, count: int = 5, timeout_s: float = 60.0) -> None:
    """Until so many requests that begin from now on got this answer."""
    now = time.monotonic()
    what = f"{count} requests that are answered {code}"
    wait_until(lambda: requests_since(sent, now, code) >= count, what, timeout_s)


def refused_over(sent: Sent) -> set[int | None]:
    """The HTTP status of refusals; None over gRPC."""
    return {attempt.http_status for attempt in list(sent.attempts) if attempt.code != "OK"}


def assert_refused_retryably(sent: Sent) -> None:
    """Whoever was not answered OK was told to come again, in the way of each transport."""
    refused = [attempt for attempt in sent.attempts if attempt.code != "OK"]
    assert {attempt.code for attempt in refused} == {"UNAVAILABLE"}, sent.codes()
    assert all(attempt.retry_after_s is not None for attempt in refused)
    assert refused_over(sent) == {503, None}, "over both transports"


def test_an_ok_waits_until_the_disk_has_it(tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults) -> None:
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        assert disk["processes"] == 1, "the shim is loaded"
        disk.slow_syncs(0.3)
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED) as clients:
            time.sleep(scaled(2, 10))
        took = [attempt.took_s for attempt in clients.sent.attempts]
        assert len(took) >= 4
        assert min(took) >= 0.3, "an answer came before its sync"
        disk.heal()
        daemon.at_rest()
        judge(clients.sent, backend.arrivals())


def test_a_full_disk_is_a_reason_to_retry_and_delivery_goes_on(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults, note: Note
) -> None:
    for_later = refusing(503)
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        sent = Sent()
        for _ in range(scaled(1, 10)):
            backend.treat(for_later)
            with Clients(daemon.gateway, tenants=TENANTS, seed=SEED, padding=2000, sent=sent):
                wait_for(sent, "OK")
                disk.leave_room(1 << 20)
                # First it uses up what is free inside of the file.
                wait_for(sent, "UNAVAILABLE")
                wait_until(lambda: refused_over(sent) == {503, None}, "requests over both transports to be refused")
                backend.treat(OK)
                waiting = sent.names("OK")
                wait_until(
                    lambda waiting=waiting: waiting <= backend.arrivals().times.keys(),
                    "what was taken before to be delivered from the full disk",
                )
                assert disk["failed"] > 0
                disk.heal()
                wait_for(sent, "OK", count=20)
            assert NO_ANSWER not in sent.codes(), "nobody was hung up on"
            assert_refused_retryably(sent)
            daemon.at_rest()
        assert daemon.all_dropped() == {}
        note(judge(sent, backend.arrivals()), sent.codes())


def test_whichever_call_of_a_commit_fails_the_next_commit_works_again(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults, note: Note
) -> None:
    """One request at a time, so that one commit is the only thing that the disk has to do."""
    sent = Sent()
    numbers = itertools.count()

    def send() -> str:
        items = Items("acme", "logs", next(numbers), 1)
        answer = send_http(daemon.gateway, items.payload(), signal="logs", headers=bearer("acme-key"))
        sent.attempts.append(Attempt(items, answer.code, 0, 0, answer.retry_after_s, answer.http_status))
        return answer.code

    def quiet() -> None:
        """What was delivered has left the disk."""
        daemon.at_rest()
        calls = -1
        while calls != disk["calls"]:
            calls = disk["calls"]
            time.sleep(0.6)

    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        assert send() == "OK"
        quiet()
        before = disk["calls"]
        backend.treat(refusing(503))
        assert send() == "OK"
        commit = disk["calls"] - before
        assert commit >= 2, "a commit writes and syncs"
        backend.treat(OK)
        # All from one call on, whichever; and the last one alone, which makes a commit valid.
        faults = [(call, FOREVER, (errno.EIO, errno.ENOSPC)[call % 2]) for call in range(commit)]
        for call, calls, error in [*faults, (commit - 1, 1, errno.EIO)]:
            quiet()
            disk.fail(calls=calls, after=call, error=error)
            what = f"call {call} of a commit failed with {errno.errorcode[error]}, {calls} in a row"
            assert send() == "UNAVAILABLE", what
            disk.heal()
            wait_until(lambda: send() == "OK", f"an OK after {what}")
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        note(judge(sent, backend.arrivals()), sent.codes())


def test_a_disk_that_fails_under_load_is_used_again_without_a_restart(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults, note: Note
) -> None:
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED, pause_s=0.05) as clients:
            sent = clients.sent
            wait_for(sent, "OK")
            for number in range(scaled(2, 40)):
                before = disk["failed"]
                disk.fail(after=number, error=(errno.EIO, errno.ENOSPC)[number % 2])
                wait_until(lambda before=before: disk["failed"] > before, "a call to fail")
                time.sleep(0.5)
                disk.heal()
                wait_for(sent, "OK")
        assert NO_ANSWER not in sent.codes(), "nobody was hung up on"
        assert_refused_retryably(sent)
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        note(judge(sent, backend.arrivals()), sent.codes())


def test_what_was_kept_before_the_disk_failed_survives_a_crash_with_it(
    tmp_path: Path, backend: ScriptedBackend, disk: DiskFaults
) -> None:
    backend.treat(refusing(503))
    with Daemon(tmp_path, config_for(tmp_path, backend, TENANTS), disk) as daemon:
        with Clients(daemon.gateway, tenants=TENANTS, seed=SEED) as clients:
            wait_for(clients.sent, "OK", count=20)
            disk.fail()
            wait_for(clients.sent, "UNAVAILABLE")
            daemon.kill()
            disk.heal()
            daemon.start()
            wait_for(clients.sent, "OK")
        backend.treat(OK)
        daemon.at_rest()
        assert daemon.all_dropped() == {}
        judge(clients.sent, backend.arrivals(), interruptions=daemon.interruptions)
