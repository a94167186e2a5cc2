"""Sizes and durations as people write them."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.quantities import parse_bytes, parse_seconds

BYTES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SECONDS = {"": 1, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
SPACE = st.sampled_from(["", " ", "  "])
SPELLING = st.sampled_from([str.lower, str.upper, str])


@given(st.integers(0, 1 << 20), st.sampled_from(sorted(BYTES)), SPACE, SPELLING)
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, space: str, spelt: Any) -> None:
    assert parse_bytes(f"{space}{number}{space}{spelt(unit)}{space}") == number * BYTES[unit]


@given(st.integers(0, 1 << 20), st.sampled_from(sorted(SECONDS)), SPACE, SPELLING)
def test_a_duration_is_its_number_times_its_unit(number: int, unit: str, space: str, spelt: Any) -> None:
    assert parse_seconds(f"{space}{number}{space}{spelt(unit)}{space}") == pytest.approx(number * SECONDS[unit])


@given(st.integers(0, 1 << 40))
def test_a_plain_number_is_bytes_or_seconds(number: int) -> None:
    assert parse_bytes(number) == parse_bytes(str(number)) == number
    assert parse_seconds(number) == parse_seconds(str(number)) == number


@given(st.decimals(0, 1000, places=3))
def test_a_part_of_a_unit_is_rounded_to_a_byte(number: Any) -> None:
    assert abs(parse_bytes(f"{number}MiB") - float(number) * (1 << 20)) <= 0.5


ANYTHING = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary(), st.lists(st.integers())
)


@given(ANYTHING)
def test_anything_is_a_finite_quantity_or_a_value_error(value: Any) -> None:
    for parse in (parse_bytes, parse_seconds):
        with contextlib.suppress(ValueError):
            assert 0 <= parse(value) < math.inf


@pytest.mark.parametrize("value", ["", "MiB", "1 XB", "-1", "1e3", "1,5 s", "1.", ".5", "1MiB2", "٣", True, "9" * 400])
def test_what_is_no_quantity_is_refused(value: Any) -> None:
    for parse in (parse_bytes, parse_seconds):
        with pytest.raises(ValueError, match=r"^write a (value|size) like (64MiB|200ms)"):
            parse(value)
