"""What is wrong with destinations that a model alone cannot see: files, libraries, credentials that travel openly."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.destinations import FileDestination, NetworkDestination, OtlpDestination
from gateway.config.document import KeyPath
from gateway.config.loader import Loaded
from gateway.config.names import is_loopback
from gateway.config.problems import Problem, everybody_may_read
from gateway.config.tls_check import client_tls_problems


def destination_problems(loaded: Loaded) -> Iterator[Problem]:
    for name, destination in loaded.config.destinations.items():
        if not isinstance(destination, FileDestination):
            yield from _network(loaded, ("destinations", name), destination)
            yield from _dead_letter(loaded, name, destination.dead_letter)


def _dead_letter(loaded: Loaded, name: str, letters: str | None) -> Iterator[Problem]:
    if letters is None:
        return
    path, destinations = ("destinations", name, "dead_letter"), loaded.config.destinations
    if letters not in destinations:
        yield loaded.problem(path, f"there is no destination {letters}; add one of type file")
    elif not isinstance(destinations[letters], FileDestination):
        yield loaded.problem(path, f"{letters} is {destinations[letters].type}; dead letters go to a file")


def _network(loaded: Loaded, path: KeyPath, destination: NetworkDestination) -> Iterator[Problem]:
    yield from client_tls_problems(loaded, (*path, "tls"), destination.tls)
    if destination.tls.insecure_skip_verify:
        message = "whoever answers is believed; name tls.ca_file instead"
        yield loaded.problem((*path, "tls", "insecure_skip_verify"), message, warning=True)
    if destination.credentials:
        key = "endpoint" if isinstance(destination, OtlpDestination) else "url"
        yield from _travels_openly(loaded, (*path, key), getattr(destination, key), destination.credentials[0])
    if destination.bearer_token_file is not None:
        yield from _secret_file(loaded, (*path, "bearer_token_file"), destination.bearer_token_file)
    if destination.basic_auth is not None and destination.basic_auth.password_file is not None:
        yield from _secret_file(loaded, (*path, "basic_auth", "password_file"), destination.basic_auth.password_file)
    if destination.sigv4 is not None and importlib.util.find_spec("botocore") is None:
        message = "the library that signs is not installed: pip install 'telemetry-gateway[aws]'"
        yield loaded.problem((*path, "sigv4"), message)
    oauth2 = destination.oauth2
    if oauth2 is not None:
        yield from client_tls_problems(loaded, (*path, "oauth2", "tls"), oauth2.tls)
        yield from _travels_openly(loaded, (*path, "oauth2", "token_url"), oauth2.token_url, "the client's secret")
        if oauth2.client_secret_file is not None:
            yield from _secret_file(loaded, (*path, "oauth2", "client_secret_file"), oauth2.client_secret_file)


def _travels_openly(loaded: Loaded, path: KeyPath, url: str, secret: str) -> Iterator[Problem]:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        message = f"{secret} travels without TLS; whoever is on the way has it; use https"
        yield loaded.problem(path, message, warning=True)


def _secret_file(loaded: Loaded, path: KeyPath, file: Path) -> Iterator[Problem]:
    """Others write it, perhaps later than the gateway starts, so that nothing of it is an error."""
    try:
        with file.open("rb") as opened:
            empty = not opened.read(1 << 10).strip()
        others = everybody_may_read(file)
    except OSError as error:
        message = f"cannot read {file} yet: {error.strerror}; the destination waits until it is there"
        yield loaded.problem(path, message, warning=True)
        return
    if empty:
        yield loaded.problem(path, f"{file} is empty; the destination waits until it is not", warning=True)
    if others:
        yield loaded.problem(path, f"everybody may read {file}; chmod 600 it", warning=True)
