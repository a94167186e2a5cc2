"""`gateway explain`."""

import asyncio
import sys
from pathlib import Path

import typer

from gateway.config.loader import load
from gateway.config.models import Config
from gateway.config.problems import ConfigError
from gateway.explain.explanation import Explainer, Explanation
from gateway.explain.read import EXPECTED, Request, UnreadableInput, requests
from gateway.explain.view import as_json, as_text
from gateway.pseudonyms.keys import TenantKey
from gateway.pseudonyms.look import look_up
from gateway.types import Signal

EXIT_OK, EXIT_USAGE = 0, 2


def run(
    file: Path,
    config_file: Path,
    tenant: str,
    signal: Signal | None,
    *,
    show_values: bool,
    show_untouched: bool,
    form: str,
) -> int:
    """Print what masking does to the requests in `file` (`-`: standard input). `form`: `table` or `json`.

    Returns the exit code: 0, or 2 if the input, the configuration or the tenant is wrong. No key is made by asking.
    """
    try:
        config = load(config_file).config
    except ConfigError as error:
        typer.echo("\n".join(f"✗ {problem}" for problem in error.problems), err=True)
        return EXIT_USAGE
    if tenant not in config.tenants:
        known = ", ".join(sorted(config.tenants)[:10])
        typer.echo(f"there is no tenant {tenant} in {config_file}; there are {known}", err=True)
        return EXIT_USAGE
    try:
        given = requests(_read(file), signal, may_quote=show_values)
        explanations = _explain(config, tenant, given)
    except (UnreadableInput, ValueError) as error:
        typer.echo(str(error), err=True)
        return EXIT_USAGE
    show = as_json if form == "json" else as_text
    typer.echo(show(tenant, explanations, show_values=show_values, show_untouched=show_untouched))
    return EXIT_OK


def _read(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"cannot read {file}: {error.strerror}; give {EXPECTED}") from None


def _explain(config: Config, tenant: str, given: list[Request]) -> list[Explanation]:
    explainer = Explainer(config, tenant)
    try:
        needed = {policy.pseudonym_key for request in given if (policy := explainer.policy(request.signal)) is not None}
        keys = _keys(config, tenant, sorted(name for name in needed if name is not None))
        try:
            explainer.use_keys(keys)
        finally:
            for key in keys:
                key.wipe()
        explanations = []
        for number, request in enumerate(given, 1):
            try:
                explanations.append(explainer.explain(request))
            except ValueError as error:
                raise ValueError(f"request {number}: the gateway would refuse it: {error}") from None
        return explanations
    finally:
        explainer.close()


def _keys(config: Config, tenant: str, names: list[str]) -> list[TenantKey]:
    """The keys that there are; what is missing is said."""
    configured = [name for name in names if name in config.pseudonym_keys]
    if any(config.pseudonym_keys[name].kind != "versions" for name in configured) and config.vault is None:
        raise ValueError("pseudonym_keys needs the section vault to read keys from")
    found = []
    for looked in asyncio.run(look_up(config, configured, tenant)):
        for problem in looked.problems:
            typer.echo(problem, err=True)
        found += looked.keys
    for name in names:
        if all(key.name != name for key in found):
            typer.echo(f"tenant {tenant} has no pseudonym key {name}: its pseudonyms cannot be shown", err=True)
    return found
