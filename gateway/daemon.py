"""The daemon: builds the parts, starts them, reloads, drains, stops."""

import asyncio
import copy
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import orjson
import structlog
import uvloop
from aiohttp import web
from prometheus_client.registry import Collector

from gateway import departure, logs, systemd
from gateway._engine import Engine, version
from gateway.admin.app import AdminApp, ReloadResult
from gateway.admin.auth import Gatekeeper
from gateway.admin.masking import MaskingView
from gateway.admin.metrics import DaemonState, GatewayCollector
from gateway.admin.queue_disk import QueueDiskCollector
from gateway.admin.sending import SendingCollector
from gateway.admin.tls import PortTls
from gateway.audit.audit import Audit, AuditError
from gateway.audit.metrics import AuditCollector
from gateway.audit.watch import Watch
from gateway.config.check import load_checked
from gateway.config.identity import Oidc
from gateway.config.models import Config
from gateway.config.problems import ConfigError
from gateway.config.tls import ListenTls
from gateway.delivery.delivery import Delivery
from gateway.delivery.queue import QueueError
from gateway.entrance import Entrance, allow_files, start_successor
from gateway.handover import HandOver, Successor
from gateway.identity.desk import TokenDesk
from gateway.identity.oidc import OidcVerifier
from gateway.policy.compiler import compile_table
from gateway.policy.inheritance import effective
from gateway.policy.masking import wanted_pseudonym_keys
from gateway.policy.periods import Periods
from gateway.pseudonyms.keys import TenantKey
from gateway.pseudonyms.metrics import PseudonymKeyCollector
from gateway.pseudonyms.pseudonym_keys import PseudonymKeys
from gateway.sockets import StartError
from gateway.stamps import Stamp, stamp_of
from gateway.state import SeriesState
from gateway.tls_files import TlsFiles, read
from gateway.types import UsageError
from gateway.usage.metrics import UsageCollector
from gateway.usage.usage import Sources, Usage

log = structlog.get_logger(__name__)

EXIT_OK, EXIT_RUNTIME, EXIT_CONFIG = 0, 1, 2
# How often the audit trail and `api_keys_file` are looked at.
_LOOK_INTERVAL_S = 2.0
# In a hand-over: requests to backends that are under way may end, so that they are not made again.
_LAST_DELIVERIES_S = 0.5
# A stop that takes so much longer than it may is cut short.
_LAST_RESORT_S = 5.0
# What cannot change while the daemon runs.
_FIXED_KEYS = ("listen", "admin.address", "admin.tls", "queue.dir", "queue.ack", "queue.max_bytes", "audit",
               "usage.path", "usage.interval", "log")  # fmt: skip


def run(config: Config, config_path: Path, entrance: Entrance) -> int:
    """Run until SIGTERM, SIGINT or a successor. Returns the exit code. `config` has passed `check`."""
    logs.configure(config.log.level, config.log.format)
    allow_files(config.listen.max_connections)
    return uvloop.run(_run(Daemon(config, config_path, entrance)))


async def _run(daemon: "Daemon") -> int:
    """Once; and anew, in the same process, whenever a successor that took over ends before it serves."""
    while True:
        code = await daemon.run()
        if not daemon.carries_on:
            return code
        daemon = Daemon(daemon.config, daemon.config_path, Entrance(kept=daemon.sockets))


def try_policy(config: Config) -> None:
    """Compile the policy and TLS as the engine will. Raises ValueError with what the engine says."""
    engine = _engine(config, threads=1)
    try:
        engine.apply(compile_table(config, 1))
        if config.listen.tls is not None:
            try:
                _use_tls(engine, config.listen.tls)
            except ValueError as error:
                raise ValueError(f"listen.tls.{error}") from None
    finally:
        engine.stop()


