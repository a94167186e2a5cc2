"""TLS towards a destination: what its files hold now, for connections that are opened from now on."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from gateway.config.tls import ClientTls
from gateway.delivery.senders.watched import Watched

log = structlog.get_logger(__name__)


def tls_files(tls: ClientTls) -> tuple[Path, ...]:
    return tuple(file for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None)


def open_tls(tls: ClientTls, url: str) -> Watched[ssl.SSLContext | bool]:
    """A context of its own for each state of the files: sessions pool connections by context, so that a changed
    certificate is shown by new connections, and the old ones end when they have been idle.

    Raises OSError (ssl.SSLError among them) and ValueError if the files cannot be used now.
    """
    return Watched(tls_files(tls), lambda: client_context(tls), lambda error: warn_of_files(url, error))


def warn_of_files(url: str, error: Exception) -> None:
    """A pair is written one file after the other: what does not fit together now may do at the next look."""
    # Some put secrets into paths and queries.
    host = urlsplit(url).netloc
    log.warning("TLS files of a destination cannot be used; the old ones are", host=host, error=str(error))


def client_context(tls: ClientTls) -> ssl.SSLContext | bool:
    """True: that of the session, which verifies with the system's CAs. Raises OSError and ValueError."""
    if not tls_files(tls) and not tls.insecure_skip_verify:
        return True
    context = ssl.create_default_context(cafile=tls.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        # An encrypted key must fail, not ask on the terminal.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# Where distributions keep the CAs that they trust: Debian, Red Hat, SUSE, Alpine.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_cas() -> Path | None:
    """The file of CAs that this machine trusts (SSL_CERT_FILE, or the distribution's); None: not known.

    For gRPC, which believes in a list of its own, in which no company's CA is.
    """
    named = ssl.get_default_verify_paths().cafile
    candidates = map(Path, (named, *_BUNDLES) if named is not None else _BUNDLES)
    return next((file for file in candidates if file.is_file()), None)
