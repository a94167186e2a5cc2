"""`GET /-/usage`: who may ask what, and in which form the answer goes out."""

import asyncio
from datetime import UTC, datetime
from typing import Protocol

from aiohttp import web

from gateway.admin.auth import Viewer
from gateway.types import UsageError, UsageQuery

_PARAMETERS = ("tenant", "from", "to", "format")
_JSON, _CSV = "json", "csv"


class UsageReport(Protocol):
    """What the page needs of `gateway.usage.report.Report`."""

    def to_json(self) -> bytes: ...
    def to_csv(self) -> str: ...


class UsageSource(Protocol):
    """What the page needs of `gateway.usage.usage.Usage`."""

    @property
    def kept(self) -> bool: ...
    async def report(self, query: UsageQuery) -> UsageReport: ...


async def usage_page(request: web.Request, viewer: Viewer, source: UsageSource) -> web.Response:
    """The usage that `viewer` may see. Raises HTTPNotFound, HTTPBadRequest, HTTPForbidden,
    HTTPServiceUnavailable."""
    if not source.kept:
        raise web.HTTPNotFound(text="usage is not kept; add usage.path to the configuration\n")
    query, form = _parse(request)
    if viewer.tenant is not None:
        if query.tenant not in (None, viewer.tenant):
            raise web.HTTPForbidden(text=f"this credential sees the usage of tenant {viewer.tenant} only\n")
        query = UsageQuery(viewer.tenant, query.first, query.last)
    try:
        report = await source.report(query)
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    except UsageError as error:
        raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
    # A large answer takes a while to put into words, and delivery must not wait for it.
    if form == _CSV:
        response = web.Response(text=await asyncio.to_thread(report.to_csv), content_type="text/csv")
        response.headers["Content-Disposition"] = f'attachment; filename="usage-{query.first}-{query.last}.csv"'
    else:
        response = web.Response(body=await asyncio.to_thread(report.to_json), content_type="application/json")
    response.enable_compression()
    return response


def _parse(request: web.Request) -> tuple[UsageQuery, str]:
    """Raises HTTPBadRequest."""
    for name in request.query:
        if name not in _PARAMETERS:
            raise web.HTTPBadRequest(text=f"unknown parameter {name}; there are {', '.join(_PARAMETERS)}\n")
        if len(request.query.getall(name)) > 1:
            raise web.HTTPBadRequest(text=f"{name} stands there more than once\n")
    form = request.query.get("format") or _preferred(request.headers.get("Accept", ""))
    if form not in (_JSON, _CSV):
        raise web.HTTPBadRequest(text="format must be json or csv\n")
    try:
        query = UsageQuery.parse(
            request.query.get("tenant") or None,
            request.query.get("from"),
            request.query.get("to"),
            today=datetime.now(UTC).date(),
        )
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    return query, form


def _preferred(accept: str) -> str:
    """CSV for whoever asks for it before JSON, and JSON for everybody else."""
    for part in accept.split(","):
        match part.partition(";")[0].strip().lower():
            case "text/csv":
                return _CSV
            case "application/json":
                return _JSON
    return _JSON
