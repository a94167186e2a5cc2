"""Usage: what is counted is what came, once, whatever restarts, fails or is asked."""

import asyncio
import csv
import io
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.admin.app import AdminApp, ReloadResult
from gateway.admin.auth import Gatekeeper
from gateway.admin.masking import MaskingView
from gateway.admin.metrics import DaemonState
from gateway.audit.audit import Audit
from gateway.config.models import Admin, AdminToken, Price
from gateway.config.models import Usage as UsageConfig
from gateway.types import MAX_TENANTS, Lane, LaneCounters, Signal, UsageError, UsageQuery
from gateway.usage.meter import Amounts, Meter, read_intake
from gateway.usage.metrics import UsageCollector
from gateway.usage.report import Month, Report, Tariff
from gateway.usage.store import DayUsage, Store
from gateway.usage.usage import MAX_ROWS, Recorder, Sources, Usage, UsageStats

DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
EVER = UsageQuery(None, date(2000, 1, 1), date(2100, 1, 1))
ACME = Meter("acme", Signal.LOGS)


class Process:
    """An engine and delivery whose counters begin at zero, as those of a process do."""

    def __init__(self) -> None:
        self.intake: dict[Meter, Counter[str]] = {}
        self.lanes: dict[Lane, LaneCounters] = {}

    def use(self, meter: Meter, what: str, count: int) -> None:
        self.intake.setdefault(meter, Counter())[what] += count

    def deliver(self, meter: Meter, destination: str, size: int) -> None:
        lane = Lane(meter.tenant, destination, meter.signal)
        self.lanes.setdefault(lane, LaneCounters()).delivered_bytes += size

    def snapshot(self) -> bytes:
        return orjson.dumps(
            {
                "intake": [
                    {
                        "tenant": meter.tenant, "signal": meter.signal.value, "admitted_bytes": counts["bytes"],
                        "received": 10**9, "accepted": counts["accepted"], "filtered": counts["filtered"],
                        "sampled_out": counts["sampled_out"], "held": 7, "in_process": 3,
                        "masked": {"email": counts["email"], "key": counts["key"]},
                        "rejected": {"rate_limited": counts["rate_limited"], "malformed": counts["malformed"]},
                    }
                    for meter, counts in self.intake.items()
                ]
            }
        )  # fmt: skip

    def record(self, recorder: Recorder, now: datetime) -> None:
        delivered = [(lane, counters.delivered_bytes) for lane, counters in self.lanes.items()]
        recorder.record(now, self.snapshot(), delivered)


