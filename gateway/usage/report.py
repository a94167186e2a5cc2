"""Usage as people and invoices read it: rows, sums, costs and a forecast; as JSON, CSV or a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import orjson

from gateway.config.models import Price
from gateway.types import Signal, UsageQuery
from gateway.usage.meter import Amounts, Meter
from gateway.usage.store import DayUsage

_GB = Decimal(10**9)
_MILLION = Decimal(10**6)
_CENT_OF_A_CENT = Decimal("0.0001")
# A forecast from less than this would say more about the hour than about the month.
_MIN_ELAPSED = timedelta(hours=1)
_COLUMNS = (
    "day", "tenant", "signal", "items", "bytes_in", "bytes_out", "masked_values", "rejected_items", "rejected",
    "series", "cost", "currency",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices by signal. Without any, there are no costs."""

    prices: Mapping[Signal, Price] = field(default_factory=dict)
    currency: str = ""

    def cost(self, meter: Meter, amounts: Amounts) -> Decimal | None:
        """Exact; rounded where it is shown."""
        if not self.prices:
            return None
        price = self.prices.get(meter.signal, Price())
        return price.per_gb * amounts.bytes_in / _GB + price.per_million_items * amounts.items / _MILLION


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, UTC, of which a part has passed."""

    first: date
    now: datetime

    @classmethod
    def at(cls, now: datetime) -> "Month":
        return cls(now.date().replace(day=1), now)

    @property
    def end(self) -> date:
        """The first day of the next month."""
        return (self.first + timedelta(days=31)).replace(day=1)

    def growth(self, since: date) -> Decimal | None:
        """What the month's use up to now is to be multiplied by for that of the whole month, if it goes on as it did.

        `since`: the first day of use; a tenant that came in mid-month is measured from there. None: too early to say.
        """
        start = _midnight(max(self.first, since))
        elapsed, left = self.now - start, _midnight(self.end) - self.now
        if elapsed < _MIN_ELAPSED:
            return None
        return 1 + Decimal(left / timedelta(microseconds=1)) / Decimal(elapsed / timedelta(microseconds=1))


@dataclass(frozen=True, slots=True)
class Forecast:
    """The current month: what it came to so far, and what it will if it goes on like this."""

    month: str
    items: int
    bytes_in: int
    cost_so_far: Decimal | None
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """One tenant over all days and signals of a report."""

    tenant: str
    amounts: Amounts
    cost: Decimal | None
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a `UsageQuery`."""

    query: UsageQuery
    rows: Sequence[DayUsage]
    tenants: Sequence[TenantUsage]
    tariff: Tariff

    @classmethod
    def of(
        cls,
        query: UsageQuery,
        rows: Sequence[DayUsage],
        *,
        month: Month,
        month_rows: Sequence[DayUsage],
        first_days: Mapping[str, date],
        tariff: Tariff,
    ) -> "Report":
        """`month_rows`: the same tenants' rows of the current month, whatever days were asked for."""
        forecasts = {
            tenant: _forecast(found, month, first_days.get(tenant, month.first), tariff)
            for tenant, found in _by_tenant(month_rows).items()
        }
        tenants = [
            TenantUsage(tenant, _sum(found), _cost(found, tariff), forecasts.get(tenant))
            for tenant, found in _by_tenant(rows).items()
        ]
        return cls(query, rows, tenants, tariff)

    def to_json(self) -> bytes:
        """One object: the query, `rows` by day, `tenants` with sums and forecast."""
        priced = bool(self.tariff.prices)
        return orjson.dumps(
            {
                "from": self.query.first.isoformat(),
                "to": self.query.last.isoformat(),
                "currency": self.tariff.currency if priced else None,
                "rows": [
                    {
                        "day": row.day.isoformat(),
                        "tenant": row.meter.tenant,
                        "signal": row.meter.signal.value,
                        **_amounts(row.amounts),
                        "cost": _rounded(self.tariff.cost(row.meter, row.amounts)),
                    }
                    for row in self.rows
                ],
                "tenants": [
                    {
                        "tenant": tenant.tenant,
                        **_amounts(tenant.amounts),
                        "cost": _rounded(tenant.cost),
                        "forecast": _forecast_values(tenant.forecast),
                    }
                    for tenant in self.tenants
                ],
            }
        )

    def to_csv(self) -> str:
        """One line a day, tenant and signal (RFC 4180)."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(_COLUMNS)
        for row in self.rows:
            amounts, cost = row.amounts, self.tariff.cost(row.meter, row.amounts)
            reasons = " ".join(f"{reason}={items}" for reason, items in sorted(amounts.rejected.items()))
            writer.writerow(
                (
                    row.day.isoformat(), row.meter.tenant, row.meter.signal.value, amounts.items, amounts.bytes_in,
                    amounts.bytes_out, amounts.masked_values, amounts.rejected_items, reasons, amounts.series,
                    None if cost is None else _rounded(cost), None if cost is None else self.tariff.currency,
                )
            )  # fmt: skip
        return out.getvalue()

    def by_meter(self) -> dict[Meter, Amounts]:
        """All days together, by tenant and signal."""
        sums: dict[Meter, Amounts] = {}
        for row in self.rows:
            sums[row.meter] = sums.get(row.meter, Amounts()) + row.amounts
        return dict(sorted(sums.items()))


def _by_tenant(rows: Sequence[DayUsage]) -> dict[str, list[DayUsage]]:
    found: dict[str, list[DayUsage]] = {}
    for row in rows:
        found.setdefault(row.meter.tenant, []).append(row)
    return dict(sorted(found.items()))


def _sum(rows: Sequence[DayUsage]) -> Amounts:
    return sum((row.amounts for row in rows), Amounts())


def _cost(rows: Sequence[DayUsage], tariff: Tariff) -> Decimal | None:
    costs = [tariff.cost(row.meter, row.amounts) for row in rows]
    return sum((cost for cost in costs if cost is not None), Decimal(0)) if tariff.prices else None


def _forecast(rows: Sequence[DayUsage], month: Month, since: date, tariff: Tariff) -> Forecast | None:
    growth = month.growth(since)
    if growth is None:
        return None
    so_far, cost = _sum(rows), _cost(rows, tariff)
    return Forecast(
        month=f"{month.first:%Y-%m}",
        items=round(so_far.items * growth),
        bytes_in=round(so_far.bytes_in * growth),
        cost_so_far=cost,
        cost=None if cost is None else cost * growth,
    )


def _amounts(amounts: Amounts) -> dict[str, Any]:
    return {
        "items": amounts.items,
        "bytes_in": amounts.bytes_in,
        "bytes_out": amounts.bytes_out,
        "masked_values": amounts.masked_values,
        "rejected_items": amounts.rejected_items,
        "rejected": dict(sorted(amounts.rejected.items())),
        "series": amounts.series,
    }


def _forecast_values(forecast: Forecast | None) -> dict[str, Any] | None:
    if forecast is None:
        return None
    return {
        "month": forecast.month,
        "items": forecast.items,
        "bytes_in": forecast.bytes_in,
        "cost_so_far": _rounded(forecast.cost_so_far),
        "cost": _rounded(forecast.cost),
    }


def _rounded(cost: Decimal | None) -> float | None:
    return None if cost is None else float(cost.quantize(_CENT_OF_A_CENT, ROUND_HALF_EVEN))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
