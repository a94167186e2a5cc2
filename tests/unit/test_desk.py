"""Answers to the engine's questions about tokens: each exactly once, whatever the verifier does."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.identity.desk import TokenDesk
from gateway.identity.verdict import RefusalReason, Refused, Unavailable, Verdict
from gateway.types import Signal

NOW = 1000.0


@dataclass
class AskingEngine:
    """Asks what a test puts in, and remembers the answers."""

    questions: list[tuple[int, bytes]] = field(default_factory=list)
    answers: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)

    def ask(self, *questions: tuple[int, bytes]) -> None:
        self.questions += questions
        os.eventfd_write(self.fd, 1)

    def token_fd(self) -> int:
        return self.fd

    def drain_tokens(self) -> Sequence[tuple[int, bytes]]:
        os.eventfd_read(self.fd)
        questions, self.questions = self.questions, []
        return questions

    def believe(self, question: int, *, tenant: str, signals: Sequence[str] | None, holds_s: float) -> None:
        self.answers.append((question, "believed", tenant, signals, holds_s))

    def refuse(self, question: int, *, holds_s: float) -> None:
        self.answers.append((question, "refused", holds_s))

    def cannot_tell(self, question: int, *, retry_after_s: float) -> None:
        self.answers.append((question, "unavailable", retry_after_s))


@dataclass
class Scripted:
    """Verifies as it is told."""

    outcome: Callable[[str], Verdict]

    async def verify(self, token: str) -> Verdict:
        await asyncio.sleep(0)
        return self.outcome(token)


async def answers(outcome: Callable[[str], Verdict], *questions: tuple[int, bytes]) -> tuple[list[Any], dict[str, int]]:
    engine, verdicts = AskingEngine(), dict[str, int]()
    desk = TokenDesk(engine, Scripted(outcome), lambda: NOW, verdicts)
    desk.open()
    engine.ask(*questions)
    for _ in range(200):
        if len(engine.answers) == len(questions):
            break
        await asyncio.sleep(0.01)
    await desk.close()
    os.close(engine.fd)
    return engine.answers, verdicts


def raising(error: Exception) -> Callable[[str], Verdict]:
    def outcome(token: str) -> Verdict:
        raise error

    return outcome


async def test_a_verdict_holds_until_the_token_ends() -> None:
    def outcome(token: str) -> Verdict:
        return Verdict("acme", None if token == "a" else frozenset({Signal.LOGS}), "svc", NOW + 60)

    said, verdicts = await answers(outcome, (1, b"a"), (2, b"b"))
    assert sorted(said) == [(1, "believed", "acme", None, 60.0), (2, "believed", "acme", ["logs"], 60.0)]
    assert verdicts == {"believed": 2}


async def test_a_token_that_has_just_ended_holds_for_no_time() -> None:
    said, _ = await answers(lambda _: Verdict("acme", None, "", NOW - 1), (1, b"a"))
    assert said == [(1, "believed", "acme", None, 0.0)]


@pytest.mark.parametrize("reason", RefusalReason)
async def test_a_refusal_holds_shortly_if_it_may_come_right_by_itself(reason: RefusalReason) -> None:
    said, verdicts = await answers(raising(Refused(reason)), (1, b"a"))
    soon = reason in {RefusalReason.NOT_YET_VALID, RefusalReason.UNKNOWN_KEY}
    assert said == [(1, "refused", 5.0 if soon else 300.0)]
    assert verdicts == {reason.value: 1}


async def test_what_nobody_can_tell_says_when_to_come_again() -> None:
    said, verdicts = await answers(raising(Unavailable("https://sso.example", "it is down", 7.0)), (1, b"a"))
    assert said == [(1, "unavailable", 7.0)]
    assert verdicts == {"unavailable": 1}


async def test_a_bug_in_verifying_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    said, _ = await answers(raising(KeyError("SECRET-token")), (1, b"SECRET-token"))
    assert said == [(1, "unavailable", 5.0)]
    assert "SECRET" not in caplog.text
