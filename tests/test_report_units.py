import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_benchmark import metric

from edgedistill.report.units import (
    MINUS,
    compared,
    count,
    duration,
    interval,
    listed,
    points,
    rounded_count,
    share,
    significant,
    size,
    tiny,
)
from edgedistill.values import Metric

UNITS = {"µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def read(text: str) -> float:
    """Return what a person reads, in SI."""
    number, _, unit = text.replace(",", "").replace(MINUS, "-").partition(" ")
    return float(number) * UNITS[unit] if unit else float(number)


@given(st.floats(1e-12, 1e12))
def test_three_digits_are_never_off_by_more_than_half_of_the_last(value: float) -> None:
    text = significant(value)
    assert read(text) == pytest.approx(value, rel=5.01e-3)
    assert "e" not in text


@given(st.floats(1e-7, 1e6))
def test_a_duration_reads_back(seconds: float) -> None:
    assert read(duration(seconds)) == pytest.approx(seconds, rel=5.01e-3)


@given(st.integers(1, 10**13))
def test_a_size_reads_back(size_bytes: int) -> None:
    assert read(size(size_bytes)) == pytest.approx(size_bytes, rel=5.01e-3)


def test_mb_are_powers_of_ten() -> None:
    assert size(8_010_000) == "8.01 MB"


@pytest.mark.parametrize(("value", "text"), [(9.996, "10.0"), (0, "0"), (85.26, "85.3"), (11391, "11,400")])
def test_rounding_up_does_not_add_a_digit(value: float, text: str) -> None:
    assert significant(value) == text


@given(st.floats(-1, 1), st.floats(0, 0.5))
def test_point_and_interval_show_the_same_digits(value: float, half: float) -> None:
    shown = metric(value, half)
    texts = (share(shown).split()[0], points(shown), *interval(shown).split(" to "))
    assert len({len(text.partition(".")[2]) for text in texts}) == 1


@pytest.mark.parametrize(("half", "text"), [(0.0002, "80.16 %"), (0.012, "80.2 %"), (0.06, "80 %"), (0.0, "80.2 %")])
def test_a_share_has_no_more_digits_than_its_interval_carries(half: float, text: str) -> None:
    assert share(metric(0.8016, half)) == text


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (-0.061, 0.01, f"{MINUS}6.1"),
        (0.004, 0.01, "+0.4"),
        (-0.0001, 0.01, "0.0"),
        (0.0, 0.0, "0.0"),
        (0.3, 0.2, "+30"),
    ],
)
def test_points_carry_a_sign_unless_they_are_zero(value: float, half: float, text: str) -> None:
    assert points(Metric(value=value, low=value - half, high=value + half, n=9)) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(11.42, "11.4× smaller"), (0.5, "2.00× larger"), (1.001, "the same"), (0.9996, "the same")]
)
def test_a_factor_is_told_with_its_direction(ratio: float, text: str) -> None:
    assert compared(ratio, "smaller", "larger") == text


@pytest.mark.parametrize(("number", "text"), [(514, "514"), (30_522, "30.5 thousand"), (7_814_000, "7.81 million")])
def test_large_counts_are_rounded(number: int, text: str) -> None:
    assert rounded_count(number) == text


def test_tiny_numbers_keep_their_magnitude() -> None:
    assert tiny(2.13e-6) == "2.1e-6"
    assert tiny(0.0) == "0"


def test_a_long_list_says_how_much_it_leaves_out() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcde")) == "a, b, c and 2 more"
    assert re.fullmatch(r"[\d,]+", count(1234567))
