"""The configuration: models, loading, checking, JSON Schema."""
