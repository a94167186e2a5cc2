"""Tokens that the engine does not know: each is asked about once, and the answer says how long it holds."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.identity.verdict import RefusalReason, Refused, Unavailable, Verdict

log = structlog.get_logger(__name__)

# What is wrong for good is remembered for minutes; what may come right by itself, for seconds.
_HOLDS_S = 300.0
_SHORTLY_S = 5.0
_SHORTLY = frozenset({RefusalReason.NOT_YET_VALID, RefusalReason.UNKNOWN_KEY})
# A verification that failed for a reason of our own.
_RETRY_AFTER_S = 5.0


class TokenSource(Protocol):
    """What the desk needs of `gateway._engine.Engine`."""

    def token_fd(self) -> int: ...
    def drain_tokens(self) -> Sequence[tuple[int, bytes]]: ...
    def believe(self, question: int, *, tenant: str, signals: Sequence[str] | None, holds_s: float) -> None: ...
    def refuse(self, question: int, *, holds_s: float) -> None: ...
    def cannot_tell(self, question: int, *, retry_after_s: float) -> None: ...


class Verifier(Protocol):
    """Whoever knows the issuers."""

    async def verify(self, token: str) -> Verdict:
        """Raises Refused and Unavailable."""


class TokenDesk:
    """Answers the engine's questions. The engine bounds how many there are."""

    def __init__(
        self, engine: TokenSource, verifier: Verifier, clock: Callable[[], float], verdicts: dict[str, int]
    ) -> None:
        """`verdicts` is kept up to date: how many tokens were `believed`, `unavailable`, or refused, by reason."""
        self._engine = engine
        self._verifier = verifier
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._verdicts = verdicts

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._engine.token_fd(), self._take_questions)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._engine.token_fd())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take_questions(self) -> None:
        for question, token in self._engine.drain_tokens():
            task = asyncio.create_task(self._answer(question, token.decode("ascii")))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, question: int, token: str) -> None:
        try:
            verdict = await self._verifier.verify(token)
        except Refused as refused:
            self._count(refused.reason.value)
            self._engine.refuse(question, holds_s=_SHORTLY_S if refused.reason in _SHORTLY else _HOLDS_S)
        except Unavailable as unavailable:
            self._count("unavailable")
            self._engine.cannot_tell(question, retry_after_s=unavailable.retry_after_s)
        except Exception as error:  # noqa: BLE001
            # A bug in verifying must not leave requests waiting; what failed is not shown, it may quote the token.
            log.error("a token could not be verified", error=type(error).__name__)
            self._count("unavailable")
            self._engine.cannot_tell(question, retry_after_s=_RETRY_AFTER_S)
        else:
            self._count("believed")
            signals = None if verdict.signals is None else [signal.value for signal in verdict.signals]
            holds_s = max(0.0, verdict.expires_at - self._clock())
            self._engine.believe(question, tenant=verdict.tenant, signals=signals, holds_s=holds_s)

    def _count(self, verdict: str) -> None:
        self._verdicts[verdict] = self._verdicts.get(verdict, 0) + 1
