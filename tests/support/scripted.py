"""Backends that answer by a script and remember what they were sent."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
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
    with the bytes of a google.rpc.Status and perhaps a message. Over HTTP it may be DROPPED, over both SILENCE. After
    the script, `judge` makes an answer of the body, if there is one.
    """

    script: list[Any] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    peers: set[Any] = field(default_factory=set)
    """The other end of each connection, over HTTP."""
    url: str = ""
    judge: Callable[[bytes], Any] | None = None

    def next_answer(self, body: bytes, otherwise: Any) -> Any:
        if self.script:
            return self.script.pop(0)
        return otherwise if self.judge is None else self.judge(body)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        body_sent = await request.read()
        self.bodies.append(body_sent)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.paths.append(request.path)
        answer = self.next_answer(body_sent, 204)
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
        answer = self.next_answer(request, b"")
        if answer is SILENCE:
            await asyncio.Event().wait()
        if isinstance(answer, bytes):
            return answer
        code, details, *message = answer
        if details:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        await context.abort(code, *message or ["by the script"])
        raise AssertionError("abort raises")


@asynccontextmanager
async def scripted(
    *script: Any,
    tls: ServerTls | None = None,
    decompress: bool = True,
    judge: Callable[[bytes], Any] | None = None,
) -> AsyncIterator[Backend]:
    """An HTTP backend; its `url` ends in /push, and every other path works as well.

    With `decompress` it undoes gzip, and refuses zstd before the script has a word.
    """
    backend = Backend(list(script), judge=judge)
    app = web.Application()
    app.router.add_post("/{path:.*}", backend.handle)
    runner = web.AppRunner(app, handler_cancellation=True, auto_decompress=decompress)
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


Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What a backend writes after the head of a request; the connection closes when it returns."""


def saying(answer: bytes) -> Talk:
    """These bytes, and the end of the connection."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return talk


def saying_for_ever(beginning: bytes, again: bytes, *, every_s: float = 0.0) -> Talk:
    """`beginning`, then `again` for as long as somebody reads."""

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(every_s)

    return talk


@dataclass
class RawBackend:
    """A backend that writes whatever bytes the script says; `connections` it had."""

    url: str = ""
    connections: int = 0


@asynccontextmanager
async def raw(talk: Talk) -> AsyncIterator[RawBackend]:
    """A backend whose every connection reads what comes and says what `talk` says."""
    backend = RawBackend()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await talk(writer)
            await writer.drain()
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    backend.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/push"
    try:
        yield backend
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
