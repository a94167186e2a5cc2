"""What is known of active series, kept over restarts: one file a tenant beside the queue (docs/series-budget.md)."""

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

import structlog

from gateway._engine import Engine
from gateway.config.models import Config

log = structlog.get_logger(__name__)

SAVE_INTERVAL_S = 60.0
"""What was new since is forgotten by a crash."""
# How the names of files end that are not whole yet.
_UNFINISHED = ".unfinished"


class SeriesState:
    """Saves the engine's state of active series every minute, and whole at the end.

    A file is replaced as one. One that is damaged is a warning and a fresh start, and so is a disk that takes nothing:
    the data path goes on without.
    """

    def __init__(self, config: Config, engine: Engine) -> None:
        self._engine = engine
        self._folder = config.queue.dir / "series"
        self._tenants = tuple(config.tenants)
        self._finishing = asyncio.Event()
        self._saving: asyncio.Task[None] | None = None

    @classmethod
    async def restore(cls, config: Config, *, engine: Engine) -> "SeriesState":
        """Hand the engine what a former run saved. Before its first policy, which says what is tracked."""
        state = cls(config, engine)
        await asyncio.to_thread(state._load)
        return state

    async def start(self) -> None:
        """Save from now on. At once as well: the last word of the former run must not be read again after a crash."""
        await asyncio.to_thread(self._save, last=False)
        self._saving = asyncio.create_task(self._keep_saving())

    def reconfigure(self, config: Config) -> None:
        self._tenants = tuple(config.tenants)

    async def finish(self) -> None:
        """The last word, when nothing comes in any more."""
        self._finishing.set()
        if self._saving is not None:
            # A save that has begun ends first: of two at a time the older could be the last.
            await self._saving
        await asyncio.to_thread(self._save, last=True)

    async def _keep_saving(self) -> None:
        while not self._finishing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finishing.wait(), SAVE_INTERVAL_S)
                return
            await asyncio.to_thread(self._save, last=False)

    def _load(self) -> None:
        self._sweep()
        for tenant in self._tenants:
            path = self._path(tenant)
            try:
                self._engine.load_series(path.read_bytes())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                log.warning(
                    "the saved state of active series is unusable; this tenant starts afresh",
                    tenant_id=tenant,
                    path=str(path),
                    error=str(error),
                )

    def _sweep(self) -> None:
        """What a crash left unfinished goes; the files that it was to replace are whole."""
        for unfinished in self._folder.glob(f"*{_UNFINISHED}"):
            try:
                unfinished.unlink()
            except OSError as error:
                log.warning("an unfinished file was not removed", path=str(unfinished), error=str(error))

    def _save(self, *, last: bool) -> None:
        for tenant in self._tenants:
            state = self._engine.dump_series(tenant, last=last)
            path = self._path(tenant)
            try:
                if state is None:
                    path.unlink(missing_ok=True)
                else:
                    _replace(path, state)
            except OSError as error:
                log.warning(
                    "the state of active series was not saved; see to the disk of queue.dir",
                    tenant_id=tenant,
                    path=str(path),
                    error=str(error),
                )

    def _path(self, tenant: str) -> Path:
        return self._folder / f"{tenant}.state"


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is the old one or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=_UNFINISHED, delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
