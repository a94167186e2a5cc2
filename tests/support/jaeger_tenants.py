"""A Jaeger that keeps its tenants apart, by the header x-tenant.

Of Jaeger 2, queries and the storage API (`remote_storage`, which takes OTLP over gRPC) know tenants; its OTLP receiver
does not hand the header on to the storage. So what comes in over OTLP/HTTP is parted by a pipeline a tenant, which
sends to the storage API.
"""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.backends import binary
from tests.support.ports import free_port
from tests.support.processes import Process

HEADER = "x-tenant"


@dataclass(frozen=True)
class TenantedJaeger:
    url: str
    grpc: str
    """The storage API."""
    http: str

    def traces(self, tenant: str, service: str) -> list[dict[str, Any]]:
        """What the tenant sees of a service. Raises urllib.error.HTTPError for a tenant that Jaeger does not know."""
        request = urllib.request.Request(
            f"{self.url}/api/traces?service={service}&limit=1000", headers={HEADER: tenant}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            result: list[dict[str, Any]] = json.loads(response.read())["data"]
        return result


def _config(tenants: Sequence[str], ports: dict[str, int]) -> dict[str, Any]:
    address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    # Capitals: in 2.13 these keys have no names of their own.
    tenancy = {"Enabled": True, "Header": HEADER, "Tenants": list(tenants)}
    to_storage = {"endpoint": address["grpc"], "tls": {"insecure": True}, "sending_queue": {"enabled": False}}
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query", "remote_storage"],
            "pipelines": {
                f"traces/{tenant}": {
                    "receivers": ["otlp"],
                    "processors": ["attributes", f"filter/{tenant}"],
                    "exporters": [f"otlp/{tenant}"],
                }
                for tenant in tenants
            },
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "info"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"mem": {"memory": {"max_traces": 100_000}}}},
            "jaeger_query": {
                "storage": {"traces": "mem"},
                "http": {"endpoint": address["query"]},
                "grpc": {"endpoint": address["query_grpc"]},
                "multi_tenancy": tenancy,
            },
            "remote_storage": {"endpoint": address["grpc"], "storage": "mem", "multi_tenancy": tenancy},
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": address["http"], "include_metadata": True}}}},
        "processors": {
            "attributes": {
                "actions": [{"key": "sent_for", "from_context": f"metadata.{HEADER}", "action": "upsert"}],
            },
            **{
                f"filter/{tenant}": {"traces": {"span": [f'attributes["sent_for"] != "{tenant}"']}}
                for tenant in tenants
            },
        },
        "exporters": {f"otlp/{tenant}": {**to_storage, "headers": {HEADER: tenant}} for tenant in tenants},
    }


@contextmanager
def run_tenanted_jaeger(folder: Path, tenants: Sequence[str]) -> Iterator[TenantedJaeger]:
    ports = {name: free_port() for name in ("query", "query_grpc", "grpc", "http")}
    config = folder / "jaeger.yaml"
    config.write_text(yaml.safe_dump(_config(tenants, ports)))
    process = Process(
        [binary("jaeger"), "--config", config], log=folder / "jaeger.log", env={"OTEL_TRACES_SAMPLER": "always_off"}
    )
    jaeger = TenantedJaeger(*(f"http://127.0.0.1:{ports[name]}" for name in ("query", "grpc", "http")))

    def ready() -> bool:
        try:
            return jaeger.traces(tenants[0], "nothing") == []
        except OSError:
            return False

    try:
        process.wait_ready(ready)
        yield jaeger
    finally:
        process.stop()
