"""`GET /-/masking`: who is masked in earnest, and where a dry run found what it would mask. Never a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from gateway.admin.auth import Viewer


@dataclass(frozen=True, slots=True)
class MaskingView:
    """What the page shows."""

    dry_run: Mapping[str, bool]
    """Tenants that have a mask, and whether it is a dry run."""
    intake: Sequence[Mapping[str, Any]]
    """Of the engine's snapshot (docs/engine-snapshot.md)."""


def masking_page(request: web.Request, viewer: Viewer, view: MaskingView) -> web.Response:
    """What `viewer` may see of it. Raises HTTPBadRequest, HTTPForbidden."""
    wanted = _wanted_tenant(request)
    if viewer.tenant is not None:
        if wanted not in (None, viewer.tenant):
            raise web.HTTPForbidden(text=f"this credential sees the masking of tenant {viewer.tenant} only\n")
        wanted = viewer.tenant
    tenants = [
        {"tenant": tenant, "dry_run": dry_run} for tenant, dry_run in view.dry_run.items() if wanted in (None, tenant)
    ]
    locations = [
        {
            "tenant": entry["tenant"],
            "signal": entry["signal"],
            "place": location["place"],
            "key": location["key"],
            "detector": location["finder"],
            "values": count,
        }
        for entry in view.intake
        if wanted in (None, entry["tenant"])
        for location, count in entry["mask_locations"]
    ]
    body = orjson.dumps({"tenants": tenants, "locations": locations})
    response = web.Response(body=body, content_type="application/json")
    response.enable_compression()
    return response


def _wanted_tenant(request: web.Request) -> str | None:
    """Raises HTTPBadRequest."""
    unknown = set(request.query) - {"tenant"}
    if unknown:
        raise web.HTTPBadRequest(text=f"unknown parameter {min(unknown)}; there is tenant\n")
    if len(request.query.getall("tenant", [])) > 1:
        raise web.HTTPBadRequest(text="tenant stands there more than once\n")
    return request.query.get("tenant") or None
