"""The engine's OTLP/JSON tables are those of opentelemetry-proto: a newer one makes this fail until they follow."""

from pathlib import Path

from tests.support.json_schema_table import table

SCHEMA = Path(__file__).parents[2] / "engine" / "src" / "otlp" / "json" / "schema" / "rows.rs"


def test_the_tables_have_every_field_of_the_descriptors() -> None:
    """On failure, replace what follows the marker in rows.rs with `python -m tests.support.json_schema_table`."""
    _, _, tables = SCHEMA.read_text().partition("// Generated rows from here on.\n\n")
    assert tables == table()