METERS = st.builds(Meter, st.sampled_from(["acme", "globex"]), st.sampled_from(list(Signal)))
COUNTERS = ("bytes", "accepted", "filtered", "sampled_out", "email", "key", "rate_limited", "malformed", "delivered")
STEPS = st.lists(
    st.tuples(st.just("use"), METERS, st.sampled_from(COUNTERS), st.integers(1, 10**12))
    | st.tuples(st.sampled_from(["record", "drain and restart", "kill", "disk full", "midnight"])),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_what_is_kept_is_what_was_used_whatever_restarts_and_fails(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    """Against a model that knows no counters, no restarts and no differences: it just adds up."""
    path = tmp_path_factory.mktemp("usage") / "usage.db"
    now, process, store = NOON, Process(), Store.open(path)
    recorder = Recorder(store, now)
    kept: Counter[tuple[date, Meter, str]] = Counter()
    since_record: Counter[tuple[Meter, str]] = Counter()

    def record() -> None:
        process.record(recorder, now)
        kept.update({(now.date(), *used): count for used, count in since_record.items()})
        since_record.clear()

    for step in steps:
        match step:
            case ("use", meter, "delivered", count):
                process.deliver(meter, "a" if count % 2 else "b", count)
                since_record[meter, "delivered"] += count
            case ("use", meter, what, count):
                process.use(meter, what, count)
                since_record[meter, what] += count
            case ("record",):
                record()
            case ("midnight",):
                # The first look of a day is at what came in the day before.
                kept.update({(now.date(), *used): count for used, count in since_record.items()})
                since_record.clear()
                now += timedelta(days=1)
                process.record(recorder, now)
            case ("disk full",):
                store._connection.execute("PRAGMA query_only = ON")
                if since_record:
                    with pytest.raises(sqlite3.OperationalError):
                        process.record(recorder, now)
                store._connection.execute("PRAGMA query_only = OFF")
            case ("drain and restart",) | ("kill",):
                if step == ("drain and restart",):
                    record()
                since_record.clear()  # A crash loses this interval, and nothing else.
                recorder.close()
                process, store = Process(), Store.open(path)
                recorder = Recorder(store, now)
    rows = {(row.day, row.meter): row.amounts for row in store.rows(EVER)}
    expected: dict[tuple[date, Meter], Amounts] = {}
    for on, meter in {(on, meter) for on, meter, _ in kept}:

        def of(*names: str, on: date = on, meter: Meter = meter) -> int:
            return sum(kept[on, meter, name] for name in names)

        expected[on, meter] = Amounts(
            of("accepted", "filtered", "sampled_out"), of("bytes"), of("delivered"), of("email", "key"),
            {reason: count for reason in ("rate_limited", "malformed") if (count := of(reason))},
        )  # fmt: skip
    assert rows == expected
    assert recorder.today == {meter: amounts for (on, meter), amounts in expected.items() if on == recorder.day}
    recorder.close()


def test_counters_that_went_back_began_anew() -> None:
    before = Amounts(100, 1000, 0, 5, {"rate_limited": 3})
    assert Amounts(110, 1100, 0, 5, {"rate_limited": 3}).since(before) == Amounts(10, 100)
    # One that shrank tells that all of them began again.
    assert Amounts(110, 90, 0, 5, {"rate_limited": 3}).since(before) == Amounts(110, 90, 0, 5, {"rate_limited": 3})
    assert Amounts(110, 1100, 0, 5, {}).since(before) == Amounts(110, 1100, 0, 5, {})


def test_series_are_a_level_of_which_the_highest_is_kept(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "usage.db")
    for series in (None, 5, 9, 7, None):
        store.add(DAY, {ACME: Amounts(items=1, series=series)})
    (row,) = store.rows(EVER)
    assert row.amounts == Amounts(items=5, series=9)
    store.close()


def test_a_day_gets_all_of_an_interval_or_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "usage.db")
    store._connection.execute("ALTER TABLE rejected RENAME TO elsewhere")
    with pytest.raises(sqlite3.OperationalError):
        store.add(DAY, {ACME: Amounts(items=1, rejected={"malformed": 1})})
    store._connection.execute("ALTER TABLE elsewhere RENAME TO rejected")
    assert store.rows(EVER) == []
    store.close()


def test_old_days_are_forgotten_and_others_kept(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "usage.db")
    for ago in range(5):
        store.add(DAY - timedelta(days=ago), {ACME: Amounts(items=1, rejected={"malformed": 1})})
    store.forget_before(DAY - timedelta(days=2))
    assert [row.day for row in store.rows(EVER)] == [DAY - timedelta(days=ago) for ago in (2, 1, 0)]
    assert store._connection.execute("SELECT count(*) FROM rejected").fetchone() == (3,)
    store.close()


@pytest.mark.parametrize("content", [b"not a database, " * 100, b""])
def test_a_database_that_is_none_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "usage.db"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=str(path)):
        Store.open_to_read(path)
    if content:
        with pytest.raises(UsageError, match="move it away to begin anew"):
            Store.open(path)


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "usage.db")
    store._connection.execute("PRAGMA user_version = 2")
    store.close()
    with pytest.raises(UsageError, match="written by a newer version"):
        Store.open(tmp_path / "usage.db")


# Money.

TARIFF = Tariff({Signal.LOGS: Price(per_gb=Decimal("0.25"), per_million_items=Decimal("1.5"))}, "EUR")


@pytest.mark.parametrize(
    ("meter", "amounts", "cost"),
    [
        (ACME, Amounts(items=1_000_000), "1.5"),
        (ACME, Amounts(bytes_in=2_000_000_000, bytes_out=10**12), "0.5"),
        (ACME, Amounts(items=1), "0.0000015"),
        (ACME, Amounts(items=3_000_000, bytes_in=10**9), "4.75"),
        (Meter("acme", Signal.TRACES), Amounts(items=10**9, bytes_in=10**12), "0"),
    ],
)
def test_a_cost_is_exact(meter: Meter, amounts: Amounts, cost: str) -> None:
    assert TARIFF.cost(meter, amounts) == Decimal(cost)
    assert Tariff().cost(meter, amounts) is None


def report(rows: list[DayUsage], *, now: datetime, first_day: date, tariff: Tariff = TARIFF) -> Report:
    query = UsageQuery(None, DAY.replace(day=1), DAY)
    return Report.of(query, rows, month=Month.at(now), month_rows=rows, first_days={"acme": first_day}, tariff=tariff)


