"""What is kept where, for whom, and for how long; and what a reload does to what is under way."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import pytest
from aiohttp import web

from gateway.config.models import Config
from gateway.delivery.delivery import Delivery
from gateway.delivery.queue import DurableQueue
from gateway.types import Lane, Signal
from tests.support.scripted import scripted
from tests.support.small_engine import LANE, Batch, SmallEngine, until

MIB = 1 << 20
NOWHERE = "http://127.0.0.1:9/push"


def config(folder: Path, url: str, *, destination: dict[str, Any] | None = None, **queue: Any) -> Config:
    backend = {"type": "loki", "url": url, "retry": {"initial": "10ms", "max": "50ms"}, **(destination or {})}
    return Config.model_validate(
        {
            "destinations": {"backend": backend, "other": {**backend, "timeout": "30s"}},
            "queue": {"dir": str(folder / "queue"), "max_bytes": "10MiB", **queue},
            "tenants": {"acme": {}},
        }
    )


async def start(settings: Config) -> tuple[Delivery, SmallEngine]:
    engine = SmallEngine()
    delivery = await Delivery.open(settings, engine=engine)
    await delivery.start()
    return delivery, engine


numbers: Iterator[int] = iter(range(1, 1_000_000))


async def offer(engine: SmallEngine, tenant: str, size: int) -> bool:
    """Whether a batch of the tenant is taken."""
    batch = Batch(next(numbers), b"x" * size, tenant=tenant)
    engine.close_batch(batch)
    await until(lambda: batch.id in engine.acked or batch.id in engine.failed)
    return batch.id in engine.acked


async def test_a_tenant_that_fills_its_share_leaves_room_for_the_others(tmp_path: Path) -> None:
    delivery, engine = await start(config(tmp_path, NOWHERE))
    taken = 0
    while await offer(engine, "hog", 500_000):
        taken += 500_000
    assert 0.7 * 10 * MIB < taken < 0.85 * 10 * MIB, "four fifths"
    assert engine.closed_gates == {"hog": "the tenant's share of the queue is full"}
    assert all([await offer(engine, f"tenant-{number}", 100_000) for number in range(8)])
    stats = delivery.queue_stats()
    assert (stats.full, stats.tenants_full) == (False, 1)
    async with scripted() as backend:
        await delivery.reconfigure(config(tmp_path, backend.url))
        await until(lambda: not engine.closed_gates)
        assert await offer(engine, "hog", 500_000)
    await delivery.drain(1.0)


async def test_a_bound_of_its_own_holds_for_each_tenant(tmp_path: Path) -> None:
    delivery, engine = await start(config(tmp_path, NOWHERE, tenant_max_bytes="1MiB"))
    for tenant in ("acme", "globex"):
        assert await offer(engine, tenant, 600_000)
        assert not await offer(engine, tenant, 600_000)
        # There is room for a smaller one.
        assert await offer(engine, tenant, 400_000)
        assert not await offer(engine, tenant, 100_000)
    assert set(engine.closed_gates) == {"acme", "globex"}
    await delivery.drain(0.1)


async def test_later_batches_do_not_overtake_one_that_was_refused(tmp_path: Path) -> None:
    delivery, engine = await start(config(tmp_path, NOWHERE, tenant_max_bytes="1MiB"))
    engine.close_batches([Batch(1, b"x" * 900_000), Batch(2, b"x" * 900_000), Batch(3, b"x")])
    await until(lambda: len(engine.acked) + len(engine.failed) == 3)
    assert (engine.acked, engine.failed) == ([1], [2, 3])
    await delivery.drain(0.1)


async def test_what_just_came_is_sent_without_being_read_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DurableQueue, "read", lambda *_: pytest.fail("the disk was read"))
    async with scripted() as backend:
        delivery, engine = await start(config(tmp_path, backend.url))
        for _ in range(5):
            assert await offer(engine, "acme", 10_000)
        await until(lambda: delivery.counters()[LANE].delivered == 50)
        assert delivery.queue_stats().resident_bytes == 0
        await delivery.drain(1.0)


@pytest.mark.parametrize("ack", ["durable", "memory"])
async def test_memory_is_bounded_and_what_is_on_disk_comes_in_order(tmp_path: Path, ack: str) -> None:
    settings = config(tmp_path, NOWHERE, ack=ack, memory_max_bytes="1MiB")
    delivery, engine = await start(settings)
    payloads = [bytes([number]) * 200_000 for number in range(30)]
    for number, payload in enumerate(payloads):
        engine.close_batch(Batch(number, payload))
        await until(lambda count=number + 1: len(engine.acked) == count)
    await until(lambda: delivery.queue_stats().resident_bytes <= MIB)
    async with scripted() as backend:
        # Requests of one batch each, so that their order shows.
        await delivery.reconfigure(config(tmp_path, backend.url, destination={"max_request_bytes": 1024}, ack=ack))
        await until(lambda: delivery.counters()[LANE].queued == 0)
        await delivery.drain(1.0)
        firsts = [bytes(cramjam.snappy.decompress_raw(body))[0] for body in backend.bodies]
    assert firsts == list(range(30))


class Slow:
    """Answers each request after a while."""

    def __init__(self) -> None:
        self.began = self.ended = 0

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.began += 1
        await asyncio.sleep(0.3)
        self.ended += 1
        return web.Response(status=204)


async def serve(slow: Slow) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_post("/push", slow.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/push"  # type: ignore[union-attr]


@pytest.mark.parametrize("changes", [True, False])
async def test_a_reload_sends_nothing_twice(tmp_path: Path, changes: bool) -> None:
    slow = Slow()
    runner, url = await serve(slow)
    delivery, engine = await start(config(tmp_path, url))
    assert await offer(engine, "acme", 10)
    await until(lambda: slow.began == 1)
    await delivery.reconfigure(config(tmp_path, url, destination={"max_request_bytes": 2048} if changes else None))
    assert await offer(engine, "acme", 10)
    await until(lambda: delivery.counters()[LANE].delivered == 20)
    assert slow.ended == 2
    await delivery.drain(1.0)
    await runner.cleanup()


async def test_what_waits_for_a_credential_goes_on_as_soon_as_a_reload_brings_it(tmp_path: Path) -> None:
    patient = {"retry": {"initial": "60s", "max": "60s"}}
    async with scripted(401, 204) as backend:
        delivery, engine = await start(config(tmp_path, backend.url, destination=patient))
        assert await offer(engine, "acme", 10)
        await until(lambda: delivery.counters()[LANE].failing == "http_401")
        assert any(pace.circuit_open for pace in delivery.paces())
        await delivery.reconfigure(config(tmp_path, backend.url, destination=patient))
        await until(lambda: delivery.counters()[LANE].delivered == 10)
        assert delivery.counters()[LANE].failing is None
        await delivery.drain(1.0)


async def test_a_lane_of_a_destination_that_is_gone_waits_until_it_is_back(tmp_path: Path) -> None:
    lane = Lane("acme", "gone", Signal.LOGS)
    async with scripted() as backend:
        delivery, engine = await start(config(tmp_path, backend.url))
        engine.close_batch(Batch(1, b"x", destination="gone"))
        await until(lambda: engine.acked == [1])
        assert delivery.counters()[lane].queued == 10
        settings = config(tmp_path, backend.url).model_dump(mode="json")
        settings["destinations"]["gone"] = settings["destinations"]["backend"]
        await delivery.reconfigure(Config.model_validate(settings))
        await until(lambda: delivery.counters()[lane].delivered == 10)
        await delivery.drain(1.0)


async def test_what_is_on_disk_gathers_into_few_requests(tmp_path: Path) -> None:
    async with scripted() as backend:
        settings = config(tmp_path, backend.url).model_dump(mode="json")
        settings["batch"] = {"max_age": "300ms", "max_items": 100}
        delivery, engine = await start(Config.model_validate(settings))
        for number in range(1, 6):
            engine.close_batch(Batch(number, b"x", opened_at=time.time()))
            await until(lambda number=number: engine.acked == list(range(1, number + 1)))
        assert backend.bodies == []
        await until(lambda: delivery.counters()[LANE].delivered == 50)
        assert len(backend.bodies) == 1, "by age"
        engine.close_batch(Batch(6, b"x", items=100, opened_at=time.time()))
        await until(lambda: delivery.counters()[LANE].delivered == 150, 0.25)
        engine.close_batch(Batch(7, b"x", opened_at=time.time()))
        await until(lambda: engine.acked[-1] == 7)
        # A stop does not wait for more.
        await delivery.drain(5.0)
        assert delivery.counters()[LANE].delivered == 160


async def test_a_thousand_lanes_that_wait_for_their_backend_are_no_tasks(tmp_path: Path) -> None:
    settings = config(tmp_path, NOWHERE, destination={"retry": {"initial": "60s", "max": "60s"}})
    delivery, engine = await start(settings)
    engine.close_batches([Batch(number, b"x", tenant=f"tenant-{number}") for number in range(1000)])
    await until(lambda: sum(pace.circuit_open for pace in delivery.paces()) == 1000, 20)
    await until(lambda: len(asyncio.all_tasks()) < 10)
    async with scripted() as backend:
        await delivery.reconfigure(config(tmp_path, backend.url))
        await until(lambda: len(backend.bodies) == 1000, 20)
    await delivery.drain(1.0)
