"""`gateway queue`."""

from pathlib import Path

import typer

from gateway.config.loader import load
from gateway.config.problems import ConfigError
from gateway.delivery.disk.rebuild import files_aside
from gateway.delivery.queue import DurableQueue, QueueError, QueueWriteError

EXIT_OK, EXIT_RUNTIME, EXIT_USAGE = 0, 1, 2


def run_forget(config_file: Path, tenant: str) -> int:
    """Returns the exit code: 1 if the queue is in use or cannot be written, 2 if the configuration is wrong."""
    try:
        config = load(config_file).config.queue
    except ConfigError as error:
        typer.echo("\n".join(f"✗ {problem}" for problem in error.problems), err=True)
        return EXIT_USAGE
    if not config.dir.is_dir():
        typer.echo(f"there is no queue in {config.dir}", err=True)
        return EXIT_RUNTIME
    try:
        queue = DurableQueue.open(config)
        try:
            had_key, records = queue.forget(tenant)
        finally:
            queue.close()
    except (QueueError, QueueWriteError) as error:
        typer.echo(str(error), err=True)
        return EXIT_RUNTIME
    key = "its data key, and " if had_key else ""
    typer.echo(f"forgot {tenant}: {key}{records} records")
    for file in files_aside(config.dir):
        # A copy from before: what of the tenant is encrypted in it is gone with the key, the rest is not.
        typer.echo(f"! {file} is a damaged file that was set aside; delete it, it may hold more of {tenant}", err=True)
    return EXIT_OK
