"""`gateway pseudonym`: what a value looks like in the data of a tenant."""

import asyncio
import sys
from pathlib import Path

import typer

from gateway.config.loader import load
from gateway.config.problems import ConfigError
from gateway.pseudonyms.look import look_up
from gateway.pseudonyms.pseudonym import Form, guess, pseudonym

EXIT_OK, EXIT_MISSING, EXIT_USAGE = 0, 1, 2


def run(config_path: Path, tenant: str, value: str, key_name: str | None, form: Form | None) -> int:
    """Print the value's pseudonym under every version of the tenant's keys, newest first; `-` reads it from stdin.

    `form`: what the value is to whoever found it; None guesses.

    Returns the exit code: 0, 1 if a key could not be had, 2 for wrong usage. No key is made by asking.
    """
    try:
        config = load(config_path).config
    except ConfigError as error:
        typer.echo("\n".join(f"✗ {problem}" for problem in error.problems), err=True)
        return EXIT_USAGE
    if tenant not in config.tenants:
        typer.echo(f"there is no tenant {tenant} in {config_path}", err=True)
        return EXIT_USAGE
    if not config.pseudonym_keys:
        typer.echo(f"{config_path} has no pseudonym_keys", err=True)
        return EXIT_USAGE
    if key_name is not None and key_name not in config.pseudonym_keys:
        typer.echo(f"there is no pseudonym key {key_name}; there are {', '.join(config.pseudonym_keys)}", err=True)
        return EXIT_USAGE
    if any(source.kind != "versions" for source in config.pseudonym_keys.values()) and config.vault is None:
        typer.echo(f"{config_path} has no section vault to read keys from", err=True)
        return EXIT_USAGE
    # What a shell cannot decode stands for its bytes, as Python's arguments have it.
    text = sys.stdin.readline().rstrip("\r\n") if value == "-" else value
    sought = text.encode(errors="surrogateescape")
    form = form or guess(sought)
    names = [key_name] if key_name is not None else sorted(config.pseudonym_keys)
    code = EXIT_OK
    for name, looked in zip(names, asyncio.run(look_up(config, names, tenant)), strict=True):
        for problem in looked.problems:
            typer.echo(problem, err=True)
        if not looked.keys and not looked.problems:
            typer.echo(f"tenant {tenant} has no key {name} yet; nothing was pseudonymised with it", err=True)
        if looked.problems or not looked.keys:
            code = EXIT_MISSING
        for key in reversed(looked.keys):
            typer.echo(f"{pseudonym(key.key, key.version, sought, form)}  {name}  {form}")
            key.wipe()
    return code
