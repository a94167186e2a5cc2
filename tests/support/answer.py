"""What a sender makes of the answer of a backend, real or scripted."""

from typing import Any

from gateway.delivery.senders.outcome import Delivered, Outcome
from gateway.types import Lane, Signal
from tests.support.sender import opened


async def answer(signal: Signal, body: bytes, **settings: Any) -> Outcome:
    async with opened(settings) as sender:
        outcome = await sender.send(Lane("acme", "backend", signal), [body])
    assert isinstance(outcome, Delivered) or outcome.detail, "the backend said why"
    return outcome
