"""The files of `listen.tls` and `admin.tls`: read at the start, watched, and read again when they change.

Connections are not dropped by it; who serves them decides about those whose client certificate is no longer trusted.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import structlog

from gateway.config.tls import ListenTls, ServerTls
from gateway.stamps import Stamp, stamps_of
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


UseTls = Callable[[], None]
"""Reads the files and uses them; raises ValueError with the key that is at fault and why."""


class TlsFiles:
    """Keeps the TLS of one section of the configuration, such as `listen.tls`, the same as its files."""

    def __init__(self, section: str, tls: ServerTls, use: UseTls, reloads: TlsReloads) -> None:
        self._section = section
        files = (tls.cert_file, tls.key_file, tls.client_ca_file, tls.crl_file if isinstance(tls, ListenTls) else None)
        self._files = tuple(file for file in files if file is not None)
        self._use = use
        self._reloads = reloads
        self._used_stamp: tuple[Stamp, ...] = ()
        self._bad_stamp: tuple[Stamp, ...] = ()
        self._bad_looks = 0
        self._one_at_a_time = asyncio.Lock()

    def load(self) -> None:
        """Use the files. Raises ValueError, with the whole key at fault; what was used before stays."""
        # Looked at before it is read: what changes in between is seen at the next look.
        stamp = stamps_of(self._files)
        try:
            self._use()
        except ValueError as error:
            raise ValueError(f"{self._section}.{error}") from None
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
        stamp = stamps_of(self._files)
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
        log.info(f"the files of {self._section} were reloaded")

    def _refuse(self, stamp: tuple[Stamp, ...], reason: str) -> None:
        # A certificate and its key are written one after the other: only what is still bad at a second look is news.
        self._bad_looks = self._bad_looks + 1 if stamp == self._bad_stamp else 1
        self._bad_stamp = stamp
        if self._bad_looks == 2:
            self._reloads.successful = False
            self._reloads.failed += 1
            log.error(f"the TLS files were not reloaded; the old ones stay in use: {reason}")


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
