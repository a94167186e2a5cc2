"""The JSON Schema of the configuration, for editors; `config/schema.json` is its committed copy."""

import json

from gateway.config.models import Config


def json_schema() -> str:
    """The schema as text, ending in a newline."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    schema["title"] = "Telemetry gateway configuration"
    return json.dumps(schema, indent=2) + "\n"
