"""What becomes of a batch, by what its backend answers: a scripted backend, a real queue, a small engine."""

import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse

from gateway.config.models import Config
from gateway.delivery import outlet, pace
from gateway.delivery.delivery import Delivery
from gateway.delivery.queue import DurableQueue, QueueError
from gateway.delivery.senders.loki import Loki
from gateway.delivery.senders.outcome import Outcome, retry_after_s
from gateway.types import LaneCounters, Shard
from tests.support.queue import frame_of
from tests.support.scripted import SILENCE, scripted
from tests.support.small_engine import LANE, Batch, SmallEngine, until


def config(folder: Path, url: str, *, max_age: str | None = None, **queue: Any) -> Config:
    retry = {"initial": "10ms", "max": "50ms", "max_age": max_age}
    return Config.model_validate(
        {
            "destinations": {"backend": {"type": "loki", "url": url, "retry": retry}},
            "queue": {"dir": str(folder / "queue"), "max_bytes": "4MiB", **queue},
            "tenants": {"acme": {}},
        }
    )


Run = Callable[[Delivery, SmallEngine], Awaitable[None]]


async def deliver(settings: Config, batches: list[Batch], *, ends: Callable[[LaneCounters], bool]) -> LaneCounters:
    """Hand out the batches, wait until the lane's counters are as wanted, drain; the ledger must close."""
    engine = SmallEngine()
    delivery = await Delivery.open(settings, engine=engine)
    await delivery.start()
    for batch in batches:
        engine.close_batch(batch)
    items = sum(batch.items for batch in batches)
    await until(lambda: delivery.counters().get(LANE, LaneCounters()).taken == items)
    await until(lambda: ends(delivery.counters()[LANE]))
    await delivery.drain(2.0)
    counters = delivery.counters()[LANE]
    assert counters.taken + counters.resumed == counters.delivered + sum(counters.dropped.values()) + counters.queued
    assert engine.acked == [batch.id for batch in batches]
    return counters


ANSWERS = [
    ([204], 10, {}, 1),
    ([503, 429, 204], 10, {}, 3),
    ([(429, {"Retry-After": "0"}), 204], 10, {}, 2),
    ([400], 0, {"http_400_partly_stored": 10}, 1),
    ([422], 0, {"http_422": 10}, 1),
    ([260], 0, {"blocked": 10}, 1),
    ([301, 401, 204], 10, {}, 3),
]


@pytest.mark.parametrize(("script", "delivered", "dropped", "requests"), ANSWERS)
async def test_every_answer_of_loki_is_understood(
    tmp_path: Path, script: list[Any], delivered: int, dropped: dict[str, int], requests: int
) -> None:
    async with scripted(*script) as backend:
        counters = await deliver(
            config(tmp_path, backend.url), [Batch(1, b"x")], ends=lambda counters: counters.queued == 0
        )
        assert (counters.delivered, counters.dropped) == (delivered, dropped)
        assert len(backend.bodies) == requests


async def test_the_next_attempt_waits_as_long_as_the_backend_said(tmp_path: Path) -> None:
    async with scripted((429, {"Retry-After": "0.4"}), 204) as backend:
        started = time.monotonic()
        await deliver(config(tmp_path, backend.url), [Batch(1, b"x")], ends=lambda counters: counters.delivered == 10)
        assert 0.4 <= time.monotonic() - started < 5
        assert backend.bodies == [b"\x01\x00x"] * 2


