"""`gateway demo`: a gateway, a stand-in for the backends, and three tenants of SDK traffic, in one go."""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.console import Console
from rich.live import Live

from gateway.demo.secrets import NEEDLES
from gateway.demo.setup import GLOBEX_LOGS_PER_SECOND, TENANTS, DemoGateway, start_gateway

if TYPE_CHECKING:
    from gateway.demo.view import Page
    from gateway.sink.server import Sink

_DRAIN_TIMEOUT_S = 15.0
# The backends are gone for this part of the traffic, from this part on.
_OUTAGE_FROM, _OUTAGE_SHARE = 0.3, 0.35
_PLAIN_SNAPSHOTS = 3
_LOG_WIDTH = 120


def run(seconds: float, keep: bool) -> int:
    """Show it. 0 only if the ledger closes, no planted secret got through, and all that was accepted arrived."""
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        print("the demo sends with the OpenTelemetry SDK: pip install 'telemetry-gateway[demo]'", file=sys.stderr)
        return 2
    # Everything happens on loopback, whatever proxy the environment names; the processes of the demo inherit this.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
    # Where there is no terminal, such as in CI, lines need not be as short as 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _LOG_WIDTH)
    console.print("starting a gateway, a stand-in for Prometheus, Loki and Jaeger, and three tenants:")
    console.print("  acme     sends all three signals; half of its traces are to be kept")
    console.print(f"  globex   sends more than its quota of {GLOBEX_LOGS_PER_SECOND} log lines a second")
    console.print("  initech  logs e-mail addresses and card numbers")
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_demo(console, seconds, keep))
    return 1


async def _demo(console: Console, seconds: float, keep: bool) -> int:
    from gateway.sink.server import Sink

    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        sink = Sink()
        gateway: DemoGateway | None = None
        try:
            await sink.start()
            gateway = await start_gateway(Path(folder), sink.http_url, sink.grpc_url)
            console.print(
                f"gateway on {gateway.grpc} (gRPC) and {gateway.http} (HTTP), backends on port {sink.http_port}"
            )
            planted = await _show(console, gateway, sink, seconds)
            ok = await _verdict(console, gateway, sink, planted)
            _next_steps(console, gateway if keep else None)
            if keep:
                console.print("everything keeps running; Ctrl-C stops it")
                await asyncio.Event().wait()
        except (RuntimeError, OSError) as error:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
            return 1
        finally:
            if gateway is not None:
                with contextlib.suppress(ProcessLookupError):
                    gateway.process.terminate()
                await gateway.process.wait()
            # A gRPC server that is left to the garbage collector complains about the loop that is gone.
            await sink.stop()
    return 0 if ok else 1


async def _show(console: Console, gateway: DemoGateway, sink: "Sink", seconds: float) -> int:
    """Let the traffic flow, with an outage in the middle; the number of planted secrets."""
    applications = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.demo.application",
            tenant, gateway.keys[tenant].key, gateway.grpc, gateway.http, str(seconds),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )
        for tenant in TENANTS
    ]  # fmt: skip
    try:
        outage = asyncio.create_task(_outage(console, gateway, sink, seconds))
        watch = asyncio.create_task(_watch(console, gateway, seconds))
        outputs = await asyncio.gather(*(application.communicate() for application in applications))
        await outage
        await watch
    finally:
        for application in applications:
            if application.returncode is None:
                application.kill()
    return sum(json.loads(output or b'{"planted": 0}')["planted"] for output, _ in outputs)


async def _outage(console: Console, gateway: DemoGateway, sink: "Sink", seconds: float) -> None:
    from gateway.demo.view import scrape

    await asyncio.sleep(seconds * _OUTAGE_FROM)
    await sink.pause()
    await asyncio.sleep(seconds * _OUTAGE_SHARE)
    queued = (await asyncio.to_thread(scrape, gateway.admin, gateway.token)).total("gateway_queued_items")
    await sink.resume()
    back = time.monotonic()
    while True:
        left = (await asyncio.to_thread(scrape, gateway.admin, gateway.token)).total("gateway_queued_items")
        if left * 4 < queued or time.monotonic() - back > _DRAIN_TIMEOUT_S:
            break
        await asyncio.sleep(0.1)
    console.print(
        f"· backends gone for {seconds * _OUTAGE_SHARE:.1f} s: {queued:,} items waited on disk, "
        f"delivered {time.monotonic() - back:.1f} s later"
    )


