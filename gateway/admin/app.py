"""The admin HTTP app: health and readiness for everybody, metrics and reload for those who may."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, exposition
from prometheus_client.registry import Collector

from gateway.admin.auth import FailureLimiter, Gatekeeper, Viewer
from gateway.admin.masking import MaskingView, masking_page
from gateway.admin.metrics import DaemonState
from gateway.admin.tls import PortTls
from gateway.admin.usage import UsageSource, usage_page

log = structlog.get_logger(__name__)

_MAX_BODY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """Whether a reload worked, and if not, every reason."""

    ok: bool
    messages: tuple[str, ...] = ()


class Witness(Protocol):
    """Is told who came in and who did not: the audit trail."""

    def admin_access(self, viewer: str, tenant: str | None, address: str, path: str) -> None: ...
    def admin_denied(self, address: str, path: str, *, limited: bool) -> None: ...


@dataclass
class AdminApp:
    """What the handlers need of the daemon. `gatekeeper` is replaced by a reload."""

    gatekeeper: Gatekeeper
    state: DaemonState
    checks: Callable[[], dict[str, bool]]
    """Readiness, by part."""
    collectors: Callable[[str | None], Sequence[Collector]]
    """Makes the collectors for one tenant, or for an operator, of what is known now: they are read in a thread."""
    reload: Callable[[str], Awaitable[ReloadResult]]
    """Takes the name of who asks for it."""
    witness: Witness
    usage: UsageSource
    masking: Callable[[], MaskingView]
    missing_keys: Callable[[], Mapping[str, int]]
    """Pseudonym keys that tenants wait for, and how many tenants."""
    tls: PortTls | None = None
    failures: FailureLimiter = field(default_factory=FailureLimiter)
    _page: asyncio.Lock = field(default_factory=asyncio.Lock)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_harden])
        app.router.add_get("/-/healthy", self.healthy)
        app.router.add_get("/-/ready", self.ready)
        for path in ("/metrics", "/_metrics"):
            app.router.add_get(path, self.metrics)
        app.router.add_get("/-/usage", self.usage_of)
        app.router.add_get("/-/masking", self.masking_of)
        for method in ("POST", "PUT"):
            app.router.add_route(method, "/-/reload", self.reload_now)
        return app

    async def healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="healthy\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """Ready means that requests are accepted, not that backends are up."""
        checks = self.checks()
        ready = all(checks.values())
        # Tenants that wait for a key are refused, all others are served. Who they are is not for everybody.
        body = orjson.dumps({"ready": ready, "checks": checks, "missing_pseudonym_keys": self.missing_keys()})
        return web.Response(body=body, status=200 if ready else 503, content_type="application/json")

    async def metrics(self, request: web.Request) -> web.Response:
        viewer = await self._admit(request)
        generate, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
        # Of thousands of tenants it takes seconds: beside the event loop, and one page at a time.
        async with self._page:
            registry = CollectorRegistry()
            for collector in self.collectors(viewer.tenant):
                registry.register(collector)
            if viewer.tenant is None:
                ProcessCollector(registry=registry)
                GCCollector(registry=registry)
                PlatformCollector(registry=registry)
            page = await asyncio.to_thread(generate, registry)
        response = web.Response(body=page, headers={"Content-Type": content_type})
        response.enable_compression()
        return response

    async def usage_of(self, request: web.Request) -> web.Response:
        return await usage_page(request, await self._admit(request), self.usage)

    async def masking_of(self, request: web.Request) -> web.Response:
        return masking_page(request, await self._admit(request), self.masking())

    async def reload_now(self, request: web.Request) -> web.Response:
        viewer = await self._admit(request)
        if viewer.tenant is not None:
            raise web.HTTPForbidden(text="only an operator's credential may reload\n")
        result = await self.reload(viewer.name)
        text = "\n".join(result.messages or ("reloaded",)) + "\n"
        return web.Response(text=text, status=200 if result.ok else 400)

    async def _admit(self, request: web.Request) -> Viewer:
        address = request.remote or "?"
        limited = self.failures.limited(address)
        looked_at = not limited or await self._has_its_turn(address)
        viewer = self._identify(request) if looked_at else None
        if viewer is not None:
            self.witness.admin_access(viewer.name, viewer.tenant, address, request.path)
            return viewer
        self.state.admin_denied += 1
        if looked_at:
            self.failures.failed(address)
        self.witness.admin_denied(address, request.path, limited=limited)
        if limited:
            raise web.HTTPTooManyRequests(
                text="too many failed attempts from this address; a good credential is taken, slowly\n",
                headers={"Retry-After": "60" if looked_at else "5"},
            )
        log.warning("access to the admin port was denied", path=request.path, address=address)
        if self.gatekeeper.closed:
            raise web.HTTPForbidden(text="no credential is configured, so nobody may look; add admin.tokens\n")
        raise web.HTTPUnauthorized(
            text="a bearer token or basic credentials are needed (admin.tokens, admin.basic)\n",
            headers={"WWW-Authenticate": 'Bearer realm="gateway", Basic realm="gateway"'},
        )

    def _identify(self, request: web.Request) -> Viewer | None:
        return self.gatekeeper.identify(request.headers.get("Authorization"), self._certificate_subject(request))

    async def _has_its_turn(self, address: str) -> bool:
        wait_s = self.failures.turn(address)
        if wait_s is None:
            return False
        await asyncio.sleep(wait_s)
        return True

    def _certificate_subject(self, request: web.Request) -> str | None:
        """The common name of a client certificate that is trusted, also today."""
        transport = request.transport
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        if connection is None or self.tls is None or not self.tls.still_trusts(connection):
            return None
        certificate = connection.getpeercert()
        if not certificate:
            return None
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        return names[0] if names else "client certificate"


@web.middleware
async def _harden(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        _security_headers(error)
        raise
    _security_headers(response)
    return response


def _security_headers(response: web.StreamResponse) -> None:
    response.headers["Server"] = "gateway"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