@pytest.mark.parametrize("absurd", ["1e300", "99999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_an_absurd_pause_does_not_stall_a_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absurd: str
) -> None:
    assert pace.LONGEST_PAUSE_S == 300, "docs/operations.md says so"
    monkeypatch.setattr(pace, "LONGEST_PAUSE_S", 0.3)
    async with scripted((503, {"Retry-After": absurd}), 204) as backend:
        started = time.monotonic()
        await deliver(config(tmp_path, backend.url), [Batch(1, b"x")], ends=lambda counters: counters.delivered == 10)
        assert 0.3 <= time.monotonic() - started < 5


async def test_a_lane_whose_courier_failed_goes_on_although_nothing_more_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, failures = Loki.send, [RuntimeError("a bug")]

    async def send_with_a_bug(*arguments: Any) -> Outcome:
        if failures:
            raise failures.pop()
        return await send(*arguments)

    monkeypatch.setattr(Loki, "send", send_with_a_bug)
    monkeypatch.setattr("gateway.delivery.delivery._RESTART_S", 0.05)
    async with scripted() as backend:
        counters = await deliver(
            config(tmp_path, backend.url), [Batch(1, b"x")], ends=lambda counters: counters.queued == 0
        )
        assert counters.delivered == 10


async def test_destinations_that_hang_leave_connections_for_the_others(tmp_path: Path) -> None:
    tenants = [f"tenant-{number}" for number in range(outlet.MAX_REQUESTS_PER_DESTINATION)]
    async with scripted(*[SILENCE] * 10_000) as hanging, scripted() as backend:
        settings = config(tmp_path, backend.url).model_dump(mode="json")
        for number in range(8):
            destination = {"type": "loki", "url": hanging.url, "timeout": "60s"}
            settings["destinations"][f"hanging-{number}"] = destination
        engine = SmallEngine()
        delivery = await Delivery.open(Config.model_validate(settings), engine=engine)
        await delivery.start()
        for number in range(8):
            for tenant in tenants:
                engine.close_batch(Batch(len(engine.acked), b"x", tenant=tenant, destination=f"hanging-{number}"))
        await until(lambda: len(hanging.bodies) == 8 * len(tenants))
        engine.close_batch(Batch(9_999, b"x"))
        await until(lambda: len(backend.bodies) == 1)
        await delivery.drain(0.1)


async def test_what_is_too_old_is_dropped_and_what_came_since_is_not(tmp_path: Path) -> None:
    async with scripted(503, 429, 503) as backend:
        batches = [Batch(1, b"old"), Batch(2, b"new", opened_at=time.time())]
        settings = config(tmp_path, backend.url, max_age="20s")
        counters = await deliver(settings, batches, ends=lambda counters: counters.queued == 0)
        assert (counters.delivered, counters.dropped) == (10, {"too_old": 10})


async def test_what_the_backend_rejects_of_a_request_is_dropped_and_the_rest_delivered(tmp_path: Path) -> None:
    answer = ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(rejected_log_records=3))
    async with scripted((200, {}, answer.SerializeToString())) as backend:
        settings = config(tmp_path, backend.url).model_dump(mode="json")
        settings["destinations"]["backend"] = {"type": "otlp", "endpoint": backend.url, "protocol": "http"}
        counters = await deliver(
            Config.model_validate(settings), [Batch(1, b"x")], ends=lambda counters: counters.queued == 0
        )
        assert (counters.delivered, counters.dropped) == (7, {"rejected_by_backend": 3})


async def test_a_stop_waits_for_the_commit_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, committing = DurableQueue.commit, threading.Event()

    def slow_commit(*arguments: Any) -> int:
        committing.set()
        time.sleep(0.3)
        return commit(*arguments)

    monkeypatch.setattr(DurableQueue, "commit", slow_commit)
    settings, engine = config(tmp_path, "http://127.0.0.1:9/push"), SmallEngine()
    delivery = await Delivery.open(settings, engine=engine)
    await delivery.start()
    engine.close_batch(Batch(1, b"x"))
    await until(committing.is_set)
    await delivery.drain(0.05)
    assert engine.acked == [1]
    assert delivery.counters()[LANE].queued == 10
    queue = DurableQueue(settings.queue.dir, settings.queue.max_bytes)
    assert queue.backlog()[Shard(LANE)].items == 10
    queue.close()


@pytest.mark.parametrize("ack", ["durable", "memory"])
async def test_what_cannot_be_delivered_is_resumed_by_the_next_run(tmp_path: Path, ack: str) -> None:
    settings = config(tmp_path, "http://127.0.0.1:9/push", ack=ack)
    counters = await deliver(
        settings, [Batch(1, b"a"), Batch(2, b"b")], ends=lambda counters: counters.retries > 0 and counters.queued == 20
    )
    assert counters.queued == 20
    async with scripted() as backend:
        engine = SmallEngine()
        delivery = await Delivery.open(config(tmp_path, backend.url, ack=ack), engine=engine)
        await delivery.start()
        await until(lambda: delivery.counters()[LANE].delivered == 20)
        await delivery.drain(2.0)
        assert delivery.counters()[LANE].resumed == 20
        # Joined into one request, oldest first: snappy of "ab", one literal a batch.
        assert backend.bodies == [b"\x02\x00a\x00b"]


async def test_a_reload_whose_destination_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    engine = SmallEngine()
    async with scripted(503, 503, 503) as backend:
        settings = config(tmp_path, backend.url)
        delivery = await Delivery.open(settings, engine=engine)
        await delivery.start()
        engine.close_batch(Batch(1, b"x"))
        await until(lambda: len(backend.bodies) >= 1)
        changed = settings.model_dump(mode="json")
        changed["destinations"]["backend"]["url"] = "https://127.0.0.1:9/push"
        changed["destinations"]["backend"]["tls"] = {"ca_file": str(tmp_path / "gone.crt")}
        with pytest.raises(FileNotFoundError):
            await delivery.reconfigure(Config.model_validate(changed))
        await until(lambda: delivery.counters()[LANE].delivered == 10)
        await delivery.drain(1.0)


