"""Configuration to policy table: all that the engine decides by, in one versioned piece (`engine/src/policy.rs`)."""

from functools import cache
from typing import Any, assert_never

import orjson

from gateway.config.destinations import (
    Destination,
    FileDestination,
    LokiDestination,
    OtlpDestination,
    RemoteWriteDestination,
)
from gateway.config.masking import Mask
from gateway.config.models import Config
from gateway.config.word_list import read_words
from gateway.policy.identity import compile_api_key, compile_provider, compile_tokens
from gateway.policy.inheritance import Effective, effective
from gateway.policy.masking import compile_mask
from gateway.policy.quotas import compile_quota, compile_series, compile_streams, compile_volume
from gateway.policy.relabelling import compile_relabel
from gateway.types import Signal

# What the engine holds each log line to.
_LOKI_ENTRIES = {"max_line_bytes", "long_lines", "max_metadata_bytes", "max_metadata_pairs", "log_form"}


def compile_table(config: Config, generation: int) -> bytes:
    """The table as JSON. `config` has passed `check`: its routes name destinations that exist.

    Raises ValueError if a file of words to mask cannot be read.
    """
    destinations = {name: index for index, name in enumerate(config.destinations)}
    words = cache(read_words)
    indices: dict[tuple[bytes, Mask | None], int] = {}
    policies: list[dict[str, Any]] = []
    tenants = []
    for tenant_id, tenant in config.tenants.items():
        # Tenants with equal settings share one policy: two thousand tenants compile their regexes and words once.
        settings = effective(config, tenant)
        rest = orjson.dumps(_policy(settings, destinations, None))
        index = indices.setdefault((rest, settings.mask), len(indices))
        if index == len(policies):
            mask = compile_mask(settings.mask, config.pseudonym_keys, words)
            policies.append(_policy(settings, destinations, mask))
        keys = [compile_api_key(key) for key in tenant.api_keys]
        tenants.append({"id": tenant_id, "disabled": tenant.disabled, "api_keys": keys, "policy": index})
    return orjson.dumps(
        {
            "generation": generation,
            "ack": config.queue.ack,
            "batch": {
                "max_bytes": config.batch.max_bytes,
                "max_items": config.batch.max_items,
                "max_age_ms": max(1, round(config.batch.max_age * 1000)),
            },
            "identity": [compile_provider(provider) for provider in config.identity],
            "tokens": compile_tokens(config.tokens),
            "destinations": [
                {"name": name, "encoding": _encoding(destination), "shards": _shards(destination)}
                for name, destination in config.destinations.items()
            ],
            "policies": policies,
            "tenants": tenants,
        }
    )


def _policy(settings: Effective, destinations: dict[str, int], mask: dict[str, Any] | None) -> dict[str, Any]:
    policy: dict[str, Any] = {"claims": settings.claims, "volume": compile_volume(settings.quotas)}
    for signal in Signal:
        routes = settings.routes.get(signal, ())
        sampled = signal is Signal.TRACES and settings.trace_ratio < 1
        policy[signal.value] = {
            "routes": [
                {"to": destinations[route.to], "when": dict(route.when), "unless": dict(route.unless)}
                for route in routes
            ],
            "quota": compile_quota(settings.quotas, signal),
            "mask": mask,
            "relabel": compile_relabel(settings.relabel, signal),
            "sample": {"ratio": settings.trace_ratio} if sampled else None,
            "series": compile_series(settings.quotas.of(signal)),
            "streams": compile_streams(settings.quotas.of(signal)),
        } if routes else None  # fmt: skip
    return policy


def _encoding(destination: Destination) -> dict[str, Any]:
    match destination:
        case RemoteWriteDestination():
            return {"type": "remote_write1", "promote": list(destination.promote_resource_attributes)}
        case LokiDestination():
            labels = [label.model_dump() for label in destination.stream_labels]
            return {"type": "loki", "stream_labels": labels, "entries": destination.model_dump(include=_LOKI_ENTRIES)}
        case OtlpDestination():
            return {"type": "otlp"}
        case FileDestination():
            return {"type": "otlp_json"}
        case _:
            assert_never(destination)


def _shards(destination: Destination) -> int:
    # The lines of a file have an order of their own.
    return 1 if isinstance(destination, FileDestination) else destination.shards