async def _watch(console: Console, gateway: DemoGateway, seconds: float) -> None:
    from gateway.demo.view import table

    ends = time.monotonic() + seconds
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            async for page in _pages(gateway, ends, 0.25):
                live.update(table(page, f"{max(0.0, ends - time.monotonic()):.0f} s to go"))
    else:
        async for page in _pages(gateway, ends, seconds / _PLAIN_SNAPSHOTS):
            console.print(table(page, f"{max(0.0, ends - time.monotonic()):.0f} s to go"))


async def _pages(gateway: DemoGateway, ends: float, every_s: float) -> AsyncIterator["Page"]:
    from gateway.demo.view import scrape

    while time.monotonic() < ends:
        await asyncio.sleep(every_s)
        yield await asyncio.to_thread(scrape, gateway.admin, gateway.token)


async def _verdict(console: Console, gateway: DemoGateway, sink: "Sink", planted: int) -> bool:
    """Wait until everything has arrived, then count."""
    from gateway.demo.view import scrape, table

    deadline = time.monotonic() + _DRAIN_TIMEOUT_S
    while True:
        page = await asyncio.to_thread(scrape, gateway.admin, gateway.token)
        if page.settled or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    console.print(table(page, "in the end"))
    received, rejected = page.total("gateway_received_items_total"), page.total("gateway_rejected_items_total")
    accepted, sampled = page.total("gateway_accepted_items_total"), page.total("gateway_sampled_out_items_total")
    unaccounted = page.total("gateway_unaccounted_items")
    delivered, arrived = page.total("gateway_delivered_items_total"), sum(sink.received.counts.values())
    leaks = [place for needle in NEEDLES for place in sink.received.places(needle)]
    sample = next((a.line for a in sink.received.kept if a.kind == "log" and "[credit_card]" in a.line), "")
    checks = [
        (
            unaccounted == 0,
            f"{received:,} in = {rejected:,} refused + {sampled:,} sampled out + {accepted:,} accepted; "
            f"unaccounted {unaccounted}",
        ),
        (
            delivered == arrived and page.settled,
            f"{delivered:,} spans, samples and log lines delivered; {arrived:,} arrived; "
            f"{page.total('gateway_queued_items')} queued",
        ),
        (planted > 0 and not leaks, f"{planted:,} planted e-mails and card numbers; {len(leaks)} reached a backend"),
        (not sink.received.violations, f"{len(sink.received.violations)} violations of the backends' protocols"),
        (rejected > 0, f"globex held to its quota: {rejected:,} log lines refused, told when to come back"),
    ]
    for good, text in checks:
        console.print(f"{'✓' if good else '✗'} {text}", style="green" if good else "red")
    for problem in [*leaks[:3], *sink.received.violations[:3]]:
        console.print(f"  {problem}", style="red", markup=False)
    if sample:
        console.print(f"  a line as it arrived: {sample.split('} ', 1)[-1]}", markup=False)
    ok = all(good for good, _ in checks)
    if ok:
        console.print("✓ nothing was lost, nothing leaked", style="bold green")
    else:
        console.print("✗ the demo failed: what should hold and does not is marked ✗", style="bold red")
    return ok


def _next_steps(console: Console, running: DemoGateway | None) -> None:
    """What to try: an application of one's own on the gateway that is `running` on, or a gateway of one's own."""
    if running is None:
        gateway = _command()
        console.print(f"Next:  {gateway} demo --keep   this, left running", markup=False)
        console.print(f"       {gateway} init          a gateway of your own", markup=False)
        return
    header = quote(f"Bearer {running.keys['acme'].key}")
    console.print("An application of yours, as tenant acme:", markup=False)
    console.print(f"  export OTEL_EXPORTER_OTLP_ENDPOINT=http://{running.grpc}", markup=False, soft_wrap=True)
    console.print(f'  export OTEL_EXPORTER_OTLP_HEADERS="authorization={header}"', markup=False, soft_wrap=True)


def _command() -> str:
    """How to call us again: `gateway` if that is on the path, or where it stands."""
    ours = Path(sys.executable).with_name("gateway")
    if shutil.which("gateway") is not None or not ours.exists():
        return "gateway"
    return os.path.relpath(ours) if ours.is_relative_to(Path.cwd()) else str(ours)
