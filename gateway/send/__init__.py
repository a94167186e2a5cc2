"""A built-in OTLP generator."""
