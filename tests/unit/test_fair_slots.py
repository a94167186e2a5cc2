"""Who gets a slot, and when: no tenant waits for another's fate."""

import asyncio
from collections import Counter
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery.fair_slots import FairSlots

MIB = 1 << 20


async def hold(slots: FairSlots, tenant: str, cost: int, until: asyncio.Event, *, probe: bool = False) -> None:
    async with slots.turn(tenant, cost, probe=probe):
        await until.wait()


async def test_tenants_get_equal_bytes_however_large_their_requests_are() -> None:
    slots, done, served = FairSlots(1, 64 * MIB), asyncio.Event(), Counter[str]()

    async def tenant(name: str, cost: int) -> None:
        while not done.is_set():
            async with slots.turn(name, cost):
                served[name] += cost
                await asyncio.sleep(0)

    # Twice as many requests under way at once, each four times the size: still the same share.
    tasks = [asyncio.create_task(tenant("large", 4 * MIB)) for _ in range(8)]
    tasks += [asyncio.create_task(tenant("small", 64 << 10)) for _ in range(4)]
    while sum(served.values()) < 400 * MIB:
        await asyncio.sleep(0)
    done.set()
    await asyncio.gather(*tasks)
    assert served["small"] == pytest.approx(served["large"], rel=0.25)


async def test_one_tenant_holds_at_most_half_of_the_slots() -> None:
    slots, end = FairSlots(4, 64 * MIB), asyncio.Event()
    hogs = [asyncio.create_task(hold(slots, "hog", 1, end)) for _ in range(100)]
    await asyncio.sleep(0)
    assert slots.used == 2
    async with asyncio.timeout(10), slots.turn("other", 1):
        pass
    end.set()
    await asyncio.gather(*hogs)
    assert slots.used == slots.waiting == 0


async def test_probes_of_many_tenants_leave_room_for_those_that_are_well() -> None:
    slots, end = FairSlots(8, 64 * MIB), asyncio.Event()
    probes = [asyncio.create_task(hold(slots, f"dead-{number}", 1, end, probe=True)) for number in range(100)]
    await asyncio.sleep(0)
    assert slots.used == 2
    async with asyncio.timeout(10), slots.turn("well", 1):
        pass
    end.set()
    await asyncio.gather(*probes)


async def test_many_that_begin_to_hang_at_once_hold_up_nobody_for_long() -> None:
    slots, end = FairSlots(4, 64 * MIB, slow_slots=20), asyncio.Event()
    hanging = [asyncio.create_task(hold(slots, f"hangs-{number}", 1, end)) for number in range(100)]
    await asyncio.sleep(0)
    assert slots.used == 4
    # Its turn comes after those that came before, as soon as these are seen to be slow.
    async with asyncio.timeout(20 / 4 * 0.25 + 5):
        while slots.used < 24:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.6)
    assert slots.used == 24, "there is a bound"
    end.set()
    await asyncio.gather(*hanging)
    assert slots.used == slots.waiting == 0


async def test_who_is_well_does_not_wait_until_those_that_hang_have_timed_out() -> None:
    slots, end = FairSlots(4, 64 * MIB, slow_slots=20), asyncio.Event()
    hanging = [asyncio.create_task(hold(slots, f"hangs-{number}", 1, end)) for number in range(12)]
    await asyncio.sleep(0)
    async with asyncio.timeout(12 / 4 * 0.25 + 5), slots.turn("well", 1):
        pass
    end.set()
    await asyncio.gather(*hanging)


async def test_slow_turns_stay_within_the_share_of_their_tenant_and_of_probes() -> None:
    slots, end = FairSlots(8, 64 * MIB, slow_slots=20), asyncio.Event()
    one = [asyncio.create_task(hold(slots, "one", 1, end)) for _ in range(20)]
    probes = [asyncio.create_task(hold(slots, f"dead-{number}", 1, end, probe=True)) for number in range(20)]
    await asyncio.sleep(0.8)
    assert slots.used == 4 + 2
    end.set()
    await asyncio.gather(*one, *probes)


async def test_what_is_larger_than_all_bytes_has_its_turn_alone() -> None:
    slots, end = FairSlots(4, 8 * MIB), asyncio.Event()
    first = asyncio.create_task(hold(slots, "a", 64 * MIB, end))
    await asyncio.sleep(0)
    second = asyncio.create_task(hold(slots, "b", 1 * MIB, end))
    await asyncio.sleep(0)
    assert (slots.used, slots.waiting) == (1, 1)
    end.set()
    await asyncio.gather(first, second)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.integers(0, 6 * MIB), st.booleans(), st.booleans()),
        max_size=60,
    ),
    st.sampled_from([0.0, 60.0]),
)
def test_whoever_comes_and_goes_all_are_served_and_nothing_is_kept(
    visitors: list[tuple[str, int, bool, bool]], slow_s: float
) -> None:
    """`visitors`: tenant, cost, whether it is a probe, and whether it is cancelled at some point."""

    async def run() -> None:
        slots = FairSlots(3, 8 * MIB, slow_slots=2)
        served = 0

        async def visit(tenant: str, cost: int, probe: bool) -> None:
            nonlocal served
            async with slots.turn(tenant, cost, probe=probe):
                assert slots.used <= 5
                await asyncio.sleep(0)
            served += 1

        tasks = [(asyncio.create_task(visit(tenant, cost, probe)), gone) for tenant, cost, probe, gone in visitors]
        await asyncio.sleep(0)
        for task, gone in tasks:
            if gone:
                task.cancel()
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            results = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert served >= sum(1 for _, gone in tasks if not gone)
        assert slots.used == slots.waiting == 0
        assert not slots._tenants

    with patch("gateway.delivery.fair_slots._SLOW_S", slow_s):
        asyncio.run(run())
