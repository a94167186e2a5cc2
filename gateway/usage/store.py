"""Usage on disk: one SQLite database, for one thread; others may read it meanwhile (WAL)."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from gateway.types import Signal, UsageError, UsageQuery
from gateway.usage.meter import Amounts, Meter, Readings

FORMAT_VERSION = 1
_BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
CREATE TABLE usage (
  day TEXT NOT NULL, tenant TEXT NOT NULL, signal TEXT NOT NULL,
  items INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, masked_values INTEGER NOT NULL,
  series INTEGER,
  PRIMARY KEY (day, tenant, signal)
) WITHOUT ROWID;
CREATE TABLE rejected (
  day TEXT NOT NULL, tenant TEXT NOT NULL, signal TEXT NOT NULL, reason TEXT NOT NULL, items INTEGER NOT NULL,
  PRIMARY KEY (day, tenant, signal, reason)
) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (day, tenant, signal) DO UPDATE SET
  items = items + excluded.items, bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + excluded.bytes_out,
  masked_values = masked_values + excluded.masked_values,
  series = max(ifnull(series, excluded.series), ifnull(excluded.series, series))
"""
_ADD_REJECTED = """
INSERT INTO rejected VALUES (?, ?, ?, ?, ?)
ON CONFLICT (day, tenant, signal, reason) DO UPDATE SET items = items + excluded.items
"""
_WITHIN = "day BETWEEN ? AND ? AND (? IS NULL OR tenant = ?)"


@dataclass(frozen=True, slots=True)
class DayUsage:
    """One row: what a meter counted on a day, UTC."""

    day: date
    meter: Meter
    amounts: Amounts


class Store:
    """The database. Methods raise sqlite3.Error when the disk does not do what it should."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open or create, to write. Raises UsageError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"cannot open the usage database {path}: {error}") from None
        try:
            _check_version(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            # A few commits a minute: each is on disk before the next.
            connection.execute("PRAGMA synchronous = FULL")
            if _version(connection) == 0:
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT_VERSION}; COMMIT;")
        except sqlite3.Error as error:
            connection.close()
            raise UsageError(
                f"{path} cannot be used as the usage database: {error}; mend it, or move it away to begin anew"
            ) from None
        except UsageError:
            connection.close()
            raise
        return cls(connection)

    @classmethod
    def open_to_read(cls, path: Path) -> "Store":
        """Open an existing one, also while a gateway writes it. Raises UsageError."""
        if not path.exists():
            raise UsageError(f"there is no usage database {path}; a gateway with usage.path makes one when it starts")
        try:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            try:
                _check_version(connection, path, may_be_new=False)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise UsageError(f"cannot read the usage database {path}: {error}") from None
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    def add(self, day: date, used: Readings) -> None:
        """Add to a day: all of it, or, on an error, nothing."""
        text = day.isoformat()
        rows = [
            (text, meter.tenant, meter.signal.value, *_counts(amounts), amounts.series)
            for meter, amounts in used.items()
        ]
        rejected = [
            (text, meter.tenant, meter.signal.value, reason, items)
            for meter, amounts in used.items()
            for reason, items in amounts.rejected.items()
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(_ADD, rows)
            self._connection.executemany(_ADD_REJECTED, rejected)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def forget_before(self, day: date) -> None:
        """Delete what is older than `day`."""
        for table in ("usage", "rejected"):
            self._connection.execute(f"DELETE FROM {table} WHERE day < ?", (day.isoformat(),))  # noqa: S608 - ours

    def rows(self, query: UsageQuery, *, most: int = -1) -> list[DayUsage]:
        """By day, tenant and signal; not more than `most`."""
        within = (query.first.isoformat(), query.last.isoformat(), query.tenant, query.tenant)
        # One transaction, so that both tables are of the same moment.
        self._connection.execute("BEGIN")
        try:
            counted = self._connection.execute(
                f"SELECT * FROM usage WHERE {_WITHIN} ORDER BY day, tenant, signal LIMIT ?",  # noqa: S608 - ours
                (*within, most),
            ).fetchall()
            rejected: dict[tuple[str, str, str], dict[str, int]] = {}
            with closing(self._connection.execute(f"SELECT * FROM rejected WHERE {_WITHIN}", within)) as found:  # noqa: S608
                for day, tenant, signal, reason, items in found:
                    rejected.setdefault((day, tenant, signal), {})[reason] = items
        finally:
            self._connection.execute("COMMIT")
        return list(_day_usage(counted, rejected))

    def first_days(self) -> dict[str, date]:
        """When each tenant was first seen, as far back as days are kept."""
        found = self._connection.execute("SELECT tenant, min(day) FROM usage GROUP BY tenant")
        return {tenant: date.fromisoformat(day) for tenant, day in found}


def _counts(amounts: Amounts) -> tuple[int, int, int, int]:
    return amounts.items, amounts.bytes_in, amounts.bytes_out, amounts.masked_values


def _day_usage(
    counted: list[tuple[str, str, str, int, int, int, int, int | None]],
    rejected: Mapping[tuple[str, str, str], dict[str, int]],
) -> Iterator[DayUsage]:
    for day, tenant, signal, items, bytes_in, bytes_out, masked, series in counted:
        reasons = rejected.get((day, tenant, signal), {})
        amounts = Amounts(items, bytes_in, bytes_out, masked, reasons, series)
        yield DayUsage(date.fromisoformat(day), Meter(tenant, Signal(signal)), amounts)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check_version(connection: sqlite3.Connection, path: Path, *, may_be_new: bool = True) -> None:
    found = _version(connection)
    if found == 0 and not may_be_new:
        raise UsageError(f"{path} is no usage database")
    if found > FORMAT_VERSION:
        raise UsageError(
            f"the usage database {path} was written by a newer version (format {found}); run that version, "
            "or name another usage.path"
        )
