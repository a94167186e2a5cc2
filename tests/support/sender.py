"""The sender of a destination by itself, without a gateway around it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from pydantic import TypeAdapter

from gateway.config.destinations import Destination
from gateway.delivery.senders.destinations import Sender, open_sender


@asynccontextmanager
async def opened(settings: Mapping[str, Any]) -> AsyncIterator[Sender]:
    """Of a destination that is configured like this; closed at the end."""
    async with aiohttp.ClientSession() as session:
        sender = open_sender(TypeAdapter(Destination).validate_python(settings), session)
        try:
            yield sender
        finally:
            await sender.close()