async def test_a_machine_without_a_thread_to_spare_refuses_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failures = DurableQueue.commit, [RuntimeError("can't start new thread")]

    def commit_if_there_is_a_thread(*arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return commit(*arguments)

    monkeypatch.setattr(DurableQueue, "commit", commit_if_there_is_a_thread)
    monkeypatch.setattr("gateway.delivery.keeper._COMMIT_RETRY_S", 0.01)
    engine = SmallEngine()
    async with scripted() as backend:
        delivery = await Delivery.open(config(tmp_path, backend.url), engine=engine)
        await delivery.start()
        engine.close_batch(Batch(1, b"x"))
        await until(lambda: engine.failed == [1])
        engine.close_batch(Batch(2, b"x"))
        await until(lambda: engine.acked == [2])
        await until(lambda: engine.gates == ["the queue cannot be written", None])
        await delivery.drain(1.0)


async def test_a_full_queue_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    settings = config(tmp_path, "http://127.0.0.1:9/push", max_bytes="1MiB")
    engine = SmallEngine()
    delivery = await Delivery.open(settings, engine=engine)
    await delivery.start()
    for number in range(4):
        engine.close_batch(Batch(number, b"x" * 480_000))
        await until(lambda answered=number + 1: len(engine.acked) + len(engine.failed) == answered)
    assert engine.acked == [0, 1]
    assert engine.failed == [2, 3]
    assert engine.gates == ["the queue is full"]
    async with scripted() as backend:
        await delivery.reconfigure(config(tmp_path, backend.url, max_bytes="1MiB"))
        await until(lambda: delivery.counters()[LANE].queued == 0)
        await until(lambda: engine.gates == ["the queue is full", None])
    await delivery.drain(1.0)


async def test_a_corrupt_record_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    settings = config(tmp_path, "http://127.0.0.1:9/push")
    await deliver(
        settings,
        [Batch(1, b"aaaa"), Batch(2, b"bbbb")],
        ends=lambda counters: counters.retries > 0 and counters.queued == 20,
    )
    environment = lmdb.open(str(tmp_path / "queue"), max_dbs=3, map_size=100 << 20)
    records = environment.open_db(b"records")
    with environment.begin(db=records, write=True) as transaction:
        cursor = transaction.cursor()
        assert cursor.first()
        cursor.put(cursor.key(), cursor.value().replace(b"aaaa", b"aaxa"))
    environment.close()
    async with scripted() as backend:
        delivery = await Delivery.open(config(tmp_path, backend.url), engine=SmallEngine())
        await delivery.start()
        await until(lambda: delivery.counters()[LANE].delivered == 10)
        await delivery.drain(1.0)
        assert delivery.counters()[LANE].dropped["corrupt_record"] > 0
        assert backend.bodies == [b"\x04\x0cbbbb"]


def test_nobody_else_on_the_machine_reads_the_queue(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        DurableQueue(tmp_path / "queue", 1 << 20).close()
    finally:
        os.umask(umask)
    assert (tmp_path / "queue").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "queue" / "data.mdb").stat().st_mode & 0o777 == 0o600


async def test_a_queue_with_records_of_nobody_is_refused_clearly(tmp_path: Path) -> None:
    settings = config(tmp_path, "http://127.0.0.1:9/push")
    DurableQueue(settings.queue.dir, 1 << 20).close()
    environment = lmdb.open(str(settings.queue.dir), max_dbs=3, map_size=100 << 20)
    with environment.begin(db=environment.open_db(b"records"), write=True) as transaction:
        transaction.put(b"\x02acme\0backend\0profiles\0" + bytes(12), frame_of("profiles"))
    environment.close()
    with pytest.raises(QueueError, match="holds a record of nobody"):
        await Delivery.open(settings, engine=SmallEngine())


def test_a_newer_queue_is_refused_clearly(tmp_path: Path) -> None:
    DurableQueue(tmp_path / "queue", 1 << 20).close()
    environment = lmdb.open(str(tmp_path / "queue"), max_dbs=3, map_size=100 << 20)
    with environment.begin(db=environment.open_db(b"meta"), write=True) as transaction:
        transaction.put(b"format", b"99")
        transaction.put(b"state", b"as a newer version writes it")
    environment.close()
    with pytest.raises(QueueError, match="written by a newer version"):
        DurableQueue(tmp_path / "queue", 1 << 20)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5", 5.0),
        ("1.5", 1.5),
        ("-1", 0.0),
        ("nonsense", None),
        ("inf", None),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 2001 00:00:00 +99999999999999", None),
        ("Mon, 01 Jan 2001 00:04900770600", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: float | None) -> None:
    assert retry_after_s({"Retry-After": value}) == expected
    assert retry_after_s({}) is None
