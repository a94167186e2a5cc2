"""The sink's servers: remote write 1 and 2, Loki push and OTLP over HTTP on one port, OTLP/gRPC on another."""

import socket
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from gateway.sink import decode
from gateway.sink.received import Received

_MAX_BODY_BYTES = 256 << 20
Take = Callable[[Any, str | None, Received], None]
_OTLP: dict[str, tuple[Any, Take]] = {
    "traces": (trace_service_pb2.ExportTraceServiceRequest, decode.otlp_traces),
    "metrics": (metrics_service_pb2.ExportMetricsServiceRequest, decode.otlp_metrics),
    "logs": (logs_service_pb2.ExportLogsServiceRequest, decode.otlp_logs),
}
_GRPC_SERVICES = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
_TENANT_HEADERS = ("X-Scope-OrgID", "x-tenant")


class Sink:
    """Start it, point a gateway at it, look at `received`."""

    def __init__(self, on_request: Callable[[], None] | None = None) -> None:
        self.received = Received()
        self._on_request = on_request or (lambda: None)
        self._runner: web.AppRunner | None = None
        self._grpc: grpc.aio.Server | None = None
        self.host, self.http_port, self.grpc_port = "127.0.0.1", 0, 0

    async def start(self, host: str = "127.0.0.1", http_port: int = 0, grpc_port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises OSError."""
        self.host, self.http_port, self.grpc_port = host, http_port, grpc_port
        await self.resume()

    @property
    def http_url(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"http://{self.host}:{self.grpc_port}"

    async def pause(self) -> None:
        """Be unreachable: an outage."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._grpc is not None:
            await self._grpc.stop(grace=0)
        self._runner = self._grpc = None

    stop = pause

    async def resume(self) -> None:
        """Listen on the same ports again. Raises OSError."""
        for port in filter(None, (self.http_port, self.grpc_port)):
            _require_free(self.host, port)
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/", self._summary)
        app.router.add_post("/api/v1/write", self._remote_write)
        app.router.add_post("/loki/api/v1/push", self._loki)
        app.router.add_post("/v1/{signal}", self._otlp_http)
        # aiohttp knows zstd on some machines only, so encodings are undone here.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.http_port, reuse_address=True).start()
        self.http_port = self._runner.addresses[0][1]
        # Without so_reuseport, no second sink takes a part of what comes.
        self._grpc = grpc.aio.server(
            options=[("grpc.max_receive_message_length", _MAX_BODY_BYTES), ("grpc.so_reuseport", 0)]
        )
        for signal, service in _GRPC_SERVICES.items():
            self._grpc.add_generic_rpc_handlers((self._grpc_handler(signal, service),))
        self.grpc_port = self._grpc.add_insecure_port(f"{self.host}:{self.grpc_port}")
        await self._grpc.start()

    async def _summary(self, _request: web.Request) -> web.Response:
        received = self.received
        return web.json_response(
            {
                "received": {f"{tenant}/{kind}": count for (kind, tenant), count in received.counts.items()},
                "requests": dict(received.requests),
                "violations": received.violations,
            }
        )

    async def _remote_write(self, request: web.Request) -> web.Response:
        body = await request.read()
        tenant = _tenant(request)
        headers: dict[str, str] = {}
        try:
            plain = decode.decompress("snappy", body)
            if "io.prometheus.write.v2.Request" in request.headers.get("Content-Type", ""):
                samples, histograms, exemplars = decode.remote_write_2(plain, tenant, self.received)
                headers = {
                    "X-Prometheus-Remote-Write-Samples-Written": str(samples),
                    "X-Prometheus-Remote-Write-Histograms-Written": str(histograms),
                    "X-Prometheus-Remote-Write-Exemplars-Written": str(exemplars),
                }
                self._count("remote_write_2")
            else:
                decode.remote_write_1(plain, tenant, self.received)
                self._count("remote_write_1")
        except (DecodeError, ValueError, IndexError) as error:
            return self._bad("remote write", error)
        return web.Response(status=204, headers=headers)

    async def _loki(self, request: web.Request) -> web.Response:
        try:
            body = decode.decompress("snappy", await request.read())
            decode.loki_push(body, _tenant(request), self.received)
        except (DecodeError, ValueError) as error:
            return self._bad("loki", error)
        self._count("loki")
        return web.Response(status=204)

    async def _otlp_http(self, request: web.Request) -> web.Response:
        kind = _OTLP.get(request.match_info["signal"])
        if kind is None:
            raise web.HTTPNotFound
        message_type, take = kind
        try:
            body = decode.decompress(request.headers.get("Content-Encoding", ""), await request.read())
            if request.content_type == "application/json":
                message = decode.otlp_json(body, message_type())
            else:
                message = message_type.FromString(body)
            take(message, _tenant(request), self.received)
        except (DecodeError, ValueError) as error:
            return self._bad("otlp", error)
        self._count("otlp_http")
        return web.Response(body=b"", content_type="application/x-protobuf")

    def _grpc_handler(self, signal: str, service: str) -> grpc.GenericRpcHandler:
        message_type, take = _OTLP[signal]

        async def export(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
            tenant = next((metadata[name.lower()] for name in _TENANT_HEADERS if name.lower() in metadata), None)
            take(request, tenant, self.received)
            self._count("otlp_grpc")
            return b""

        method: grpc.RpcMethodHandler[Any, bytes] = grpc.unary_unary_rpc_method_handler(
            export, request_deserializer=message_type.FromString
        )
        return grpc.method_handlers_generic_handler(service, {"Export": method})

    def _count(self, protocol: str) -> None:
        self.received.requests[protocol] += 1
        self._on_request()

    def _bad(self, what: str, error: Exception) -> web.Response:
        self.received.complain(f"{what}: {error}")
        return web.Response(status=400, text=f"{error}\n")


def _tenant(request: web.Request) -> str | None:
    return next((request.headers[name] for name in _TENANT_HEADERS if name in request.headers), None)


def _require_free(host: str, port: int) -> None:
    """Raises OSError that names the port, which the servers' own errors do not all do."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}") from None
