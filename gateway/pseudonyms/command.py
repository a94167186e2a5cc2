"""`gateway pseudonym`: what a value looks like in the data of a tenant."""

import asyncio
import sys
from pathlib import Path

import structlog
import typer

from gateway.config.loader import load
from gateway.config.models import Config
from gateway.config.problems import ConfigError
from gateway.pseudonyms.keys import SHARED, HeldKeys
from gateway.pseudonyms.pace import Pace
from gateway.pseudonyms.pseudonym import pseudonym
from gateway.pseudonyms.pseudonym_keys import open_source
from gateway.pseudonyms.vault import Vault

EXIT_OK, EXIT_MISSING, EXIT_USAGE = 0, 1, 2


def run(config_path: Path, tenant: str, value: str, key_name: str | None) -> int:
    """Print the value's pseudonym under every version of the tenant's keys, newest first; `-` reads it from stdin.

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
    sought = sys.stdin.readline().rstrip("\r\n") if value == "-" else value
    names = [key_name] if key_name is not None else sorted(config.pseudonym_keys)
    return asyncio.run(_show(config, names, tenant, sought.encode(errors="surrogateescape")))


async def _show(config: Config, names: list[str], tenant: str, value: bytes) -> int:
    pace, log = Pace(), structlog.get_logger(__name__)
    vault = Vault(config.vault, pace=pace, log=log) if config.vault is not None else None
    code = EXIT_OK
    try:
        for name in names:
            settings = config.pseudonym_keys[name]
            source = open_source(name, settings, vault, pace=pace, may_create=False)
            owner = SHARED if settings.shared else tenant
            held = HeldKeys()
            reading = await source.read([owner], held)
            held.take(reading.found, [owner])
            for problem in reading.problems:
                typer.echo(problem, err=True)
            keys = held.of_tenant(name, tenant, shared=settings.shared)
            if not keys and not reading.problems:
                typer.echo(f"tenant {tenant} has no key {name} yet; nothing was pseudonymised with it", err=True)
            if reading.problems or not keys:
                code = EXIT_MISSING
            for key in reversed(keys):
                typer.echo(f"{pseudonym(key.key, key.version, value)}  {name}")
                key.wipe()
            held.wipe()
    finally:
        if vault is not None:
            await vault.close()
    return code