class Daemon:
    """One process: the engine, delivery and the admin port."""

    def __init__(self, config: Config, config_path: Path, entrance: Entrance) -> None:
        self.config = config
        self.config_path = config_path
        self.entrance = entrance
        self.state = DaemonState(version=version())
        self.draining = False
        self.stop_signals = 0
        self.stopped = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self.successor: Successor | None = None
        self.succession: asyncio.Task[None] | None = None
        self.carries_on = False
        """A successor did not get to serve: this process is to run again."""
        self.tls_files: list[TlsFiles] = []
        self.reloading = asyncio.Lock()

    async def run(self) -> int:
        try:
            self.sockets = await self.entrance.sockets(self.config)
            self.engine = _engine(self.config, threads=self.config.listen.threads)
            self.delivery = await self.entrance.queue(
                self.config, lambda: Delivery.open(self.config, engine=self.engine)
            )
            self.series = await SeriesState.restore(self.config, engine=self.engine)
            sources = Sources(self.engine.snapshot, self.delivery.counters)
            self.usage = await Usage.open(self.config.usage, sources)
            self.audit = Audit.open(self.config.audit, lambda: self.state.generation)
            self.verifier = OidcVerifier()
            self.desk = TokenDesk(self.engine, self.verifier, time.time, self.state.token_verdicts)
            self.witness = Watch(self.engine, self.audit)
            self.pseudonym_keys = PseudonymKeys(
                sources=self.config.pseudonym_keys,
                vault=self.config.vault,
                wanted=wanted_pseudonym_keys(self.config),
                apply=self.take_pseudonym_keys,
                log=log,
            )
        except (StartError, QueueError, UsageError, AuditError) as error:
            log.error(f"{error}{self.entrance.serves_on}")
            return EXIT_CONFIG
        periods = Periods(self.engine.start_period)
        periods.update()
        self.apply(self.config)
        try:
            # Volume quotas go on where the process before stopped.
            for volume in await self.usage.volumes():
                used = {"day_bytes": volume.day_bytes, "month_bytes": volume.month_bytes}
                self.engine.set_volume(volume.tenant, volume.signal, **used)
        except UsageError as error:
            log.error(str(error))
            return EXIT_CONFIG
        keeping_periods = asyncio.create_task(self.keep_periods(periods))
        await self.series.start()
        await self.delivery.start()
        await self.verifier.reconfigure(_issuers(self.config))
        await self.pseudonym_keys.start()
        self.desk.open()
        try:
            self.listen()
            runner = await self.serve_admin()
        except ValueError as error:
            log.error(f"cannot serve TLS: {error}")
            await self.audit.close()
            return EXIT_CONFIG
        self.handle_signals()
        self.announce()
        self.hand_over = HandOver(self.config.queue.dir, self.sockets, self.on_successor)
        self.hand_over.open()
        self.audit.started(self.state.version, self.config)
        watching = [asyncio.create_task(self.watch_engine()), asyncio.create_task(self.watch_keys())]
        watching += [asyncio.create_task(files.watch()) for files in self.tls_files]
        await self.stopped.wait()
        last_resort = asyncio.get_running_loop().call_later(
            self.config.drain_delay + self.config.drain_timeout + _LAST_RESORT_S, self.give_up
        )
        lost = await self.drain()
        for task in (keeping_periods, *watching):
            task.cancel()
        self.look_at_engine()
        await self.desk.close()
        await self.verifier.close()
        await self.pseudonym_keys.stop()
        await runner.cleanup()
        await self.usage.close()
        self.audit.stopped(self.stop_reason)
        await self.audit.close()
        last_resort.cancel()
        if self.successor is not None:
            await self.give_way(self.successor)
        self.engine.stop()
        log.info("stopped")
        return EXIT_RUNTIME if lost else EXIT_OK

    # Start.

    def apply(self, config: Config) -> None:
        """Make `config` the policy, as the next generation."""
        self.state.generation += 1
        self.engine.apply(compile_table(config, self.state.generation))
        self.state.reload_success_at = time.time()
        self.state.reload_successful = True

    def take_pseudonym_keys(self, keys: Sequence[TenantKey]) -> None:
        """The engine copies the keys; whoever gives them wipes them."""
        self.engine.set_pseudonym_keys([(key.name, key.tenant, key.version, key.key) for key in keys])
        self.audit.pseudonym_keys((key.name, key.tenant, key.version) for key in keys)

    def listen(self) -> None:
        if self.config.listen.tls is not None:
            tls = self.config.listen.tls
            files = TlsFiles("listen.tls", tls, partial(_use_tls, self.engine, tls), self.state.tls_reloads)
            self.follow(files)
        self.engine.listen("grpc", self.sockets.grpc.duplicate().detach())
        self.engine.listen("http", self.sockets.http.duplicate().detach())

    def follow(self, files: TlsFiles) -> None:
        """Raises ValueError, with the key of the file that cannot be used."""
        files.load()
        self.tls_files.append(files)

    async def serve_admin(self) -> web.AppRunner:
        """Raises ValueError, with the key of the file that TLS cannot use."""
        tls = None
        if self.config.admin.tls is not None:
            tls = PortTls(self.config.admin.tls)
            files = TlsFiles("admin.tls", self.config.admin.tls, tls.read, self.state.admin_tls_reloads)
            self.follow(files)
        self.admin = AdminApp(
            gatekeeper=Gatekeeper(self.config.admin),
            state=self.state,
            checks=self.readiness,
            collectors=self.collectors,
            reload=self.reload,
            witness=self.audit,
            usage=self.usage,
            masking=self.masking,
            missing_keys=self.missing_pseudonym_keys,
            tls=tls,
        )
        runner = web.AppRunner(self.admin.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self.admin_site = web.SockSite(runner, self.sockets.admin.duplicate(), ssl_context=tls)
        await self.admin_site.start()
        return runner

    def handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.spawn_reload())
        loop.add_signal_handler(signal.SIGUSR2, self.spawn_successor)

    def announce(self) -> None:
        log.info(
            "listening",
            **{name: port.address for name, port in self.sockets.by_name().items()},
            tenants=len(self.config.tenants),
            destinations=sorted(self.config.destinations),
            policy_generation=self.state.generation,
            version=self.state.version,
        )
        self.entrance.serving()
        systemd.notify("READY=1")

    # While it runs.

    async def keep_periods(self, periods: Periods) -> None:
        """Volume quotas begin anew with each UTC day and month."""
        while True:
            await asyncio.sleep(periods.update())

    async def watch_engine(self) -> None:
        """The audit trail learns what the engine saw."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            self.look_at_engine()

    def look_at_engine(self) -> None:
        if self.config.audit is None:
            # A snapshot of thousands of tenants is not made for a trail that nobody keeps.
            return
        self.witness.look(orjson.loads(self.engine.snapshot()), self.claims_of)
        self.witness.look_at_delivery(self.delivery.counters())

    def claims_of(self, tenant_id: str) -> Literal["overwrite", "refuse"]:
        tenant = self.config.tenants.get(tenant_id)
        return effective(self.config, tenant).claims if tenant is not None else "overwrite"

    async def watch_keys(self) -> None:
        """A changed `api_keys_file` is taken as a reload is: checked whole, or not at all."""
        seen = self.keys_stamp()
        while True:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            stamp = self.keys_stamp()
            if stamp != seen:
                seen = stamp
                await self.reload("api_keys_file")

    def keys_stamp(self) -> Stamp:
        file = self.config.api_keys_file
        return stamp_of(self.config_path.parent / file) if file is not None else None

    def readiness(self) -> dict[str, bool]:
        return {
            "listening": not self.draining,
            "policy": self.state.generation > 0,
            "queue": not self.delivery.queue_stats().full,
        }

    def missing_pseudonym_keys(self) -> dict[str, int]:
        """How many tenants are refused for want of each key."""
        return {status.name: len(status.missing) for status in self.pseudonym_keys.status() if status.missing}

    def masking(self) -> MaskingView:
        masks = {tenant_id: effective(self.config, tenant).mask for tenant_id, tenant in self.config.tenants.items()}
        dry_run = {tenant_id: mask.dry_run for tenant_id, mask in masks.items() if mask is not None}
        return MaskingView(dry_run, orjson.loads(self.engine.snapshot())["intake"])

    def collectors(self, tenant: str | None) -> Sequence[Collector]:
        """Of what is known now: the page is made of them in a thread, while everything goes on."""
        snapshot, lanes, queue = self.engine.snapshot(), self.delivery.counters_now(), self.delivery.queue_stats()
        paces, usage, state = tuple(self.delivery.paces()), self.usage.stats(), copy.deepcopy(self.state)
        for_all = (
            GatewayCollector(lambda: snapshot, lambda: lanes, lambda: queue, state, time.time, tenant),
            SendingCollector(lambda: paces, tenant),
            UsageCollector(lambda: usage, tenant),
        )
        if tenant is not None:
            return for_all
        disk, audit, keys = self.delivery.disk_stats(), self.audit.stats(), self.pseudonym_keys.status()
        return (
            *for_all,
            QueueDiskCollector(lambda: disk),
            AuditCollector(lambda: audit),
            PseudonymKeyCollector(lambda: keys),
        )

    def spawn_reload(self) -> None:
        self.reload_task = asyncio.create_task(self.reload("SIGHUP"))

    async def reload(self, actor: str) -> ReloadResult:
        """Swap in the file's present content, as `actor` asked; if it is not usable, the old configuration stays."""
        # One after the other, so that what was read last is what runs.
        async with self.reloading:
            if self.draining:
                return ReloadResult(ok=False, messages=("the gateway is stopping",))
            systemd.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                for files in self.tls_files:
                    await files.refresh()
                return await self.swap(actor)
            except ConfigError as error:
                messages = tuple(str(problem) for problem in error.problems)
            except (OSError, ValueError) as error:
                # A certificate that went away after it was checked.
                messages = (str(error),)
            finally:
                systemd.notify("READY=1")
            self.state.reload_successful = False
            log.error("the configuration was not reloaded; the old one stays", problems=messages)
            self.audit.reload_refused(actor, messages)
            return ReloadResult(ok=False, messages=messages)

    async def swap(self, actor: str) -> ReloadResult:
        """Read, check and apply the file. Raises ConfigError, OSError or ValueError; then nothing has changed."""
        config, warnings = await asyncio.to_thread(load_checked, self.config_path, try_policy)
        fixed = [key for key in _FIXED_KEYS if _value(config, key) != _value(self.config, key)]
        if fixed:
            log.warning("these keys change at the next start only", keys=fixed)
        config = config.model_copy(
            update={
                "listen": self.config.listen,
                "log": self.config.log,
                "admin": config.admin.model_copy(
                    update={name: getattr(self.config.admin, name) for name in ("address", "tls")}
                ),
                "queue": config.queue.model_copy(
                    update={name: getattr(self.config.queue, name) for name in ("dir", "ack", "max_bytes")}
                ),
                "audit": self.config.audit,
                "usage": self.usage.reconfigure(config.usage),
            }
        )
        await self.delivery.reconfigure(config)
        await self.verifier.reconfigure(_issuers(config))
        self.series.reconfigure(config)
        # Keys that the new policy needs are there before it is in force, and those of the old one until then.
        wanted = wanted_pseudonym_keys(config)
        await self.pseudonym_keys.reconfigure(
            sources=config.pseudonym_keys,
            vault=config.vault,
            wanted=wanted | wanted_pseudonym_keys(self.config),
        )
        self.apply(config)
        self.pseudonym_keys.want(wanted)
        if config.identity != self.config.identity:
            # What a token means may be another thing now.
            self.engine.forget_tokens()
        self.admin.gatekeeper = Gatekeeper(config.admin)
        self.audit.reloaded(actor, self.config, config)
        self.config = config
        log.info("reloaded", policy_generation=self.state.generation, tenants=len(config.tenants))
        notes = tuple(str(warning) for warning in warnings)
        return ReloadResult(ok=True, messages=(*notes, *(f"{key} changes at the next start only" for key in fixed)))

    # Stop.

    def spawn_successor(self) -> None:
        if self.successor is None and (self.succession is None or self.succession.done()):
            self.succession = asyncio.create_task(start_successor())

    def on_successor(self, successor: Successor) -> None:
        log.info("handing over", successor=successor.pid)
        self.stop_reason = "hand-over"
        self.successor = successor
        self.stopped.set()

    def on_stop_signal(self, number: signal.Signals) -> None:
        self.stop_reason = number.name
        self.stop_signals += 1
        if self.stop_signals > 1:
            log.warning("stopping at once")
            raise SystemExit(EXIT_RUNTIME)
        self.stop_asked.set()
        self.stopped.set()

    async def drain(self) -> int:
        """Accept nothing new, finish what is under way, deliver or persist everything; how many items are lost."""
        self.draining = True
        if self.successor is None:
            systemd.notify("STOPPING=1")
            log.info("draining", delay_s=self.config.drain_delay, timeout_s=self.config.drain_timeout)
            # The engine listens on, on its own, for as long as it is to.
            self.hand_over.close()
            self.sockets.close()
        else:
            await self.admin_site.stop()
        began = time.monotonic()
        await departure.empty(
            self.engine,
            to_successor=self.successor is not None,
            delay_s=self.config.drain_delay,
            timeout_s=self.config.drain_timeout,
        )
        await self.series.finish()
        left_s = began + self.config.drain_delay + self.config.drain_timeout - time.monotonic()
        # A successor delivers what is queued; what is under way may end.
        return await self.delivery.drain(max(0.1, left_s) if self.successor is None else _LAST_DELIVERIES_S)

    async def give_way(self, successor: Successor) -> None:
        """The queue is free. Wait until `successor` serves; if it does not, this process `carries_on`."""
        successor.release()
        serves = asyncio.create_task(successor.serves())
        stop = asyncio.create_task(self.stop_asked.wait())
        await asyncio.wait((serves, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not serves.done():
            serves.cancel()
            self.sockets.close()
        elif serves.result():
            self.sockets.close()
            systemd.notify(f"MAINPID={successor.pid}")
            log.info("handed over", successor=successor.pid)
            await departure.answers_end(self.engine, self.config.drain_timeout)
        else:
            log.error("the process that took over ended before it served; this one carries on", pid=successor.pid)
            self.carries_on = True

    def give_up(self) -> None:
        """The end of a stop that a disk, or a bug, holds up: what is not on disk by now does not get there."""
        log.error("the stop took too long; it ends here, and what was not on disk is lost")
        os._exit(EXIT_RUNTIME)


def _engine(config: Config, *, threads: int) -> Engine:
    return Engine(
        threads=threads,
        max_request_bytes=config.listen.max_request_bytes,
        max_inflight_bytes=config.listen.max_inflight_bytes,
        max_connections=config.listen.max_connections,
        header_timeout_s=config.listen.header_timeout,
        body_timeout_s=config.listen.body_timeout,
        idle_timeout_s=config.listen.idle_timeout,
        keepalive_interval_s=config.listen.keepalive_interval,
    )


def _use_tls(engine: Engine, tls: ListenTls) -> None:
    """Raises ValueError, with the key of the file at fault."""
    material = read(tls)
    engine.set_tls("grpc", **material)
    engine.set_tls("http", **material)


def _issuers(config: Config) -> list[Oidc]:
    return [provider.oidc for provider in config.identity if provider.oidc is not None]


def _value(config: Config, dotted: str) -> object:
    value: object = config
    for name in dotted.split("."):
        value = getattr(value, name, None)  # A section that is left out has no keys.
    return value