@pytest.mark.parametrize(
    ("now", "first_day", "factor"),
    [
        # A third of April has passed.
        (datetime(2026, 4, 11, tzinfo=UTC), date(2026, 1, 1), 3),
        # Half of February, on the day.
        (datetime(2026, 2, 15, tzinfo=UTC), date(2026, 1, 1), 2),
        # Came in on the 21st: 1 of 10 days has passed, and the 20 before it are not held against it.
        (datetime(2026, 4, 22, tzinfo=UTC), date(2026, 4, 21), 10),
        # The last moment.
        (datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), date(2026, 1, 1), 1),
    ],
)
def test_the_forecast_goes_on_as_it_did(now: datetime, first_day: date, factor: int) -> None:
    rows = [DayUsage(now.date(), ACME, Amounts(items=1000, bytes_in=4_000_000_000))]
    (tenant,) = report(rows, now=now, first_day=first_day).tenants
    assert tenant.forecast is not None
    assert (tenant.forecast.items, tenant.forecast.bytes_in) == (1000 * factor, 4_000_000_000 * factor)
    assert tenant.forecast.cost_so_far == Decimal("1.0015")
    assert float(tenant.forecast.cost or 0) == pytest.approx(1.0015 * factor)


def test_there_is_no_forecast_in_the_first_hour() -> None:
    rows = [DayUsage(DAY, ACME, Amounts(items=1000))]
    for now, early in ((datetime(2026, 4, 1, 0, 59, tzinfo=UTC), True), (datetime(2026, 4, 1, 1, tzinfo=UTC), False)):
        (tenant,) = report(rows, now=now, first_day=date(2026, 1, 1)).tenants
        assert (tenant.forecast is None) == early


def test_without_prices_there_are_no_costs() -> None:
    rows = [DayUsage(DAY, ACME, Amounts(items=1000))]
    made = report(rows, now=datetime(2026, 3, 20, tzinfo=UTC), first_day=DAY, tariff=Tariff(currency="EUR"))
    answer = json.loads(made.to_json())
    assert answer["currency"] is None
    assert answer["rows"][0]["cost"] is answer["tenants"][0]["cost"] is answer["tenants"][0]["forecast"]["cost"] is None
    assert made.to_csv().splitlines()[1].endswith(",,,")


# The admin port.


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Running:
    """Usage of a process, on an admin port with three credentials."""

    def __init__(self, folder: Path) -> None:
        self.process, self.clock = Process(), Clock()
        self.config = UsageConfig(path=folder / "usage.db", interval=3600, prices=TARIFF.prices, keep_days=30)

    async def open(self) -> "Running":
        sources = Sources(self.process.snapshot, lambda: self.process.lanes)
        self.usage = await Usage.open(self.config, sources, now=self.clock)
        tokens = tuple(AdminToken(name=name, token=f"{name}-token", tenant=tenant) for name, tenant in
                       (("ops", "*"), ("acme", "acme"), ("nobody", "nobody")))  # fmt: skip

        async def reload(_actor: str) -> ReloadResult:
            return ReloadResult(ok=True)

        app = AdminApp(
            gatekeeper=Gatekeeper(Admin(tokens=tokens)), state=DaemonState("test"), checks=dict,
            collectors=lambda tenant: [UsageCollector(self.usage.stats, tenant)], reload=reload,
            witness=Audit.open(None, lambda: 1), usage=self.usage,
            masking=lambda: MaskingView({}, ()), missing_keys=dict,
        )  # fmt: skip
        self.client = TestClient(TestServer(app.application()))
        await self.client.start_server()
        return self

    async def get(self, query: str = "", *, token: str = "ops", accept: str | None = None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}-token", **({"Accept": accept} if accept else {})}
        async with self.client.get(f"/-/usage?from=2026-03-01&to=2026-03-31&{query}", headers=headers) as response:
            return response.status, await response.text()

    async def close(self) -> None:
        await self.client.close()
        await self.usage.close()


@pytest.fixture
async def running(tmp_path: Path) -> Any:
    opened = await Running(tmp_path).open()
    opened.process.use(ACME, "accepted", 2_000_000)
    opened.process.use(ACME, "rate_limited", 7)
    opened.process.use(Meter("globex", Signal.TRACES), "accepted", 5)
    opened.process.deliver(ACME, "loki", 1234)
    yield opened
    await opened.close()


