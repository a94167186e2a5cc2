"""Volume quotas begin anew with each UTC day and month, and only then."""

from datetime import UTC, datetime

import pytest

from gateway.policy.periods import MAX_PAUSE_S, Periods


class Recorder:
    """A clock to set, and what was started."""

    def __init__(self) -> None:
        self.now = 0.0
        self.started: list[tuple[str, float]] = []

    def start_period(self, period: str, *, ends_in_s: float) -> None:
        self.started.append((period, ends_in_s))

    def at(self, *moment: int) -> list[tuple[str, float]]:
        """What an update at this moment starts."""
        self.now = datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]
        self.started = []
        self.pause_s = self.periods.update()
        return self.started

    @property
    def periods(self) -> Periods:
        if not hasattr(self, "_periods"):
            self._periods = Periods(self.start_period, lambda: self.now)
        return self._periods


DAY_S = 86_400.0


def test_the_first_look_starts_both_with_what_is_left_of_them() -> None:
    clock = Recorder()
    assert clock.at(2026, 2, 27, 18, 0, 0) == [("day", DAY_S / 4), ("month", DAY_S + DAY_S / 4)]
    assert clock.pause_s == MAX_PAUSE_S


def test_a_new_day_starts_a_day_and_a_new_month_both() -> None:
    clock = Recorder()
    clock.at(2024, 2, 28, 12)
    assert clock.at(2024, 2, 28, 23, 59, 30) == []
    assert clock.pause_s == 30
    assert clock.at(2024, 2, 29, 0, 0, 0) == [("day", DAY_S)]
    assert clock.at(2024, 3, 1, 0, 0, 1) == [("day", DAY_S - 1), ("month", 31 * DAY_S - 1)]
    assert clock.at(2024, 12, 31, 0, 0, 0) == [("day", DAY_S), ("month", DAY_S)]


@pytest.mark.parametrize("back", [(2026, 5, 1, 23, 59, 59), (2026, 4, 30, 12, 0, 0)])
def test_a_clock_that_is_set_back_starts_nothing(back: tuple[int, ...]) -> None:
    clock = Recorder()
    clock.at(2026, 5, 2, 0, 0, 1)
    assert clock.at(*back) == []
    assert clock.at(2026, 5, 2, 12, 0, 0) == []
    assert clock.at(2026, 5, 3, 0, 0, 0) == [("day", DAY_S)]
