"""How fast a tenant may send: the window, the pauses, the circuit."""

import asyncio
import time
from collections.abc import Callable

import pytest

from gateway.config.destinations import Retry as RetryConfig
from gateway.delivery import pace as pace_module
from gateway.delivery.pace import Circuit, Pace
from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Refused, Retry, TooLarge

RETRY = RetryConfig.model_validate({"initial": "20ms", "max": "100ms"})
# For tests that tell pauses apart: by more than a busy machine adds.
LONG_RETRY = RetryConfig.model_validate({"initial": "100ms", "max": "500ms"})
LATE_S = 0.3
FAILED = Retry("http_503")


@pytest.fixture(autouse=True)
def no_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter takes the whole pause."""
    monkeypatch.setattr(pace_module.random, "uniform", lambda _low, high: high)


async def send(pace: Pace, outcome: Outcome | None) -> bool:
    """One request; whether it was a probe."""
    async with pace.turn() as turn:
        turn.outcome = outcome
        return turn.probe


class Requests:
    """Requests under way, which end when told to."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.started = pace, 0

    async def one(self, end: asyncio.Event, outcome: Callable[[], Outcome]) -> None:
        async with self.pace.turn() as turn:
            self.started += 1
            await end.wait()
            turn.outcome = outcome()


async def test_successes_widen_the_window_and_a_failure_halves_it() -> None:
    pace = Pace(RETRY, max_window=8)
    assert pace.window == 1
    for _ in range(40):
        await send(pace, Delivered())
    assert pace.window == 8
    await send(pace, FAILED)
    assert pace.window == 4
    for _ in range(3):
        await send(pace, FAILED)
    assert pace.window == 1


async def test_as_many_requests_as_the_window_are_under_way() -> None:
    pace = Pace(RETRY, max_window=3)
    for _ in range(10):
        await send(pace, Delivered())
    requests, end = Requests(pace), asyncio.Event()
    tasks = [asyncio.create_task(requests.one(end, Delivered)) for _ in range(10)]
    await asyncio.sleep(0)
    assert requests.started == 3
    end.set()
    await asyncio.gather(*tasks)
    assert requests.started == 10


async def test_a_failure_opens_the_circuit_and_one_request_probes_after_the_pause() -> None:
    pace = Pace(RETRY, max_window=4)
    for _ in range(10):
        await send(pace, Delivered())
    started = time.monotonic()
    await send(pace, FAILED)
    assert pace.circuit is Circuit.OPEN
    requests, end = Requests(pace), asyncio.Event()
    tasks = [asyncio.create_task(requests.one(end, Delivered)) for _ in range(4)]
    while not requests.started:
        await asyncio.sleep(0.001)
    assert time.monotonic() - started >= 0.02
    await asyncio.sleep(0.02)
    assert (pace.circuit, requests.started) == (Circuit.HALF_OPEN, 1)
    end.set()
    await asyncio.gather(*tasks)
    assert (pace.circuit, requests.started) == (Circuit.CLOSED, 4)


async def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    pace = Pace(LONG_RETRY, max_window=1)

    async def pause_before_the_next(outcome: Outcome) -> float:
        started = time.monotonic()
        await send(pace, outcome)
        return time.monotonic() - started

    await send(pace, FAILED)
    outcomes = (FAILED, FAILED, FAILED, FAILED, Delivered(), FAILED, Delivered())
    pauses = [await pause_before_the_next(outcome) for outcome in outcomes]
    expected = [0.1, 0.2, 0.4, 0.5, 0.5, 0.0, 0.1]
    for pause, least in zip(pauses, expected, strict=True):
        assert least <= pause + 0.001 < least + LATE_S


async def test_failures_of_requests_that_were_under_way_together_are_one_failure() -> None:
    pace = Pace(LONG_RETRY, max_window=8)
    for _ in range(40):
        await send(pace, Delivered())
    requests, end = Requests(pace), asyncio.Event()
    tasks = [asyncio.create_task(requests.one(end, lambda: FAILED)) for _ in range(8)]
    await asyncio.sleep(0)
    end.set()
    await asyncio.gather(*tasks)
    assert pace.window == 4
    started = time.monotonic()
    assert await send(pace, Delivered())
    assert time.monotonic() - started < 0.1 + LATE_S, "the first pause, not the eighth"


async def test_what_the_backend_asked_for_is_waited_for_although_an_older_request_went_well() -> None:
    pace = Pace(RETRY, max_window=2)
    for _ in range(10):
        await send(pace, Delivered())
    requests, end = Requests(pace), asyncio.Event()
    older = asyncio.create_task(requests.one(end, Delivered))
    await asyncio.sleep(0)
    started = time.monotonic()
    await send(pace, Retry("http_429", after_s=0.2))
    end.set()
    await older
    assert pace.circuit is Circuit.OPEN
    assert await send(pace, Delivered())
    assert time.monotonic() - started >= 0.2


async def test_an_answer_that_refuses_the_data_is_an_answer() -> None:
    pace = Pace(RETRY, max_window=4)
    for outcome in (Refused("http_400"), TooLarge("http_413")):
        await send(pace, FAILED)
        await send(pace, outcome)
        assert pace.circuit is Circuit.CLOSED
        assert pace.window == 1


async def test_who_is_told_that_something_was_mended_probes_at_once() -> None:
    pace = Pace(RetryConfig.model_validate({"initial": "60s", "max": "60s"}), max_window=1)
    await send(pace, Held("http_401"))
    waiting = asyncio.create_task(send(pace, Delivered()))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    pace.probe_now()
    assert await asyncio.wait_for(waiting, 10)
    assert pace.circuit is Circuit.CLOSED


async def test_whoever_is_cancelled_takes_no_turn_with_it() -> None:
    pace = Pace(RETRY, max_window=1)
    end = asyncio.Event()
    holding = asyncio.create_task(Requests(pace).one(end, Delivered))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(send(pace, Delivered())) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    holding.cancel()
    await asyncio.gather(holding, waiting[0], return_exceptions=True)
    assert await asyncio.wait_for(asyncio.gather(*waiting[1:]), 10) == [False, False]
    # A probe that is given up leaves the next one to probe.
    await send(pace, FAILED)
    async with asyncio.timeout(10):
        assert await send(pace, None)
        assert await send(pace, Delivered())