async def test_json_has_rows_sums_costs_and_a_forecast_up_to_now(running: Running) -> None:
    status, body = await running.get()
    assert status == 200
    answer = json.loads(body)
    assert (answer["from"], answer["to"], answer["currency"]) == ("2026-03-01", "2026-03-31", "EUR")
    assert answer["rows"][0] == {
        "day": "2026-03-10", "tenant": "acme", "signal": "logs", "items": 2_000_000, "bytes_in": 0, "bytes_out": 1234,
        "masked_values": 0, "rejected_items": 7, "rejected": {"rate_limited": 7}, "series": None, "cost": 3.0,
    }  # fmt: skip
    acme, globex = answer["tenants"]
    assert (acme["tenant"], acme["items"], acme["cost"]) == ("acme", 2_000_000, 3.0)
    # 12 hours of its first day, of 22 days that are left of the month with this one.
    assert acme["forecast"] == {
        "month": "2026-03",
        "items": 88_000_000,
        "bytes_in": 0,
        "cost_so_far": 3.0,
        "cost": 132.0,
    }
    assert globex["cost"] == 0.0


@pytest.mark.parametrize(
    ("query", "accept", "is_csv"),
    [
        ("format=csv", None, True),
        ("", "text/csv", True),
        ("", "text/csv;q=1, application/json", True),
        ("", "application/json, text/csv", False),
        ("format=json", "text/csv", False),
        ("", "*/*", False),
    ],
)
async def test_the_form_is_asked_for_by_parameter_or_header(
    running: Running, query: str, accept: str | None, is_csv: bool
) -> None:
    status, body = await running.get(query, accept=accept)
    assert status == 200
    if not is_csv:
        json.loads(body)
        return
    rows = list(csv.DictReader(io.StringIO(body)))
    assert [(row["tenant"], row["items"], row["rejected"], row["series"]) for row in rows] == [
        ("acme", "2000000", "rate_limited=7", ""),
        ("globex", "5", "", ""),
    ]


async def test_a_tenants_credential_sees_its_own_usage_only(running: Running) -> None:
    for query in ("", "tenant=acme"):
        status, body = await running.get(query, token="acme")
        assert status == 200
        assert {row["tenant"] for row in json.loads(body)["rows"]} == {"acme"}
        assert "globex" not in body
    assert (await running.get("tenant=globex", token="acme"))[0] == 403
    assert json.loads((await running.get(token="nobody"))[1])["rows"] == []
    assert (await running.get(token="wrong"))[0] == 401
    assert json.loads((await running.get("tenant=globex"))[1])["tenants"][0]["tenant"] == "globex"


BAD = {
    "from=2026-03-32": "from stands there more than once",
    "format=xml": "format must be json or csv",
    "tennant=acme": "unknown parameter tennant; there are tenant, from, to, format",
    "tenant=a&tenant=b": "tenant stands there more than once",
}
BAD_DAYS = {
    "from=2026-03-32": "from must be a day such as 2026-01-31",
    "to=tomorrow": "to must be a day such as 2026-01-31",
    "from=20260301": "from must be a day such as 2026-01-31",
    "from=2026-03-02&to=2026-03-01": "from (2026-03-02) is later than to (2026-03-01)",
}


@pytest.mark.parametrize(("query", "message"), BAD.items())
async def test_a_wrong_question_is_400_with_a_sentence(running: Running, query: str, message: str) -> None:
    assert await running.get(query) == (400, message + "\n")


@pytest.mark.parametrize(("query", "message"), BAD_DAYS.items())
async def test_a_day_that_is_none_is_400_with_a_sentence(running: Running, query: str, message: str) -> None:
    headers = {"Authorization": "Bearer ops-token"}
    async with running.client.get(f"/-/usage?{query}", headers=headers) as response:
        assert (response.status, await response.text()) == (400, message + "\n")


async def test_an_answer_that_would_be_too_large_is_400(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.usage.usage.MAX_ROWS", 1)
    status, body = await running.get()
    assert status == 400
    assert "ask for fewer days, or for one tenant" in body
    assert MAX_ROWS > 1


async def test_a_database_that_cannot_be_read_is_503_with_a_sentence(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_arguments: object, **_options: object) -> list[DayUsage]:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Store, "rows", failing)
    assert await running.get() == (503, "the usage database cannot be read: disk I/O error\n")


async def test_metrics_show_today_and_a_tenant_its_own(running: Running) -> None:
    await running.usage.record()

    def page(tenant: str | None) -> str:
        registry = CollectorRegistry()
        registry.register(UsageCollector(running.usage.stats, tenant))
        return generate_latest(registry).decode()

    assert 'gateway_usage_items{signal="logs",tenant="acme"} 2e+06' in page(None)
    assert "gateway_usage_writable 1.0" in page(None)
    assert "globex" not in page("acme")
    assert "writable" not in page("acme")
    running.clock.now += timedelta(days=1)
    assert "acme" not in page(None), "yesterday's usage is not today's"


