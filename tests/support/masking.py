"""The engine's masking stage by itself, without a daemon."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import ValidationError

from gateway._engine import Engine
from gateway.config.masking import PassportCountry
from gateway.config.models import Config, Mask
from gateway.policy.compiler import compile_table

STRINGS_PER_REQUEST = 5_000


def rule_for(detector: str) -> dict[str, Any]:
    """A rule that has nothing but this detector. Of passports a rule names the countries: all of them."""
    if detector == "passport":
        return {"passports": list(get_args(PassportCountry)), "action": "redact"}
    return {"detectors": [detector], "action": "redact"}


def configured(detector: str) -> bool:
    """Whether the configuration knows this detector."""
    try:
        Mask.model_validate({"rules": [rule_for(detector)]})
    except ValidationError:
        return False
    return True


@contextmanager
def masking_engine(mask: Mapping[str, Any]) -> Iterator[Engine]:
    """An engine whose tenant acme masks like this."""
    config = Config.model_validate(
        {
            "destinations": {"disk": {"type": "file", "path": "unused"}},
            "defaults": {"routes": {"traces": ["disk"], "logs": ["disk"], "metrics": ["disk"]}, "mask": dict(mask)},
            "tenants": {"acme": {}},
        }
    )
    engine = Engine(threads=1, max_request_bytes=1 << 26, max_inflight_bytes=1 << 28, max_connections=1)
    try:
        engine.apply(compile_table(config, 1))
        yield engine
    finally:
        engine.stop()


def mask_logs(engine: Engine, request: ExportLogsServiceRequest) -> ExportLogsServiceRequest:
    return ExportLogsServiceRequest.FromString(engine.trial("acme", "logs", request.SerializeToString(), ["mask"]))


def masked_bodies(engine: Engine, texts: Sequence[str]) -> list[str]:
    """What masking makes of each text, as the body of a log record."""
    masked: list[str] = []
    for start in range(0, len(texts), STRINGS_PER_REQUEST):
        request = ExportLogsServiceRequest()
        records = request.resource_logs.add().scope_logs.add().log_records
        for text in texts[start : start + STRINGS_PER_REQUEST]:
            records.add().body.string_value = text
        after = mask_logs(engine, request).resource_logs[0].scope_logs[0].log_records
        masked += [record.body.string_value for record in after]
    assert len(masked) == len(texts)
    return masked
