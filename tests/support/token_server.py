"""A token endpoint that takes the client credentials grant to the letter (RFC 6749 §2.3.1, §4.4, §5)."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

Answer = Callable[[], web.StreamResponse]


@dataclass
class TokenServer:
    """Gives token-1, token-2 and so on to whoever asks as the specification says; `script` comes before."""

    client_id: str = "gate way"
    client_secret: str = "hu:sh/+&é"
    expires_in: Any = 3600
    delay_s: float = 0.0
    script: list[Answer] = field(default_factory=list)
    members: dict[str, Any] = field(default_factory=dict)
    """Added to the answer; None removes one."""
    asked: list[dict[str, str]] = field(default_factory=list)
    """The forms that came, those that were refused too."""
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = parse_qsl(await request.text(), keep_blank_values=True, strict_parsing=True)
        self.asked.append(dict(form))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.script:
            return self.script.pop(0)()
        if request.content_type != "application/x-www-form-urlencoded" or len(dict(form)) < len(form):
            return error("invalid_request")
        client = self._client(request, dict(form))
        if client is None:
            return error("invalid_request")
        if client != (self.client_id, self.client_secret):
            return error("invalid_client", 401)
        if dict(form).get("grant_type") != "client_credentials":
            return error("unsupported_grant_type")
        members = {
            "access_token": f"token-{len(self.asked)}",
            "token_type": "bearer",
            "expires_in": self.expires_in,
            **self.members,
        }
        headers = {"Cache-Control": "no-store"}
        return web.json_response({k: v for k, v in members.items() if v is not None}, headers=headers)

    def _client(self, request: web.Request, form: dict[str, str]) -> tuple[str, str] | None:
        """Who asks: by header or by form, never by both."""
        by_form = (form["client_id"], form["client_secret"]) if "client_secret" in form else None
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return by_form
        name, _, secret = base64.b64decode(credentials, validate=True).decode("ascii").partition(":")
        return None if by_form else (unquote_plus(name), unquote_plus(secret))


def error(code: str, status: int = 400, **members: str) -> web.Response:
    return web.json_response({"error": code, **members}, status=status)


@asynccontextmanager
async def token_server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    app = web.Application()
    app.router.add_post("/token", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/token"
    try:
        yield server
    finally:
        await runner.cleanup()