def test_tenants_beyond_the_bound_are_shown_as_one() -> None:
    today = {Meter(f"t{number:05}", Signal.LOGS): Amounts(items=1) for number in range(MAX_TENANTS + 5)}
    registry = CollectorRegistry()
    registry.register(UsageCollector(lambda: UsageStats(today, True, 0)))
    page = generate_latest(registry).decode()
    assert page.count("gateway_usage_items{") == MAX_TENANTS + 1
    assert 'gateway_usage_items{signal="logs",tenant="_other"} 5.0' in page


async def test_a_write_that_fails_is_made_up_for_and_counted(running: Running) -> None:
    blocker = sqlite3.connect(running.config.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    recorder = running.usage._recorder
    assert recorder is not None
    await running.usage._in_thread(lambda: recorder._store._connection.execute("PRAGMA busy_timeout = 10"))
    await running.usage.record()
    stats = running.usage.stats()
    assert stats is not None
    assert (stats.writable, stats.write_errors) == (False, 1)
    blocker.execute("ROLLBACK")
    blocker.close()
    running.process.use(ACME, "accepted", 1)
    assert json.loads((await running.get("tenant=acme"))[1])["rows"][0]["items"] == 2_000_001
    assert running.usage.stats().writable  # type: ignore[union-attr]


async def test_a_bug_in_the_counters_is_seen_and_does_not_end_the_counting(running: Running) -> None:
    good = running.process.snapshot
    running.usage._sources = Sources(lambda: b'{"intake": [{}]}', lambda: running.process.lanes)
    await running.usage.record()
    running.usage._sources = Sources(good, lambda: running.process.lanes)
    stats = running.usage.stats()
    assert stats is not None
    assert stats.write_errors == 1
    assert json.loads((await running.get("tenant=acme"))[1])["rows"][0]["items"] == 2_000_000


async def test_a_stop_keeps_the_last_interval_and_a_start_goes_on(tmp_path: Path) -> None:
    first = await Running(tmp_path).open()
    first.process.use(ACME, "accepted", 5)
    await first.close()
    second = await Running(tmp_path).open()
    second.process.use(ACME, "accepted", 6)
    assert json.loads((await second.get())[1])["rows"][0]["items"] == 11
    await second.close()


async def test_the_timer_writes_by_itself_and_at_midnight_for_the_day_that_ends(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.clock.now = datetime(2026, 3, 10, 23, 59, 59, 900_000, tzinfo=UTC)
    await running.open()
    running.process.use(ACME, "accepted", 5)
    running.clock.now += timedelta(milliseconds=200)
    reader = Store.open_to_read(running.config.path)
    await until(lambda: [row.day for row in reader.rows(EVER)] == [DAY])
    running.process.use(ACME, "accepted", 6)
    await running.close()
    assert [(row.day.day, row.amounts.items) for row in reader.rows(EVER)] == [(10, 5), (11, 6)]
    reader.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_a_reload_changes_prices_but_not_the_place(tmp_path: Path) -> None:
    running = await Running(tmp_path).open()
    running.process.use(ACME, "accepted", 1_000_000)
    prices = {Signal.LOGS: Price(per_million_items=Decimal(9))}
    elsewhere = running.config.model_copy(update={"path": tmp_path / "other.db", "prices": prices})
    in_force = running.usage.reconfigure(elsewhere)
    assert in_force is not None
    assert in_force.path == running.config.path
    assert json.loads((await running.get())[1])["rows"][0]["cost"] == 9.0
    assert running.usage.reconfigure(None) == in_force
    await running.close()


async def test_without_a_section_there_is_nothing_to_ask_for(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.config = None  # type: ignore[assignment]
    await running.open()
    assert await running.get() == (404, "usage is not kept; add usage.path to the configuration\n")
    assert running.usage.stats() is None
    await running.close()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL"):
        yield


def test_the_level_of_series_is_that_of_metrics_alone() -> None:
    entry = {
        "tenant": "acme",
        "accepted": 1,
        "filtered": 0,
        "sampled_out": 0,
        "admitted_bytes": 9,
        "masked": {},
        "rejected": {},
    }
    intake = [{**entry, "signal": signal} for signal in Signal]
    read = read_intake({"intake": intake, "active": [{"tenant": "acme", "active_series": 42}]})
    assert {meter.signal: amounts.series for meter, amounts in read.items()} == {
        Signal.TRACES: None, Signal.METRICS: 42, Signal.LOGS: None,
    }  # fmt: skip
