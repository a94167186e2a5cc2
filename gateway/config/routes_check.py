"""Whether routes lead to destinations that take what they carry, and to each of them once."""

import re
from collections.abc import Iterator

from gateway.config.destinations import LokiDestination, RemoteWriteDestination
from gateway.config.document import KeyPath
from gateway.config.loader import Loaded
from gateway.config.models import TenantSettings
from gateway.config.problems import Problem
from gateway.config.routes import Route
from gateway.types import Signal


def check_routes(loaded: Loaded, path: KeyPath, settings: TenantSettings) -> Iterator[Problem]:
    """`path`: where `settings` stand."""
    for signal, routes in settings.routes.items():
        led_to: set[str] = set()
        for index, route in enumerate(routes):
            where = (*path, "routes", signal.value, index)
            yield from _destination(loaded, where, signal, route, settings)
            if route.to in led_to:
                yield loaded.problem(where, f"{route.to} stands here already; it would get items twice")
            led_to.add(route.to)
            for name, conditions in (("when", route.when), ("unless", route.unless)):
                for attribute, regex in conditions.items():
                    yield from check_regex(loaded, (*where, name, attribute), regex)


def _destination(
    loaded: Loaded, where: KeyPath, signal: Signal, route: Route, settings: TenantSettings
) -> Iterator[Problem]:
    destinations, name = loaded.config.destinations, route.to
    destination = destinations.get(name)
    if destination is None:
        yield loaded.problem(where, f"there is no destination {name}; there are {', '.join(destinations)}")
    elif isinstance(destination, RemoteWriteDestination) and signal is not Signal.METRICS:
        yield loaded.problem(where, f"{name} is remote_write, which takes metrics only")
    elif isinstance(destination, LokiDestination) and signal is not Signal.LOGS:
        yield loaded.problem(where, f"{name} is loki, which takes logs only")
    elif signal is Signal.METRICS and settings.relabel.metrics and not isinstance(destination, RemoteWriteDestination):
        message = f"relabel.metrics works on series, which {name} does not get; use relabel.resource there"
        yield loaded.problem(where, message, warning=True)


def check_regex(loaded: Loaded, path: KeyPath, regex: str) -> Iterator[Problem]:
    """Python's syntax is wider than RE2's; the engine, which compiles the policy next, has the last word."""
    try:
        re.compile(regex)
    except re.error as error:
        column = "" if error.colno is None else f" at column {error.colno}"
        yield loaded.problem(path, f"{error.msg}{column}; regexes are RE2, anchored")
