"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    name="gateway",
    help="One daemon between your services and Prometheus, Loki and Jaeger: it knows tenants, holds quotas, masks, "
    "relabels, samples, and loses nothing.\n\nSee it work:  gateway demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(help="Make API keys.", no_args_is_help=True)
app.add_typer(keys, name="keys")
audit = typer.Typer(help="Prove the audit trail.", no_args_is_help=True)
app.add_typer(audit, name="audit")
queue = typer.Typer(help="Look after the durable queue.", no_args_is_help=True)
app.add_typer(queue, name="queue")

EXIT_USAGE = 2

ConfigFile = Annotated[Path, typer.Option("-c", "--config", envvar="GATEWAY_CONFIG", help="The configuration file.")]


def _version(wanted: bool) -> None:
    if wanted:
        from gateway._engine import version

        typer.echo(f"gateway {version()}")
        raise typer.Exit


@app.callback()
def root(
    _version_flag: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command(epilog="Example:  gateway run -c config/gateway.yaml")
def run(
    config: ConfigFile = Path("config/gateway.yaml"),
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take ports and queue over from the gateway that runs, without a gap.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for ports and queue that are in use.")
    ] = 0.0,
) -> None:
    """Run the daemon. Checks the configuration first; exit code 2 if it, a port or a folder is not usable."""
    from gateway.config.check import load_checked
    from gateway.config.problems import ConfigError
    from gateway.daemon import run as run_daemon
    from gateway.daemon import try_policy
    from gateway.entrance import Entrance

    try:
        checked, warnings = load_checked(config, try_policy)
    except ConfigError as error:
        typer.echo("\n".join(f"✗ {problem}" for problem in error.problems), err=True)
        raise typer.Exit(EXIT_USAGE) from None
    for warning in warnings:
        typer.echo(f"! {warning}", err=True)
    raise typer.Exit(run_daemon(checked, config, Entrance(take_over=take_over, wait_s=wait)))


@app.command(epilog="Example:  gateway check -c config/gateway.yaml --format json")
def check(
    config: ConfigFile = Path("config/gateway.yaml"),
    format: Annotated[Literal["text", "json"], typer.Option(help="json: one problem a line.")] = "text",  # noqa: A002
    deny_warnings: Annotated[bool, typer.Option("--deny-warnings", help="Treat warnings as errors.")] = False,
) -> None:
    """Say everything that is wrong with a configuration, with file, line and what to do. Exit code 0 or 2."""
    from gateway.config.check import load_checked
    from gateway.config.problems import ConfigError
    from gateway.daemon import try_policy

    try:
        checked, problems = load_checked(config, try_policy)
    except ConfigError as error:
        problems, failed = error.problems, True
    else:
        failed = deny_warnings and bool(problems)
    for problem in problems:
        mark = "!" if problem.severity == "warning" else "✗"
        typer.echo(problem.as_json() if format == "json" else f"{mark} {problem}")
    if failed:
        raise typer.Exit(EXIT_USAGE)
    if format != "json":
        typer.echo(f"✓ {config}: {len(checked.tenants)} tenants, {len(checked.destinations)} destinations")


