"""The files of `listen.tls`: read at the start, watched, and handed to the engine when they change.

Connections are not dropped by it; the engine decides about those whose client certificate is no longer trusted.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import structlog

from gateway.config.tls import ListenTls
from gateway.types import TlsReloads

log = structlog.get_logger(__name__)

# Polled, not notified: secrets mounted into containers change by swapped symlinks, and network file systems tell none.
POLL_INTERVAL_S = 2.0


class TlsMaterial(TypedDict):
    """What the engine needs of TLS, PEM."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None
    crl: bytes | None
    require_client_certificate: bool


UseTls = Callable[[TlsMaterial], None]
"""Makes the engine use it; raises ValueError with the key of `listen.tls` that is at fault and why."""

_Stamp = tuple[tuple[int, int, int] | None, ...]


class TlsFiles:
    """Keeps the engine's TLS material the same as the files."""

    def __init__(self, tls: ListenTls, use: UseTls, reloads: TlsReloads) -> None:
        self._tls = tls
        self._use = use
        self._reloads = reloads
        self._used_stamp: _Stamp = ()
        self._bad_stamp: _Stamp = ()
        self._bad_looks = 0
        self._one_at_a_time = asyncio.Lock()

    def load(self) -> None:
        """Read and use the files. Raises ValueError, with the key at fault; what was used before stays."""
        # Looked at before it is read: what changes in between is seen at the next look.
        stamp = self._look()
        self._use(read(self._tls))
        self._used_stamp = stamp

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Use the files if they have changed; if they are not usable, what was used before stays."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._refresh)

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._used_stamp:
            # Nothing is new, or what was bad has been put back.
            self._reloads.successful, self._bad_stamp = True, ()
            return
        try:
            self.load()
        except ValueError as error:
            self._refuse(stamp, str(error))
            return
        self._reloads.successful, self._bad_stamp = True, ()
        self._reloads.succeeded += 1
        log.info("the TLS files were reloaded")

    def _refuse(self, stamp: _Stamp, reason: str) -> None:
        # A certificate and its key are written one after the other: only what is still bad at a second look is news.
        self._bad_looks = self._bad_looks + 1 if stamp == self._bad_stamp else 1
        self._bad_stamp = stamp
        if self._bad_looks == 2:
            self._reloads.successful = False
            self._reloads.failed += 1
            log.error(f"the TLS files were not reloaded; the old ones stay in use: listen.tls.{reason}")

    def _look(self) -> _Stamp:
        tls = self._tls
        files = (tls.cert_file, tls.key_file, tls.client_ca_file, tls.crl_file)
        return tuple(_stamp(file) for file in files if file is not None)


def read(tls: ListenTls) -> TlsMaterial:
    """The files' present content. Raises ValueError with the key whose file cannot be read."""
    return TlsMaterial(
        certificate=_read("cert_file", tls.cert_file),
        private_key=_read("key_file", tls.key_file),
        client_ca=None if tls.client_ca_file is None else _read("client_ca_file", tls.client_ca_file),
        crl=None if tls.crl_file is None else _read("crl_file", tls.crl_file),
        require_client_certificate=tls.client_auth == "require",
    )


def _read(key: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{key}: cannot read {file}: {error.strerror}") from None


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
