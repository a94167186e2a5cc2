"""The engine's detectors beside an oracle in plain Python, on 100,000 generated strings; what they must leave alone.

A detector takes part as soon as the configuration knows its name.
"""

import re
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import ValidationError

from gateway._engine import Engine
from gateway.config.models import Mask
from tests.support.clean_corpus import clean_strings
from tests.support.detectors import DEFAULT, DETECTORS, redact, spans
from tests.support.masking import configured, masked_bodies, masking_engine, rule_for
from tests.support.secrets_corpus import in_context, secret_strings

STRINGS_IN_ALL = 100_000
STRINGS = STRINGS_IN_ALL // len(DETECTORS)
CLEAN_STRINGS = 50_000
FALSE_POSITIVES = 0.001
SHOWN = 10

TAKING_PART = [name for name in DETECTORS if configured(name)]


@pytest.fixture(scope="module", params=TAKING_PART)
def masking(request: pytest.FixtureRequest) -> Iterator[tuple[str, Engine]]:
    """A detector, and an engine that masks with it alone."""
    with masking_engine({"rules": [rule_for(request.param)], "detectors": [], "keys": []}) as engine:
        yield request.param, engine


def strings_for(detector: str) -> list[str]:
    """Two of three with something like a secret, the others clean, in contexts too."""
    seed = sum(detector.encode())
    random = Random(seed)
    clean = [in_context(random, text) for text in clean_strings(seed, STRINGS // 3)]
    return secret_strings(random, detector, STRINGS - len(clean)) + clean


def disagreements(detector: str, strings: Sequence[str], masked: Sequence[str]) -> Iterator[str]:
    for text, engine_made in zip(strings, masked, strict=True):
        oracle_made = redact(detector, text)
        if engine_made != oracle_made:
            yield f"{text!r}\n  oracle {spans(detector, text)}: {oracle_made!r}\n  engine: {engine_made!r}"


def report(found: Sequence[str], of: int) -> str:
    return f"{len(found)} of {of}, among them\n" + "\n".join(found[:SHOWN])


def test_the_engine_touches_the_strings_that_the_oracle_touches(masking: tuple[str, Engine]) -> None:
    detector, engine = masking
    strings = strings_for(detector)
    masked = masked_bodies(engine, strings)
    touched = {text for text, after in zip(strings, masked, strict=True) if text != after}
    expected = {text for text in strings if spans(detector, text)}
    missed = [f"missed: {text!r} {spans(detector, text)}" for text in expected - touched]
    too_much = [f"touched: {text!r}" for text in touched - expected]
    assert not missed + too_much, report(sorted(missed) + sorted(too_much), len(strings))


def test_the_engine_replaces_exactly_what_the_oracle_replaces(masking: tuple[str, Engine]) -> None:
    detector, engine = masking
    strings = strings_for(detector)
    found = list(disagreements(detector, strings, masked_bodies(engine, strings)))
    assert not found, report(found, len(strings))


def test_clean_telemetry_is_left_alone() -> None:
    strings = clean_strings(7, CLEAN_STRINGS)
    wanted = [name for name in DEFAULT if name in TAKING_PART]
    detectors = "default" if wanted == list(DEFAULT) else wanted
    with masking_engine({"detectors": detectors, "keys": [], "action": "redact"}) as engine:
        masked = masked_bodies(engine, strings)
    touched = [f"{before!r} -> {after!r}" for before, after in zip(strings, masked, strict=True) if before != after]
    assert len(touched) <= FALSE_POSITIVES * len(strings), report(touched, len(strings))


def test_the_oracle_itself_leaves_clean_telemetry_alone() -> None:
    strings = clean_strings(8, 5_000)
    touched = [f"{name}: {text!r}" for name in DEFAULT for text in strings if spans(name, text)]
    assert len(touched) <= FALSE_POSITIVES * len(strings), report(touched, len(strings))


def test_every_detector_of_the_configuration_has_an_oracle() -> None:
    """A detector that is added needs one: in `tests/support`, beside the others."""
    with pytest.raises(ValidationError) as refused:
        Mask.model_validate({"detectors": ["no_such_detector"]})
    known = set(re.findall(r"'([a-z0-9_]+)'", str(refused.value))) - {"no_such_detector", "default"}
    assert "email" in known, refused.value
    assert known <= set(DETECTORS)


def test_packing_loses_no_string() -> None:
    strings = ["", "a", "größe", "x" * 5000]
    with masking_engine({"detectors": ["email"], "keys": [], "action": "redact"}) as engine:
        assert masked_bodies(engine, strings) == strings
        request = ExportLogsServiceRequest()
        assert engine.trial("acme", "logs", request.SerializeToString(), ["mask"]) == b""
