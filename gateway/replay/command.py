"""`gateway replay`."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import typer

from gateway.config.destinations import FileDestination
from gateway.config.loader import load
from gateway.config.models import Config
from gateway.config.problems import ConfigError
from gateway.delivery.dead_letter import BadLetterError, Letter
from gateway.delivery.outlet import format_of
from gateway.delivery.senders.destinations import Sender, open_sender
from gateway.delivery.senders.outcome import Delivered, Held, Outcome, Refused, Retry, TooLarge
from gateway.replay.letters import LetterFile, read_letters
from gateway.types import Lane

EXIT_OK, EXIT_LEFT, EXIT_USAGE = 0, 1, 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters, and where to; None: any, and where they were going."""

    tenant: str | None = None
    destination: str | None = None
    reason: str | None = None
    to: str | None = None

    def takes(self, letter: Letter) -> bool:
        wanted = ((self.tenant, letter.lane.tenant), (self.destination, letter.lane.destination))
        return all(want in (None, have) for want, have in (*wanted, (self.reason, letter.reason)))


@dataclass(slots=True)
class Result:
    """Of one file; in items."""

    delivered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason; they stay in the file."""
    unreadable: int = 0
    """Lines."""
    rest: list[bytes] = field(default_factory=list)


def run(config_file: Path, files: Sequence[Path], selection: Selection, timeout_s: float, *, dry_run: bool) -> int:
    """Returns the exit code: 1 if something selected was not taken, 2 if the configuration or a file is not usable."""
    try:
        config = load(config_file).config
    except ConfigError as error:
        typer.echo("\n".join(f"✗ {problem}" for problem in error.problems), err=True)
        return EXIT_USAGE
    if selection.to is not None and selection.to not in config.destinations:
        typer.echo(f"there is no destination {selection.to} in {config_file}", err=True)
        return EXIT_USAGE
    try:
        if dry_run:
            return max((_show(file, selection) for file in files), default=EXIT_OK)
        return asyncio.run(_replay(config, files, selection, timeout_s))
    except OSError as error:
        typer.echo(str(error), err=True)
        return EXIT_USAGE


def _show(file: Path, selection: Selection) -> int:
    """What would be sent."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    unreadable = 0
    for _, letter in read_letters(file):
        if isinstance(letter, BadLetterError):
            unreadable += 1
        elif selection.takes(letter):
            to = selection.to or letter.lane.destination
            found[letter.lane.tenant, letter.lane.signal, to, letter.reason] += letter.items
    for (tenant, signal, to, reason), items in sorted(found.items()):
        typer.echo(f"{file}: {items} items of {tenant} ({signal}), given up for {reason}, would go to {to}")
    if not found:
        typer.echo(f"{file}: nothing that was asked for")
    if unreadable:
        typer.echo(f"{file}: {unreadable} lines are no dead letters", err=True)
    return EXIT_LEFT if unreadable else EXIT_OK


async def _replay(config: Config, files: Sequence[Path], selection: Selection, timeout_s: float) -> int:
    code = EXIT_OK
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        replay = _Replay(config, session, selection, timeout_s)
        try:
            for file in files:
                letters = LetterFile(file)
                result = await replay.send_all(letters)
                left = letters.leave(result.rest)
                _report(file, result, left)
                if result.refused or result.unreadable:
                    code = EXIT_LEFT
        finally:
            await replay.close()
    return code


def _report(file: Path, result: Result, left: Path | None) -> None:
    typer.echo(f"{file}: {result.delivered} items delivered")
    for reason, items in result.refused.most_common():
        typer.echo(f"{file}: {items} items were not taken: {reason}", err=True)
    if result.unreadable:
        typer.echo(f"{file}: {result.unreadable} lines are no dead letters", err=True)
    if left is not None:
        typer.echo(f"{left}: {len(result.rest)} letters are left", err=True)


class _Replay:
    def __init__(self, config: Config, session: aiohttp.ClientSession, selection: Selection, timeout_s: float) -> None:
        self._config, self._session = config, session
        self._selection, self._timeout_s = selection, timeout_s
        self._senders: dict[str, Sender] = {}

    async def send_all(self, letters: LetterFile) -> Result:
        result = Result()
        for line, letter in letters.letters():
            if isinstance(letter, BadLetterError):
                result.unreadable += 1
                result.rest.append(line)
            elif not self._selection.takes(letter):
                result.rest.append(line)
            else:
                await self._send_one(line, letter, result)
        return result

    async def _send_one(self, line: bytes, letter: Letter, result: Result) -> None:
        outcome = await self._until_decided(letter)
        match outcome:
            case Delivered(rejected, reason):
                result.delivered += letter.items - min(rejected, letter.items)
                if rejected:
                    typer.echo(f"of a letter, {rejected} items were refused again: {reason}", err=True)
            case Refused(reason) | TooLarge(reason) | Retry(reason) | Held(reason):
                result.refused[reason] += letter.items
                result.rest.append(line)

    async def _until_decided(self, letter: Letter) -> Outcome:
        """Again and again while the backend may still take it, until the time is up."""
        name = self._selection.to or letter.lane.destination
        destination = self._config.destinations.get(name)
        if destination is None:
            return Refused(f"there is no destination {name}")
        if isinstance(destination, FileDestination) or format_of(destination) != letter.format:
            return Refused(f"{name} does not take the format {letter.format}")
        sender = self._senders.get(name)
        if sender is None:
            sender = self._senders[name] = open_sender(destination, self._session)
        lane = Lane(letter.lane.tenant, name, letter.lane.signal)
        deadline, ceiling_s = time.monotonic() + self._timeout_s, _FIRST_PAUSE_S
        while True:
            outcome = await sender.send(lane, letter.parts)
            if not isinstance(outcome, Retry | Held):
                return outcome
            asked_s = outcome.after_s if isinstance(outcome, Retry) else None
            pause_s = (asked_s or 0.0) + random.uniform(0, ceiling_s)  # noqa: S311 - jitter, not a secret
            if time.monotonic() + pause_s > deadline:
                return outcome
            await asyncio.sleep(pause_s)
            ceiling_s = min(_LONGEST_PAUSE_S, 2 * ceiling_s)

    async def close(self) -> None:
        for sender in self._senders.values():
            await sender.close()
