"""Backends that answer by a script and remember what they were sent."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from aiohttp import web

from gateway.config.tls import ServerTls

DROPPED = "the connection ends without an answer"
SILENCE = "the connection stays open without an answer"


@dataclass
class Backend:
    """Answers with `script`, then as if all were well.

    An answer over HTTP is a status, or a status with headers and perhaps a body; over gRPC a response, or a status code
    with the bytes of a google.rpc.Status. Over HTTP it may be DROPPED, over both SILENCE.
    """

    script: list[Any] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path)
        answer = self.script.pop(0) if self.script else 204
        if answer is SILENCE:
            await asyncio.Event().wait()
        if answer is DROPPED:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        status, headers, *body = answer if isinstance(answer, tuple) else (answer, {})
        if not body:
            return web.Response(status=status, headers=headers)
        # In two pieces, as a network may bring it.
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        for piece in (body[0][:1], body[0][1:]):
            await response.write(piece)
            await asyncio.sleep(0.02)
        return response

    async def export(self, request: bytes, context: Any) -> bytes:
        self.bodies.append(request)
        self.headers.append({key: str(value) for key, value in context.invocation_metadata()})
        answer = self.script.pop(0) if self.script else b""
        if answer is SILENCE:
            await asyncio.Event().wait()
        if isinstance(answer, bytes):
            return answer
        code, details = answer
        if details:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        await context.abort(code, "by the script")
        raise AssertionError("abort raises")


@asynccontextmanager
async def scripted(*script: Any, tls: ServerTls | None = None) -> AsyncIterator[Backend]:
    """An HTTP backend; its `url` ends in /push, and every other path works as well."""
    backend = Backend(list(script))
    app = web.Application()
    app.router.add_post("/{path:.*}", backend.handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.client_ca_file)
        context.load_cert_chain(tls.cert_file, tls.key_file)
        context.verify_mode = ssl.CERT_REQUIRED
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    backend.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/push"
    try:
        yield backend
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scripted_grpc(*script: Any, tls: ServerTls | None = None) -> AsyncIterator[Backend]:
    """A gRPC backend that takes every method, bytes in and bytes out."""
    backend = Backend(list(script))

    class EveryMethod(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            backend.paths.append(handler_call_details.method)
            return grpc.unary_unary_rpc_method_handler(backend.export)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((EveryMethod(),))
    if tls is None:
        backend.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        pair = (tls.key_file.read_bytes(), tls.cert_file.read_bytes())
        authority = tls.client_ca_file.read_bytes() if tls.client_ca_file is not None else None
        credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=True)
        backend.url = f"https://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    try:
        yield backend
    finally:
        await server.stop(None)
