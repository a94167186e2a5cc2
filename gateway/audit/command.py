"""`gateway audit verify` and `gateway audit keygen`."""

from pathlib import Path

import typer

from gateway.audit.keys import fingerprint, generate, read_public_keys
from gateway.audit.verify import Report, verify

EXIT_OK, EXIT_BROKEN, EXIT_USAGE = 0, 1, 2


def run_verify(folder: Path, public_key: Path | None, at_least: int) -> int:
    """Says what was proved, or the first broken line. Returns the exit code."""
    try:
        trusted = read_public_keys(public_key) if public_key is not None else []
        report = verify(folder, trusted, at_least=at_least)
    except ValueError as error:
        typer.echo(str(error), err=True)
        return EXIT_USAGE
    except OSError as error:
        typer.echo(f"cannot read {error.filename or folder}: {error.strerror}", err=True)
        return EXIT_BROKEN
    if report.broken is not None:
        typer.echo(f"✗ {report.broken}", err=True)
        return EXIT_BROKEN
    for line in _findings(report, trusted=bool(trusted)):
        typer.echo(line)
    return EXIT_OK


def _findings(report: Report, *, trusted: bool) -> list[str]:
    lines = [
        f"✓ {report.lines} lines in {report.files} files, sequence {report.first_sequence} to {report.head.sequence}, "
        f"{report.anchors} signed anchors, the last of {report.last_anchor_time}",
        f"  head {report.head.hash}",
    ]
    if report.first_sequence > 1:
        lines.append(f"  older files are gone; what is left begins with a signed anchor of {report.first_time}")
    if report.unsigned_lines:
        lines.append(f"! the last {report.unsigned_lines} lines are chained, but no anchor has signed them yet")
    keys = ", ".join(report.fingerprints)
    if not trusted:
        lines.append(f"! signed by {keys}, which the trail itself names; --public-key proves that it is yours")
    else:
        lines.append(f"  signed by {keys}")
    return lines


def run_keygen(file: Path) -> int:
    """Returns the exit code."""
    try:
        public_file = generate(file)
    except FileExistsError as error:
        typer.echo(f"{error.filename} exists; name another file, or move it away: it may have signed a trail", err=True)
        return EXIT_USAGE
    except OSError as error:
        typer.echo(f"cannot write {file}: {error.strerror}", err=True)
        return EXIT_USAGE
    (key,) = read_public_keys(public_file)
    typer.echo(f"wrote {file} (private, mode 600) and {public_file}, {fingerprint(key)}\n")
    typer.echo(f"for the configuration:\n  audit: {{dir: ./data/audit, key_file: {file}}}\n")
    typer.echo("Keep the public key where whoever can change the trail cannot change it.")
    return EXIT_OK
