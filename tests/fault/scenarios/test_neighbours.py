"""A tenant whose backend refuses, fails or hangs costs its neighbours nothing, neither in answers nor in delivery."""

import itertools
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fault.harness.backend_control import ScriptedBackend
from tests.fault.harness.behaviour import OK, Behaviour, Kind, refusing
from tests.fault.harness.clients import Clients, Sent
from tests.fault.harness.crowd import crowd
from tests.fault.harness.daemon import Daemon, config_for
from tests.fault.harness.items import SIGNALS
from tests.fault.harness.judge import judge
from tests.fault.harness.scale import SEED, SOAK, Note, scaled
from tests.support.processes import wait_until

pytestmark = pytest.mark.alone

SHARING, OWNER, GOOD = "sharing", "owner", "good"
# By how they are treated; SHARING has the destinations of GOOD, OWNER has its own.
TROUBLES = {
    "429 for ever": refusing(429, Retry_After="1"),
    "503 for ever": refusing(503),
    "hanging": Behaviour(Kind.HANG),
}
# Of the medians. In CI, on a machine that has other work too, a slow answer is one that somebody would notice.
MOST_P99, LEAST_THROUGHPUT, NOISE_S = (1.10, 0.90, 0.002) if SOAK else (2.0, 0.70, 0.05)
PAIRS, SECONDS = scaled(2, 9), scaled(1, 3)
CASES = (
    list(itertools.product((SHARING, OWNER), TROUBLES))
    if SOAK
    else [(SHARING, "429 for ever"), (SHARING, "hanging"), (OWNER, "503 for ever")]
)


@dataclass(frozen=True)
class Felt:
    """What the good tenant felt of a while."""

    answer_p99_s: float
    arrival_p99_s: float
    """From when a request was sent until its items were stored."""
    per_second: float


def feel(daemon: Daemon, backend: ScriptedBackend, sent: Sent) -> Felt:
    began = time.monotonic()
    with Clients(daemon.gateway, tenants=[GOOD], seed=SEED, threads=2, pause_s=0.02, sent=sent):
        time.sleep(SECONDS)
    took = time.monotonic() - began
    mine = sent.answered(GOOD, since=began)
    wait_until(lambda: {name for one in mine for name in one.items.names} <= backend.arrivals().times.keys(), "arrival")
    times = backend.arrivals().times
    arrival = [times[one.items.names[-1]][0][0] - one.started for one in mine]
    return Felt(p99([one.took_s for one in mine]), p99(arrival), len(mine) / took)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def test_a_tenant_in_trouble_is_not_felt_by_others(tmp_path: Path, backend: ScriptedBackend, note: Note) -> None:
    """Pairs of a while without it and a while with it, alternating."""
    config = config_for(tmp_path, backend, [SHARING, OWNER, GOOD], timeout="1s")
    own = {f"own_{name}": {**destination} for name, destination in config["destinations"].items()}
    config["destinations"] |= own
    routes = config["defaults"]["routes"]
    config["tenants"][OWNER]["routes"] = {signal: [f"own_{name}"] for signal, (name,) in routes.items()}
    sent, worse = Sent(), []
    with Daemon(tmp_path, config) as daemon:
        feel(daemon, backend, sent)
        for tenant, name in CASES:
            pairs = []
            for _ in range(PAIRS):
                backend.treat(OK, tenant=tenant)
                daemon.at_rest()
                alone = feel(daemon, backend, sent)
                backend.treat(TROUBLES[name], tenant=tenant)
                with Clients(daemon.gateway, tenants=[tenant], seed=SEED, threads=2, sent=sent):
                    time.sleep(0.2)
                with Clients(daemon.gateway, tenants=[tenant], seed=SEED, threads=1, pause_s=0.2, sent=sent):
                    pairs.append((alone, feel(daemon, backend, sent)))
            worse += compare(f"{tenant}, {name}", pairs, note)
            backend.treat(OK, tenant=tenant)
        daemon.at_rest()
        judge(sent, backend.arrivals())
    assert not worse


def compare(what: str, pairs: list[tuple[Felt, Felt]], note: Note) -> list[str]:
    """What is worse than the bounds, in the median of the pairs."""
    medians = {}
    for field in ("answer_p99_s", "arrival_p99_s", "per_second"):
        medians[field] = [statistics.median(getattr(pair[side], field) for pair in pairs) for side in (0, 1)]
    note(what, *(f"{field} {alone:.4f} alone, {beside:.4f} beside it" for field, (alone, beside) in medians.items()))
    worse = []
    for field in ("answer_p99_s", "arrival_p99_s"):
        alone, beside = medians[field]
        if beside > MOST_P99 * alone + NOISE_S:
            worse.append(f"{what}: {field} is {beside:.3f}, alone {alone:.3f}")
    alone, beside = medians["per_second"]
    if beside < LEAST_THROUGHPUT * alone:
        worse.append(f"{what}: {beside:.0f} requests a second, alone {alone:.0f}")
    return worse


def test_a_crowd_of_hanging_tenants_does_not_use_up_a_shared_destination(
    tmp_path: Path, backend: ScriptedBackend, note: Note
) -> None:
    """More of them than a destination has requests under way at once, and each waits out its time-out, for ever."""
    hanging = [f"hang{number}" for number in range(scaled(60, 500))]
    timeout_s = 3
    config = config_for(tmp_path, backend, [*hanging, GOOD], timeout=f"{timeout_s}s")
    for tenant in hanging:
        backend.treat(Behaviour(Kind.HANG), tenant=tenant)
    sent = Sent()
    with Daemon(tmp_path, config) as daemon:
        for signal in SIGNALS:
            stuck = crowd(
                daemon.gateway.http, tenants=hanging, connections=10, requests=len(hanging) // 10, signals=[signal]
            )
            assert set(stuck.codes()) == {"OK"}
        # That they hang is known once the first requests have timed out.
        time.sleep(2 * timeout_s + 1)
        felt = feel(daemon, backend, sent)
        note(f"beside {len(hanging)} that hang, 99% arrive within {felt.arrival_p99_s:.3f} s")
        assert felt.arrival_p99_s < timeout_s / 2
        # The others wait out their time.
        daemon.kill()
