"""Ages that the wall clock's jumps do not change."""

import pytest

from gateway.delivery.steady_clock import SteadyClock

HOUR_S = 3600.0


class Clocks:
    """A wall clock and a monotonic one, by hand."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_800_000_000.0, 500.0
        self.steady = SteadyClock(lambda: self.wall, lambda: self.monotonic)

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def test_it_is_the_wall_clock_as_long_as_that_does_not_jump() -> None:
    clocks = Clocks()
    clocks.pass_s(7.5)
    assert clocks.steady.now() == clocks.wall
    assert clocks.steady.opened_at(clocks.wall - 0.25) == clocks.wall - 0.25


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_a_jump_makes_nothing_older_or_younger(jump_s: float) -> None:
    clocks = Clocks()
    before = clocks.steady.opened_at(clocks.wall - 0.25)
    clocks.wall += jump_s
    clocks.pass_s(2)
    assert clocks.steady.now() - before == pytest.approx(2.25)
    after = clocks.steady.opened_at(clocks.wall - 0.25)
    assert clocks.steady.now() - after == pytest.approx(0.25)


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_a_jump_while_a_batch_is_open_costs_it_a_minute_at_most(jump_s: float) -> None:
    clocks = Clocks()
    stamp = clocks.wall
    clocks.wall += jump_s
    assert 0 <= clocks.steady.now() - clocks.steady.opened_at(stamp) <= 60
