"""Did every item that was answered OK arrive, or is it named as dropped; and came none twice without a cause?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.fault.harness.backend_control import Arrivals
from tests.fault.harness.clients import Sent

IN_FLIGHT_S = 2.0
"""How long before a crash an item may have arrived and still come again: its record had not left the disk yet."""
_ON_ITS_WAY_S = 0.5
"""How long after a crash what was sent before may still arrive."""


@dataclass(frozen=True)
class Verdict:
    """What a scenario came to, in items."""

    answered_ok: int
    arrived: int
    """Different ones."""
    missing: int
    """Answered OK, and did not arrive: no more than were dropped by reason, or are queued."""
    duplicates: int
    """Arrivals beyond each item's first; each has a cause."""

    def __str__(self) -> str:
        return (
            f"{self.answered_ok} items answered OK, {self.arrived} arrived, {self.missing} missing with a reason, "
            f"{self.duplicates} duplicates"
        )


def judge(
    sent: Sent,
    arrivals: Arrivals,
    *,
    dropped: int = 0,
    queued: int = 0,
    interruptions: Sequence[float] = (),
    in_flight_s: float = IN_FLIGHT_S,
    least_answered: int = 1,
) -> Verdict:
    """Raises AssertionError, which names items.

    Args:
        dropped, queued: Items that the gateway says it has given up, or still keeps.
        interruptions: When the gateway was killed or stopped: what had arrived `in_flight_s` before may come again.
        least_answered: A scenario in which fewer items were answered OK has shown nothing.
    """
    assert not sent.problems, sent.problems[:3]
    assert not arrivals.complaints, arrivals.complaints
    ok, arrived = sent.names("OK"), set(arrivals.times)
    assert len(ok) >= least_answered, f"only {len(ok)} items were answered OK: {sent.codes()}"
    unknown = arrived - sent.names()
    assert not unknown, f"{len(unknown)} items arrived that nobody sent, such as {sorted(unknown)[:3]}"
    missing = ok - arrived
    assert len(missing) <= dropped + queued, (
        f"{len(missing)} items were answered OK and neither arrived nor are dropped ({dropped}) or queued ({queued}), "
        f"such as {sorted(missing)[:3]}; {Counter(name.rsplit('-', 1)[0] for name in missing)}"
    )
    causeless = [
        name
        for name, came in arrivals.times.items()
        if any(told and not _in_flight(at, interruptions, in_flight_s) for at, told in came[:-1])
    ]
    assert not causeless, (
        f"{len(causeless)} items came again without a cause, such as "
        f"{[(name, arrivals.times[name]) for name in sorted(causeless)[:3]]}; interruptions: {list(interruptions)}"
    )
    duplicates = sum(len(came) - 1 for came in arrivals.times.values())
    return Verdict(len(ok), len(arrived), len(missing), duplicates)


def _in_flight(at: float, interruptions: Sequence[float], in_flight_s: float) -> bool:
    return any(moment - in_flight_s <= at <= moment + _ON_ITS_WAY_S for moment in interruptions)
