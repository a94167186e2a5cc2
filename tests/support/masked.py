"""Requests with something to mask in them, and what left of it."""

import json
from pathlib import Path
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.support.gateway import Gateway
from tests.support.payloads import BUILDERS, text

SIGNALS = ("traces", "metrics", "logs")


def request(signal: str, *, service: str = "shop", body: str = "fine", **attributes: str) -> Any:
    """Two items of one resource: one with these attributes, and one without any. Of a log, `body` is the first's."""
    built = BUILDERS[signal](2)
    (resource,) = _resources(built, signal)
    resource.resource.attributes[0].value.string_value = service
    first, second = _items(resource, signal)
    for item in (first, second):
        del item.attributes[:]
    first.attributes.extend(text(key, value) for key, value in attributes.items())
    if signal == "logs":
        first.body.CopyFrom(AnyValue(string_value=body))
    return built


def delivered(gateway: Gateway, tenant: str) -> list[dict[str, Any]]:
    """The OTLP/JSON requests in the tenant's file, when all has been delivered."""
    gateway.wait_delivered()
    path: Path = gateway.extra["folder"] / "out" / f"{tenant}.jsonl"
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


def items(line: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans, log records or points of a delivered request."""
    found: list[dict[str, Any]] = []
    for resources, scopes, entries in (
        ("resourceSpans", "scopeSpans", "spans"),
        ("resourceLogs", "scopeLogs", "logRecords"),
        ("resourceMetrics", "scopeMetrics", "metrics"),
    ):
        inner = [
            entry for resource in line.get(resources, ()) for scope in resource[scopes] for entry in scope[entries]
        ]
        found += inner if entries != "metrics" else [point for metric in inner for point in metric["sum"]["dataPoints"]]
    return found


def attributes(item: dict[str, Any]) -> dict[str, str]:
    return {pair["key"]: pair["value"]["stringValue"] for pair in item.get("attributes", ())}


def _resources(built: Any, signal: str) -> Any:
    return getattr(built, {"traces": "resource_spans", "logs": "resource_logs", "metrics": "resource_metrics"}[signal])


def _items(resource: Any, signal: str) -> Any:
    match signal:
        case "traces":
            return resource.scope_spans[0].spans
        case "logs":
            return resource.scope_logs[0].log_records
        case _:
            return resource.scope_metrics[0].metrics[0].sum.data_points
