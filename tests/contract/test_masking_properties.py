"""Masking whatever wraps a text: the secret goes, all else stays, a second time changes nothing, in linear time."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from gateway._engine import Engine
from tests.support.detectors import DEFAULT, REPLACEMENTS
from tests.support.masking import configured, mask_logs, masked_bodies, masking_engine
from tests.support.secrets_corpus import ALNUM, BASE32, a_jwt, an_iban, chars, mixed

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_RANDOM = Random(20)

# In spellings that no encoding changes, but for the @ of an address.
SECRETS = {
    "email": "jane.doe4711@customer.example.com",
    "credit_card": "4111111111111111",
    "iban": an_iban(_RANDOM).replace(" ", "").upper(),
    "us_ssn": "219-09-9999",
    "phone": "415-555-2671",
    "ipv4": "198.51.100.77",
    "mac": "02-a4-5e-00-6f-1b",
    "jwt": a_jwt(_RANDOM) + "x",
    "aws_key": "AK" + "IA" + chars(_RANDOM, BASE32, 16),
    "gcp_key": "AI" + "za" + mixed(_RANDOM, ALNUM, 35),
    "github_token": "gh" + "p_" + mixed(_RANDOM, ALNUM, 36),
    "slack_token": "xo" + "xb-" + mixed(_RANDOM, ALNUM, 40),
    "stripe_key": "sk" + "_test_" + mixed(_RANDOM, ALNUM, 24),
}
TAKING_PART = [name for name in SECRETS if configured(name)]
ALL = [name for name in DEFAULT if configured(name)]


@dataclass(frozen=True)
class Encoding:
    """How a text is wrapped; `exact`: what is around it must stay as it is."""

    name: str
    wrap: Callable[[str], str]
    exact: bool = True


def twice(value: str) -> str:
    return json.dumps({"m": json.dumps({"k": json.dumps({"a": value}), "n": 1})})


ENCODINGS = (
    Encoding("plain", str),
    Encoding("prose", lambda value: f"could not reach ({value}), giving up"),
    Encoding("json", lambda value: json.dumps({"a": value, "n": [1, {"b": None}]})),
    Encoding("json in json twice", twice),
    Encoding("logfmt", lambda value: f'level=info value={value} took=3ms msg="all done"'),
    Encoding("url query", lambda value: f"GET /p?page=1&x={quote(value)}&y=2 HTTP/1.1"),
    Encoding("percent-encoded", lambda value: "/p?filter=" + quote(json.dumps({"a": value}), safe=""), exact=False),
    Encoding("base64 of json", lambda value: base64.b64encode(json.dumps({"a": value}).encode()).decode(), exact=False),
    Encoding("header", lambda value: f"X-Value: {value}"),
    Encoding("sql", lambda value: f"SELECT * FROM t WHERE a = '{value}' AND n = 1"),
)


def word_filler(size: int) -> str:
    return ("some words " * (size // 11 + 1))[:size].rstrip() + " " if size else ""


# Before the text, after it; the third one makes most secrets cross 4 KiB.
POSITIONS = st.one_of(
    st.tuples(st.sampled_from([0, 20]), st.sampled_from([0, 20])),
    st.tuples(st.integers(4020, 4100), st.sampled_from([0, 20, 5000])),
)


@pytest.fixture(scope="module", params=["redact", "remove"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with masking_engine({"detectors": ALL, "keys": ["password"], "action": request.param}) as engine:
        yield engine


@pytest.fixture(scope="module")
def redacting() -> Iterator[Engine]:
    with masking_engine({"detectors": ALL, "keys": ["password"], "action": "redact"}) as engine:
        yield engine


def visible(text: str) -> str:
    """All that a reader can make of a text: as it is, percent-decoded, and base64-decoded word by word."""
    readings = [text, unquote(text)]
    for word in text.split():
        if len(word) % 4 == 0:
            try:
                readings.append(base64.b64decode(word, validate=True).decode())
            except ValueError:
                continue
    return "\n".join(readings)


def check_masked(secret: str, encoding: Encoding, before: str, after: str, masked: str) -> None:
    text = encoding.wrap(secret)
    assert secret not in visible(masked), "the secret is still there"
    assert masked.startswith(before)
    assert masked.endswith(after)
    if encoding.exact:
        spelled = next(spelling for spelling in (secret, quote(secret)) if spelling in text)
        front, back = text.split(spelled)
        assert masked.startswith(before + front)
        assert masked.endswith(back + after)
        rest = masked.removeprefix(before + front).removesuffix(back + after)
        assert len(rest) <= max(map(len, REPLACEMENTS.values())), "no more than the secret is replaced"


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
@given(detector=st.sampled_from(TAKING_PART), position=POSITIONS)
@QUICK
def test_only_the_secret_goes_and_masking_again_changes_nothing(
    engine: Engine, encoding: Encoding, detector: str, position: tuple[int, int]
) -> None:
    before, after = word_filler(position[0]), " " + word_filler(position[1])
    secret = SECRETS[detector]
    (masked,) = masked_bodies(engine, [before + encoding.wrap(secret) + after])
    check_masked(secret, encoding, before, after, masked)
    assert masked_bodies(engine, [masked]) == [masked]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_a_secret_behind_a_megabyte_is_found(redacting: Engine, encoding: Encoding) -> None:
    before = word_filler(1 << 20)
    masked = masked_bodies(redacting, [before + encoding.wrap(SECRETS[name]) + " end" for name in TAKING_PART])
    for name, text in zip(TAKING_PART, masked, strict=True):
        check_masked(SECRETS[name], encoding, before, " end", text)


JSON_WITH_KEY = {
    "json": lambda value: json.dumps({"n": 1, "password": value, "m": [2]}),
    "nested": lambda value: json.dumps([{"a": {"Password": value}}]),
    "in a string": lambda value: json.dumps({"m": json.dumps({"password": value})}),
    "in a string twice": lambda value: json.dumps({"m": json.dumps({"k": json.dumps({"password": value})})}),
}


@pytest.mark.parametrize("wrap", JSON_WITH_KEY.values(), ids=JSON_WITH_KEY)
@given(noise=st.text("abc{}[]\":,\\ '=ü", max_size=12), size=st.sampled_from([0, 4070, 4090]))
@QUICK
def test_the_value_of_a_sensitive_member_goes_whatever_it_holds(
    engine: Engine, wrap: Callable[[str], str], noise: str, size: int
) -> None:
    text = word_filler(size) + wrap(f"hun{noise}ter9")
    (masked,) = masked_bodies(engine, [text])
    assert "hun" not in masked
    assert "ter9" not in masked
    json.loads(masked[size and len(word_filler(size)) :])
    assert masked_bodies(engine, [masked]) == [masked]


ESCAPED = {
    "the sign": r'{"a":"jane\u0040customer.example.com"}',
    "the sign, percent-encoded twice": "/p?a=jane%2540customer.example.com",
    "letters": json.dumps({"a": "jürgen@bücher.example"}),
    "letters, in a string": json.dumps({"m": json.dumps({"a": "jürgen@bücher.example"})}),
    "a digit of a card": r'{"a":"411111111111111\u0031"}',
    "the dot, percent-encoded": "/p?a=jane%40example%2Ecom",
    "blanks of a card, percent-encoded": "/p?a=4111%201111%201111%201111",
    "blanks of a card as +": "/p?a=4111+1111+1111+1111",
}


@pytest.mark.parametrize("text", ESCAPED.values(), ids=ESCAPED)
def test_escapes_within_a_secret_hide_nothing(redacting: Engine, text: str) -> None:
    (masked,) = masked_bodies(redacting, [text])
    assert masked != text
    assert masked_bodies(redacting, [masked]) == [masked]


@pytest.mark.parametrize(
    "document", ['{"n":%s}', '{"n": %s , "m":1}', "[%s]", '{"n":[1,%s,2]}', '{"m":"{\\"n\\":%s}"}', "%s"]
)
def test_json_whose_bare_number_is_masked_is_still_json(engine: Engine, document: str) -> None:
    text = document % SECRETS["credit_card"]
    (masked,) = masked_bodies(engine, [text])
    assert SECRETS["credit_card"] not in masked
    if document != "%s":
        json.loads(masked)


# --- Nesting --------------------------------------------------------------------------------------------------------


def array(inner: AnyValue) -> AnyValue:
    value = AnyValue()
    value.array_value.values.extend([AnyValue(int_value=1), inner])
    return value


def mapping(inner: AnyValue) -> AnyValue:
    value = AnyValue()
    value.kvlist_value.values.add(key="before").value.bool_value = True
    value.kvlist_value.values.add(key="k").value.CopyFrom(inner)
    return value


@given(
    detector=st.sampled_from(TAKING_PART),
    layers=st.lists(st.sampled_from([array, mapping]), max_size=12),
    leaf=st.sampled_from(["string_value", "bytes_value"]),
    encoding=st.sampled_from([encoding for encoding in ENCODINGS if encoding.exact]),
)
@QUICK
def test_nesting_hides_nothing_and_the_output_is_otlp(
    redacting: Engine, detector: str, layers: list[Callable[[AnyValue], AnyValue]], leaf: str, encoding: Encoding
) -> None:
    def wrapped(text: str) -> ExportLogsServiceRequest:
        value = AnyValue(string_value=text) if leaf == "string_value" else AnyValue(bytes_value=text.encode())
        for layer in layers:
            value = layer(value)
        request = ExportLogsServiceRequest()
        record = request.resource_logs.add().scope_logs.add().log_records.add(body=value, severity_number=9)
        record.attributes.add(key="a").value.CopyFrom(value)
        record.attributes.add(key="plain").value.string_value = "stays"
        return request

    text = encoding.wrap(SECRETS[detector])
    (alone,) = masked_bodies(redacting, [text])
    masked = mask_logs(redacting, wrapped(text))
    assert alone != text
    assert masked == wrapped(alone)
    assert mask_logs(redacting, masked) == masked


# --- Time -----------------------------------------------------------------------------------------------------------

SIZE = 1 << 20
SLOWDOWN = 30
_HOSTILE = (
    "@", "a@", "a@b.", "%40", "%25", "%", "7", "4 ", "4111-", "{", "[", '{"', '"', "\\", '\\"', '{"a":',
    '{"password":', '"password":"', '{\\"password\\":[', "a=", "password=", "secret ", "secret=Aa1", "::", "0:",
    "a:b:", "1.", "10.0.0.", "+1 ", "(415) ", "eyJ", "eyJhbGciOiJI.", "Bearer ", "Basic ", "Digest ",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-----END ", "aws secret ", "awsaws", "AKIA", "A", "Aa0/",
    "xoxb-", "sig=", "?sv=&sig=%2B", "AccountKey=", "x://", "x://u:", "u:p@", "x%3A%2F%2Fu%3A", "DE89",
    "DE89 3704 ", "passport ", "\u00fc", "\U0001f642", "\x00", "\n", "&", "a&b=", "'",
)  # fmt: skip


@pytest.fixture(scope="module")
def plain_seconds(redacting: Engine) -> float:
    return masking_seconds(redacting, word_filler(SIZE))


def masking_seconds(engine: Engine, text: str) -> float:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = text
    payload = request.SerializeToString()
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        masked = engine.trial("acme", "logs", payload, ["mask"])
        best = min(best, time.perf_counter() - started)
    ExportLogsServiceRequest.FromString(masked)
    return best


@pytest.mark.alone
@pytest.mark.parametrize("unit", _HOSTILE, ids=repr)
def test_a_megabyte_of_anything_takes_not_much_longer_than_plain_words(
    redacting: Engine, plain_seconds: float, unit: str
) -> None:
    text = (unit * (SIZE // len(unit.encode()) + 1)).encode()[:SIZE].decode(errors="ignore")
    # Of words the census alone is read, at memory speed; the floor is what one real pass takes.
    bound = SLOWDOWN * max(plain_seconds, 0.002)
    assert masking_seconds(redacting, text) <= bound
