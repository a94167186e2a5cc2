"""Whether the files of TLS can be used: certificates, keys, CAs, revocation lists."""

import ssl
from collections.abc import Iterator
from pathlib import Path

from gateway.config.document import KeyPath
from gateway.config.loader import Loaded
from gateway.config.problems import Problem
from gateway.config.tls import ClientTls, ServerTls


def server_tls_problems(loaded: Loaded, path: KeyPath, tls: ServerTls) -> Iterator[Problem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yield from pair_problems(loaded, path, context, tls.cert_file, tls.key_file)
    yield from ca_problems(loaded, (*path, "client_ca_file"), context, tls.client_ca_file)


def client_tls_problems(loaded: Loaded, path: KeyPath, tls: ClientTls) -> Iterator[Problem]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.cert_file is not None and tls.key_file is not None:
        yield from pair_problems(loaded, path, context, tls.cert_file, tls.key_file)
    yield from ca_problems(loaded, (*path, "ca_file"), context, tls.ca_file)


def pair_problems(loaded: Loaded, path: KeyPath, context: ssl.SSLContext, cert: Path, key: Path) -> Iterator[Problem]:
    for name, file in (("cert_file", cert), ("key_file", key)):
        try:
            file.read_bytes()
        except OSError as error:
            yield loaded.problem((*path, name), f"cannot read {file}: {error.strerror}")
            return
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError):
        yield loaded.problem((*path, "cert_file"), f"{cert} and {key} are not a certificate and its unencrypted key")


def ca_problems(loaded: Loaded, path: KeyPath, context: ssl.SSLContext, file: Path | None) -> Iterator[Problem]:
    if file is None:
        return
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        yield loaded.problem(path, f"{file} holds no CA certificate in PEM form")
    except OSError as error:
        yield loaded.problem(path, f"cannot read {file}: {error.strerror}")


def crl_problems(loaded: Loaded, path: KeyPath, file: Path | None) -> Iterator[Problem]:
    if file is None:
        return
    try:
        if b"-----BEGIN X509 CRL-----" not in file.read_bytes():
            yield loaded.problem(path, f"{file} holds no CRL in PEM form")
    except OSError as error:
        yield loaded.problem(path, f"cannot read {file}: {error.strerror}")
