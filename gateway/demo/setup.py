"""The demo's gateway: a configuration made up on the spot, and the real daemon run on it."""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from gateway.identity.api_keys import NewKey, new_key

TENANTS = ("acme", "globex", "initech")
GLOBEX_LOGS_PER_SECOND = 300
_START_TIMEOUT_S = 10.0

_CONFIG = """\
listen: {{grpc: 127.0.0.1:0, http: 127.0.0.1:0}}
admin:
  address: 127.0.0.1:0
  tokens: [{{name: demo, token: "{token}"}}]
destinations:
  prometheus: {{type: remote_write, url: {http}/api/v1/write, retry: {retry}}}
  loki: {{type: loki, url: {http}/loki/api/v1/push, tenant_header: X-Scope-OrgID, retry: {retry}}}
  jaeger: {{type: otlp, endpoint: {grpc}, protocol: grpc, retry: {retry}}}
queue: {{dir: {queue}, max_bytes: 256MiB, ack: durable}}
defaults:
  routes: {{traces: [jaeger], metrics: [prometheus], logs: [loki]}}
  mask: {{detectors: [email, credit_card]}}
tenants:
  acme: {{api_keys: [{{id: "{acme.id}", sha256: "{acme.sha256}"}}], sample: {{traces: {{ratio: 0.5}}}}}}
  globex:
    api_keys: [{{id: "{globex.id}", sha256: "{globex.sha256}"}}]
    quotas: {{logs: {{items_per_second: {quota}}}}}
  initech: {{api_keys: [{{id: "{initech.id}", sha256: "{initech.sha256}"}}]}}
"""


@dataclass
class DemoGateway:
    """A running daemon and how to reach it."""

    process: asyncio.subprocess.Process
    keys: dict[str, NewKey]
    token: str
    grpc: str
    http: str
    admin: str
    config_path: Path


async def start_gateway(folder: Path, sink_http: str, sink_grpc: str) -> DemoGateway:
    """Run `gateway run` and wait until it listens. Raises RuntimeError with what it said if it does not.

    Only a gateway that is returned runs on.
    """
    keys = {tenant: new_key() for tenant in TENANTS}
    token = secrets.token_urlsafe(24)
    path = folder / "gateway.yaml"
    path.write_text(
        _CONFIG.format(
            token=token,
            http=sink_http,
            grpc=sink_grpc,
            queue=json.dumps(str(folder / "queue")),
            quota=GLOBEX_LOGS_PER_SECOND,
            retry="{initial: 100ms, max: 500ms}",
            **keys,
        )
    )
    log = folder / "gateway.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "run", "-c", str(path), stdout=out, stderr=out, env=dict(os.environ)
        )
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            where = await _listening(process, log)
    except TimeoutError:
        await _kill(process)
        raise RuntimeError(f"the gateway did not start in {_START_TIMEOUT_S:g} s:\n{_end(log)}") from None
    except BaseException:
        await _kill(process)
        raise
    return DemoGateway(process, keys, token, where["grpc"], where["http"], where["admin"], path)


async def _listening(process: asyncio.subprocess.Process, log: Path) -> dict[str, str]:
    """The addresses that the gateway logs. Raises RuntimeError if it ends before."""
    while process.returncode is None:
        if where := _addresses(log):
            return where
        await asyncio.sleep(0.05)
    raise RuntimeError(f"the gateway did not start:\n{_end(log)}")


def _addresses(log: Path) -> dict[str, str] | None:
    for line in log.read_text().splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n") and (event := json.loads(line))["message"] == "listening":
            where: dict[str, str] = event["metadata"]
            return where
    return None


def _end(log: Path) -> str:
    return log.read_text()[-2000:].rstrip()


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
