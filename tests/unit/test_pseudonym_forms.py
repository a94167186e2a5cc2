"""`gateway pseudonym` shows what the engine writes, whatever a value was found as and however it is written."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from typer.testing import CliRunner

from gateway._engine import Engine
from gateway.cli import app
from gateway.config.loader import load
from gateway.policy.compiler import compile_table
from gateway.pseudonyms.keys import derive
from gateway.pseudonyms.pseudonym import Form, guess, normalise, pseudonym

KEY = bytes(range(32))
CONFIG = f"""\
destinations: {{d: {{type: file, path: ./out}}}}
pseudonym_keys: {{main: {{versions: [{{version: 3, key: "{KEY.hex()}"}}]}}}}
tenants:
  acme:
    routes: {{logs: [d]}}
    mask:
      rules: [{{name: names, words: ["Jane Döe"], action: pseudonymise}}, {{detectors: uuid, action: pseudonymise}}]
      keys: [secret]
      action: pseudonymise
"""
FOUND = [
    (Form.EMAIL, "jane.doe@example.org"),
    (Form.EMAIL, "Jane.DOE@Example.ORG"),
    (Form.EMAIL, "Jane.Doe%40Example.org"),
    (Form.EMAIL, "Jane.Doe%2540Example.org"),
    (Form.EMAIL, "JÜRGEN@BÜCHER.example"),
    (Form.EMAIL, "ΣΟΦΟΣ@example.gr"),
    (Form.EMAIL, "İNCİ@example.com"),
    (Form.DIGITS, "4111 1111 1111 1111"),
    (Form.DIGITS, "4111111111111111"),
    (Form.DIGITS, "219-09-9999"),
    (Form.DIGITS, "+1 (415) 555-2671"),
    (Form.CODE, "DE89 3704 0044 0532 0130 00"),
    (Form.CODE, "de89370400440532013000"),
    (Form.CODE, "02:a4:5e:00:6f:1b"),
    (Form.CODE, "0AF76519-16cd-43dd-8448-eb211c80319c"),
    (Form.ADDRESS, "198.51.100.77"),
    (Form.ADDRESS, "2001:DB8:0:0::1"),
    (Form.ADDRESS, "2001:db8::1%eth0"),
    (Form.ADDRESS, "::ffff:198.51.100.77"),
    (Form.ADDRESS, "::FFFF:c633:644d"),
    (Form.TEXT, "Jane Döe"),
    (Form.TEXT, "gh" + "p_" + "Ab3dEf6hIj" * 4),
]
# What is guessed wrong is what `--form` is for: these look like something else, or like anything.
NOT_GUESSED = {Form.CODE}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "gateway.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def engine(config: Path) -> Iterator[Engine]:
    engine = Engine(threads=1, max_request_bytes=1 << 20, max_inflight_bytes=1 << 20, max_connections=1)
    engine.apply(compile_table(load(config).config, 1))
    engine.set_pseudonym_keys([("main", "acme", 3, derive(bytearray(KEY), "acme"))])
    yield engine
    engine.stop()


def masked(engine: Engine, value: str, key: str | None = None) -> str:
    """What becomes of a body, or of an attribute with this key."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    place = record.body if key is None else record.attributes.add(key=key).value
    place.string_value = value
    wire = engine.trial("acme", "logs", request.SerializeToString(), ["mask"])
    record = ExportLogsServiceRequest.FromString(wire).resource_logs[0].scope_logs[0].log_records[0]
    return record.body.string_value if key is None else record.attributes[0].value.string_value


def shown(config: Path, value: str, *options: str) -> list[str]:
    result = CliRunner().invoke(app, ["pseudonym", "-c", str(config), "--tenant", "acme", *options, "--", value])
    assert result.exit_code == 0, result.output
    return result.stdout.split()


@pytest.mark.parametrize(("form", "value"), FOUND)
def test_the_command_shows_what_the_engine_writes(engine: Engine, config: Path, form: Form, value: str) -> None:
    written = masked(engine, value)
    assert re.fullmatch("h3:[0-9a-f]{24}", written), f"{value} was not found whole"
    assert shown(config, value, "--form", form) == [written, "main", form]
    if form not in NOT_GUESSED:
        assert shown(config, value) == [written, "main", form]


@pytest.mark.parametrize("value", [" jane \t", "Jane@Example.org", "4111 1111", "::1", "x\N{NO-BREAK SPACE}", ""])
def test_the_value_of_a_sensitive_key_is_hashed_as_it_is(engine: Engine, config: Path, value: str) -> None:
    assert shown(config, value, "--form", "text")[0] == masked(engine, value, "secret")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    address=st.ip_addresses() | st.integers(0, 2**32 - 1).map(lambda low: IPv6Address(0xFFFF << 32 | low)),
    exploded=st.booleans(),
    upper=st.booleans(),
)
def test_an_address_has_the_engines_form(
    engine: Engine, address: IPv4Address | IPv6Address, exploded: bool, upper: bool
) -> None:
    text = address.exploded if exploded else str(address)
    value = text.upper() if upper else text
    written = masked(engine, value)
    if written != value:
        assert written == pseudonym(derive(bytearray(KEY), "acme"), 3, value.encode(), Form.ADDRESS)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b"10.0.0.1", Form.ADDRESS),
        (b"fe80::1%eth0", Form.ADDRESS),
        (b"fe80::1%\xff", Form.TEXT),
        (b"a@b", Form.EMAIL),
        (b"a%40b", Form.EMAIL),
        (b"+49 30 1234567", Form.DIGITS),
        (b"123456", Form.TEXT),
        (b"1234567", Form.DIGITS),
        (b"DE89370400440532013000", Form.TEXT),
        ("٠١٢٣٤٥٦٧".encode(), Form.TEXT),
        (b"", Form.TEXT),
    ],
)
def test_the_form_is_guessed_by_how_a_value_looks(value: bytes, form: Form) -> None:
    assert guess(value) is form


@pytest.mark.parametrize("form", list(Form))
def test_bytes_that_are_no_text_have_a_form_as_well(form: Form) -> None:
    assert normalise(normalise(b"\xffA1\x80\xc3", form), form) == normalise(b"\xffA1\x80\xc3", form)