@app.command(epilog="Example:  gateway init gateway.yaml && gateway run -c gateway.yaml")
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("gateway.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Write a commented configuration with one tenant, and show its key once."""
    from urllib.parse import quote

    from gateway.config.starter import starter_config
    from gateway.identity.api_keys import new_key

    if path.exists() and not force:
        typer.echo(f"{path} exists; name another file, or overwrite it with --force", err=True)
        raise typer.Exit(EXIT_USAGE)
    key = new_key()
    try:
        path.write_text(starter_config(key), encoding="utf-8")
    except OSError as error:
        typer.echo(f"cannot write {path}: {error.strerror}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    typer.echo(f"wrote {path}\n\nThe key of tenant acme, shown this once:  {key.key}\n\nPoint an application here:")
    typer.echo("  export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317")
    typer.echo(f'  export OTEL_EXPORTER_OTLP_HEADERS="authorization={quote(f"Bearer {key.key}")}"')
    typer.echo(f"\nNext:  gateway run -c {path}")


@keys.command("new", epilog="Example:  gateway keys new --tenant acme")
def keys_new(tenant: Annotated[str, typer.Option(help="Whose key it is; for the lines to paste.")] = "acme") -> None:
    """Make a key; the configuration gets its hash only."""
    from gateway.identity.api_keys import new_key

    key = new_key()
    typer.echo(f"key, shown this once:  {key.key}\n\nfor the configuration:")
    typer.echo(f'tenants:\n  {tenant}:\n    api_keys:\n      - {{id: "{key.id}", sha256: "{key.sha256}"}}')


@audit.command("verify", epilog="Example:  gateway audit verify /var/lib/gateway/audit --public-key audit.key.pub")
def audit_verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the trail, or a copy of it.")],
    public_key: Annotated[
        Path | None, typer.Option(help="Who must have signed it, PEM; several keys in one file if it changed.")
    ] = None,
    at_least: Annotated[
        int, typer.Option(min=0, help="Sequence that it must reach; gateway_audit_sequence as a monitor saw it.")
    ] = 0,
) -> None:
    """Prove offline that no line was changed, removed or added. Exit code 0, or 1 and the first broken line."""
    from gateway.audit.command import run_verify

    raise typer.Exit(run_verify(folder, public_key, at_least))


@audit.command("keygen", epilog="Example:  gateway audit keygen /etc/gateway/audit.key")
def audit_keygen(
    file: Annotated[Path, typer.Argument(help="The private key; the public one gets the same name and .pub.")],
) -> None:
    """Make the Ed25519 key pair that signs the audit trail."""
    from gateway.audit.command import run_keygen

    raise typer.Exit(run_keygen(file))


@queue.command("forget", epilog="Example:  gateway queue forget acme -c gateway.yaml")
def queue_forget(
    tenant: Annotated[str, typer.Argument(help="Whose backlog it is.")],
    config: ConfigFile = Path("config/gateway.yaml"),
) -> None:
    """Delete a tenant's data key and all that waits of it. Stop the gateway first. Exit code 0, 1 or 2: wrong input."""
    from gateway.delivery.queue_command import run_forget

    raise typer.Exit(run_forget(config, tenant))


@app.command(epilog="Example:  gateway send traces --key $KEY --count 10 --items 100")
def send(
    signal: Annotated[str, typer.Argument(help="traces, metrics or logs.")] = "traces",
    endpoint: Annotated[
        str | None,
        typer.Option(envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="Of the gateway; by default port 4317 or 4318 here."),
    ] = None,
    protocol: Annotated[str, typer.Option(help="grpc or http.")] = "grpc",
    key: Annotated[str | None, typer.Option(envvar="GATEWAY_KEY", help="An API key.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Requests.")] = 1,
    items: Annotated[int, typer.Option(min=1, help="Items in each.")] = 10,
    pii: Annotated[bool, typer.Option("--pii", help="Plant e-mails and card numbers.")] = False,
) -> None:
    """Send generated OTLP and show the answers."""
    from gateway.send.command import run as run_send

    raise typer.Exit(run_send(signal, endpoint, protocol, key, count, items, pii))


@app.command(epilog="Example:  gateway demo")
def demo(
    seconds: Annotated[float, typer.Option(min=4, max=600, help="How long traffic flows.")] = 10.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running for your own application.")] = False,
) -> None:
    """Gateway, backends' stand-in and three tenants of real SDK traffic in one go. Needs nothing else."""
    from gateway.demo.command import run as run_demo

    raise typer.Exit(run_demo(seconds, keep))


@app.command(epilog="Example:  gateway sink --store received.jsonl")
def sink(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="Remote write, Loki push and OTLP/HTTP.")] = 19291,
    grpc_port: Annotated[int, typer.Option(help="OTLP/gRPC.")] = 14327,
    store: Annotated[Path | None, typer.Option(help="Keep what arrives, as JSON lines.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show what arrives.")] = False,
) -> None:
    """Stand in for Prometheus, Loki and Jaeger: receive, decode, show and store what arrives."""
    from gateway.sink.command import run as run_sink

    raise typer.Exit(run_sink(host, http_port, grpc_port, store, not quiet))


@app.command(epilog="Example:  gateway usage -c gateway.yaml --from 2026-01-01 --to 2026-01-31 --format csv")
def usage(
    config: ConfigFile = Path("config/gateway.yaml"),
    first: Annotated[str | None, typer.Option("--from", help="First day, UTC; by default of the month.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day, UTC; by default today.")] = None,
    tenant: Annotated[str | None, typer.Option(help="One tenant; by default all.")] = None,
    format: Annotated[str, typer.Option(help="table, json or csv.")] = "table",  # noqa: A002
) -> None:
    """Show what each tenant used, what it costs, and what the month will come to. Works while the gateway runs."""
    from gateway.usage.command import run as run_usage

    raise typer.Exit(run_usage(config, first, last, tenant, format))


