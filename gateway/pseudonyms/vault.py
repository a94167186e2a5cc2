"""Vault as the sources ask it: one question at a time, in a thread of its own, with a token that is kept alive."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from gateway.config.pseudonyms import VaultConfig
from gateway.pseudonyms.pace import Pace
from gateway.pseudonyms.source import SourceProblem
from gateway.pseudonyms.vault_problems import Asked
from gateway.pseudonyms.vault_session import Question, VaultSession

T = TypeVar("T")


class Vault:
    """Needs no running event loop before it is first asked."""

    def __init__(self, settings: VaultConfig, *, pace: Pace, log: Any) -> None:
        self._session = VaultSession(settings)
        self._pace = pace
        self._log = log
        # hvac blocks, and its client is one thread's.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vault")
        self._keeper: asyncio.Task[None] | None = None
        self._new_token = asyncio.Event()
        self._warning: str | None = None
        self._failure: str | None = None

    @property
    def logins(self) -> int:
        return self._session.logins

    @property
    def renewals(self) -> int:
        return self._session.renewals

    async def ask(self, asked: Asked, question: Question) -> dict[str, Any]:
        """The answer's JSON object. Raises SourceProblem."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_logged_in(), name="Vault's token")
        before = self._session.logins
        try:
            return await self._in_thread(lambda: self._session.ask(asked, question))
        finally:
            if self._session.logins != before:
                self._new_token.set()

    async def close(self) -> None:
        """An answer that is still awaited is given up after vault.timeout."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._thread.submit(self._session.close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _keep_logged_in(self) -> None:
        failures = 0
        while True:
            try:
                wait_s = await self._in_thread(self._session.keep_logged_in)
            except Exception as error:  # noqa: BLE001
                # Whatever it is, a token that nobody renews any more would end without a word.
                failures += 1
                wait_s = self._pace.retry_s(failures)
                known = isinstance(error, SourceProblem)
                self._say_failure(str(error) if known else f"internal error: {type(error).__name__}")
            else:
                failures, self._failure = 0, None
                self._say_warning()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._new_token.wait()
            self._new_token.clear()

    def _say_failure(self, cause: str) -> None:
        if cause != self._failure:
            self._log.warning("Vault's token could not be renewed; keys that are known stay in use", cause=cause)
        self._failure = cause

    def _say_warning(self) -> None:
        warning = self._session.warning
        if warning is not None and self._warning is None:
            self._log.warning(warning)
        self._warning = warning
