"""`gateway usage`."""

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.config.loader import load
from gateway.config.problems import ConfigError
from gateway.types import UsageError, UsageQuery
from gateway.usage.report import Report
from gateway.usage.store import Store
from gateway.usage.usage import make_report, tariff_of

if TYPE_CHECKING:
    from rich.table import Table

EXIT_OK, EXIT_RUNTIME, EXIT_USAGE = 0, 1, 2
FORMATS = ("table", "json", "csv")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def run(config_file: Path, first: str | None, last: str | None, tenant: str | None, form: str) -> int:
    """Returns the exit code: 1 if the database cannot be read, 2 if the question or the configuration is wrong."""
    if form not in FORMATS:
        typer.echo(f"--format must be one of {', '.join(FORMATS)}", err=True)
        return EXIT_USAGE
    now = datetime.now(UTC)
    try:
        query = UsageQuery.parse(tenant, first, last, today=now.date())
        config = load(config_file).config.usage
    except ValueError as error:
        typer.echo(str(error), err=True)
        return EXIT_USAGE
    except ConfigError as error:
        typer.echo("\n".join(f"✗ {problem}" for problem in error.problems), err=True)
        return EXIT_USAGE
    if config is None:
        typer.echo(f"{config_file} keeps no usage; add usage.path", err=True)
        return EXIT_USAGE
    try:
        store = Store.open_to_read(config.path)
        try:
            report = make_report(store, query, tariff_of(config), now)
        finally:
            store.close()
    except (UsageError, ValueError, sqlite3.Error) as error:
        typer.echo(str(error), err=True)
        return EXIT_RUNTIME
    match form:
        case "json":
            typer.echo(report.to_json())
        case "csv":
            typer.echo(report.to_csv(), nl=False)
        case _:
            _show(report)
    return EXIT_OK


def _show(report: Report) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not report.rows:
        console.print(f"nothing was used from {report.query.first} to {report.query.last}")
        return
    console.print(_table(report))
    for tenant in report.tenants:
        if tenant.forecast is not None:
            forecast = tenant.forecast
            cost = "" if forecast.cost is None else f", {_money(forecast.cost)} {report.tariff.currency}"
            console.print(
                f"{tenant.tenant}: {forecast.month} will come to {forecast.items:,} items, "
                f"{_size(forecast.bytes_in)} in{cost}, if it goes on like this",
                soft_wrap=True,
            )


def _table(report: Report) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    priced = bool(report.tariff.prices)
    table = Table(title=f"usage from {report.query.first} to {report.query.last}, UTC", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("tenant", "signal"):
        table.add_column(name, overflow="fold")
    for name in ("items", "in", "out", "masked", "rejected", "series", *((report.tariff.currency,) if priced else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for meter, amounts in report.by_meter().items():
        cost = report.tariff.cost(meter, amounts)
        table.add_row(
            meter.tenant,
            meter.signal,
            f"{amounts.items:,}",
            _size(amounts.bytes_in),
            _size(amounts.bytes_out),
            f"{amounts.masked_values:,}",
            f"{amounts.rejected_items:,}",
            "" if amounts.series is None else f"{amounts.series:,}",
            *(() if cost is None else (_money(cost),)),
        )
    if priced:
        table.add_section()
        for tenant in report.tenants:
            table.add_row(tenant.tenant, "all", *[""] * 6, _money(tenant.cost or Decimal(0)))
    return table


def _money(cost: Decimal) -> str:
    return f"{cost:,.2f}"


def _size(count: float) -> str:
    """In powers of 1000, as prices are."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"