@app.command(epilog="Example:  gateway pseudonym -c gateway.yaml --tenant acme jane@example.org")
def pseudonym(
    value: Annotated[str, typer.Argument(help="The value as it was sent; - reads it from standard input.")],
    tenant: Annotated[str, typer.Option(help="Whose data it is in.")],
    config: ConfigFile = Path("config/gateway.yaml"),
    key: Annotated[str | None, typer.Option(help="One of pseudonym_keys; by default all.")] = None,
    form: Annotated[
        Literal["text", "email", "digits", "code", "address"] | None,
        typer.Option(
            help="What the value was found as; text for values of keys, regexes and words. Guessed by default."
        ),
    ] = None,
) -> None:
    """Show what a value was replaced with, to find somebody's data again. Exit code 0, or 1 if a key is missing."""
    from gateway.pseudonyms.command import run as run_pseudonym
    from gateway.pseudonyms.pseudonym import Form

    raise typer.Exit(run_pseudonym(config, tenant, value, key, None if form is None else Form(form)))


@app.command(epilog="Example:  gateway explain request.json -c gateway.yaml --tenant acme --all")
def explain(
    file: Annotated[
        Path,
        typer.Argument(
            help="An OTLP/JSON request, lines of them, one span, metric or log record, or protobuf; - is stdin."
        ),
    ],
    tenant: Annotated[str, typer.Option(help="Whose rules hold.")],
    config: ConfigFile = Path("config/gateway.yaml"),
    signal: Annotated[
        Literal["traces", "metrics", "logs"] | None, typer.Option(help="Needed for protobuf; otherwise guessed.")
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show what is masked, not only its length.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="List the values in which nothing was found, too.")] = False,
    format: Annotated[Literal["table", "json"], typer.Option(help="json: one object.")] = "table",  # noqa: A002
) -> None:
    """Show what masking makes of a request: rule, detector and result of each value. Exit code 0, or 2: wrong input."""
    from gateway.explain.command import run as run_explain
    from gateway.types import Signal

    which = None if signal is None else Signal(signal)
    raise typer.Exit(
        run_explain(file, config, tenant, which, show_values=show_values, show_untouched=every, form=format)
    )


@app.command(epilog="Example:  gateway replay -c gateway.yaml dead-letters/acme.jsonl --reason http_400")
def replay(
    files: Annotated[list[Path], typer.Argument(help="Files of dead letters.")],
    config: ConfigFile = Path("config/gateway.yaml"),
    tenant: Annotated[str | None, typer.Option(help="Only letters of this tenant.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only letters that were going there.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only letters that were given up for it, such as http_400.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Send them here instead; it must take the same format.")] = None,
    timeout: Annotated[float, typer.Option(help="How long a letter is tried while the backend is busy, seconds.")] = 60,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent.")] = False,
) -> None:
    """Send dead letters again. What is taken leaves the file; exit code 1 if something was not."""
    from gateway.replay.command import Selection
    from gateway.replay.command import run as run_replay

    selection = Selection(tenant=tenant, destination=destination, reason=reason, to=to)
    raise typer.Exit(run_replay(config, files, selection, timeout, dry_run=dry_run))


@app.command(epilog="Example:  gateway schema > gateway.schema.json")
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    from gateway.config.schema import json_schema

    typer.echo(json_schema(), nl=False)


@app.command(epilog="Example:  gateway health --url http://127.0.0.1:9464")
def health(
    url: Annotated[str, typer.Option(envvar="GATEWAY_ADMIN_URL", help="Of the admin port.")] = "http://127.0.0.1:9464",
) -> None:
    """Ask a running gateway whether it is ready. Exit code 0 or 1; for health checks of containers."""
    import urllib.error
    import urllib.request

    # The gateway beside us is asked itself, whatever proxy the environment names for other traffic.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/-/ready", timeout=5) as response:
            typer.echo(response.read().decode())
    except (urllib.error.URLError, OSError, ValueError) as error:
        typer.echo(f"not ready: {error}", err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """Entry point of the `gateway` command."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has gone; that is not an error.
        sys.stderr.close()
