"""What a sender makes of the answer of a backend, real or scripted."""

from typing import Any

import aiohttp
from pydantic import TypeAdapter

from gateway.config.destinations import Destination
from gateway.delivery.senders.destinations import open_sender
from gateway.delivery.senders.outcome import Delivered, Outcome
from gateway.types import Lane, Signal


async def answer(signal: Signal, body: bytes, **settings: Any) -> Outcome:
    async with aiohttp.ClientSession() as session:
        sender = open_sender(TypeAdapter(Destination).validate_python(settings), session)
        outcome = await sender.send(Lane("acme", "backend", signal), [body])
        await sender.close()
        assert isinstance(outcome, Delivered) or outcome.detail, "the backend said why"
        return outcome
