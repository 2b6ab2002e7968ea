"""Codes of 4 bits in groups: never further than half a step, zero exact, groups apart; ways to do it wrong are seen."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedistill.errors import QuantizationError
from edgedistill.quantize.affine import GroupQuantized, packed, quantize_groups

GROUP = 16
LARGEST = float(np.finfo(np.float32).max) / 2
numbers = st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=False)
shapes = st.sampled_from([(1, GROUP), (2, GROUP), (2, 2 * GROUP)])
matrices = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=numbers))
symmetries = st.booleans()
HALF = 0.5 + 1e-4  # float32 divides and multiplies with rounding of its own


def faults(weight: np.ndarray, made: GroupQuantized) -> list[str]:
    """Return what is wrong with a matrix that was quantized in groups of GROUP columns."""
    found = []
    rows, groups = len(weight), weight.shape[1] // GROUP
    if made.codes.shape != weight.shape or made.scales.shape != (rows, groups) or made.group_size != GROUP:
        return ["one scale for a group of columns"]
    if {made.codes.dtype, made.zero_points.dtype} != {np.dtype(np.uint8)} or made.scales.dtype != np.float32:
        found.append("types are those that are stored")
    if not (made.scales > 0).all() or not np.isfinite(made.scales).all():
        found.append("scales are positive and finite")
    if max(made.codes.max(), made.zero_points.max()) > 15:
        found.append("codes and zero points have four bits")
    if made.symmetric and ((made.zero_points != 8).any() or (made.codes < 1).any()):
        found.append("symmetric codes lie in -7..7 around 8")
    zero_points = np.repeat(made.zero_points, GROUP, axis=1).astype(int)
    if (made.codes.astype(int) != zero_points)[weight == 0].any():
        found.append("zero stays zero")
    steps = np.repeat(made.scales, GROUP, axis=1).astype(np.float64)
    exact = (made.codes.astype(int) - zero_points) * steps
    if not (np.abs(exact - weight) / steps).max() <= HALF:
        found.append("no weight is further than half a step from its code")
    return found


@given(matrices, symmetries)
def test_codes_are_within_half_a_step(weight: np.ndarray, symmetric: bool) -> None:
    made = quantize_groups(weight, GROUP, symmetric=symmetric)
    assert not faults(weight, made)
    assert made.symmetric is symmetric
    assert made.max_error_in_steps(weight) <= HALF
    assert np.abs(made.dequantize() - weight).max() <= HALF * made.scales.max()


@given(matrices, symmetries)
def test_quantizing_again_changes_nothing(weight: np.ndarray, symmetric: bool) -> None:
    once = quantize_groups(weight, GROUP, symmetric=symmetric).dequantize()
    again = quantize_groups(once, GROUP, symmetric=symmetric).dequantize()
    sides = [(np.sign(matrix.reshape(-1, GROUP))[:, :, None] == [-1, 1]).any(axis=1) for matrix in (weight, once)]
    kept = (sides[0] == sides[1]).all(axis=1)  # where one end became 0, its codes serve the other end now
    assert np.allclose(again.reshape(-1, GROUP)[kept], once.reshape(-1, GROUP)[kept], rtol=1e-5, atol=0)


@given(matrices, symmetries)
def test_groups_do_not_see_each_other(weight: np.ndarray, symmetric: bool) -> None:
    whole = quantize_groups(weight, GROUP, symmetric=symmetric)
    alone = quantize_groups(weight[-1:, -GROUP:], GROUP, symmetric=symmetric)
    assert np.array_equal(whole.codes[-1:, -GROUP:], alone.codes)
    assert whole.scales[-1, -1] == alone.scales[0, 0]
    assert whole.zero_points[-1, -1] == alone.zero_points[0, 0]


@given(arrays(np.float32, (1, GROUP), elements=st.floats(-8, 8, width=32)))
def test_no_other_zero_point_has_a_finer_scale(weight: np.ndarray) -> None:
    assume(np.abs(weight).max() > 1e-3)
    ends = (max(-float(weight.min()), 0.0), max(float(weight.max()), 0.0))
    finest = np.inf
    for zero_point in range(16):
        sides = zip(ends, (zero_point, 15 - zero_point), strict=True)
        needed = [end / steps if steps else np.inf for end, steps in sides if end]
        finest = min(finest, max(needed))
    assert quantize_groups(weight, GROUP, symmetric=False).scales[0, 0] == pytest.approx(finest, rel=1e-5)


def test_a_group_on_one_side_of_zero_uses_every_code() -> None:
    weight = np.linspace(0, 1.5, GROUP, dtype=np.float32)[None]
    assert quantize_groups(weight, GROUP, symmetric=False).codes.tolist() == [list(range(16))]
    assert quantize_groups(-weight, GROUP, symmetric=False).codes.tolist() == [list(range(15, -1, -1))]
    assert quantize_groups(weight, GROUP, symmetric=True).scales[0, 0] > 1.5 / 15, "symmetric codes are coarser there"


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_group_of_zeros_is_exact(symmetric: bool) -> None:
    weight = np.zeros((2, 2 * GROUP), np.float32)
    weight[1, GROUP:] = 3
    made = quantize_groups(weight, GROUP, symmetric=symmetric)
    assert np.array_equal(made.dequantize() == 0, weight == 0)
    assert made.scales[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("columns", "size", "said"),
    [(48, 32, "these do: 16"), (320, 256, "these do: 16, 32, 64"), (312, 16, "no size does; give the layer another")],
)
def test_groups_that_do_not_fill_the_columns_are_refused(columns: int, size: int, said: str) -> None:
    with pytest.raises(QuantizationError, match=f"group_size {size} does not divide {columns} columns; {said}"):
        quantize_groups(np.ones((2, columns), np.float32), size, symmetric=True)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(wrong: float, symmetric: bool) -> None:
    weight = np.ones((2, GROUP), np.float32)
    weight[1, 3] = wrong
    with pytest.raises(QuantizationError, match="NaN or an infinity"):
        quantize_groups(weight, GROUP, symmetric=symmetric)


def one_scale_for_all(weight: np.ndarray) -> GroupQuantized:
    made = quantize_groups(weight, GROUP, symmetric=True)
    return replace(made, scales=np.full_like(made.scales, made.scales.min()))


def codes_beyond_four_bits(weight: np.ndarray) -> GroupQuantized:
    made = quantize_groups(weight, GROUP, symmetric=False)
    return replace(made, codes=made.codes + np.uint8(1), zero_points=made.zero_points + np.uint8(1))


def zero_between_two_codes(weight: np.ndarray) -> GroupQuantized:
    """Spread the codes over the range as it is, and round the zero point to the nearest of them afterwards."""
    groups = weight.reshape(len(weight), -1, GROUP)
    low, scales = groups.min(axis=2), (groups.max(axis=2) - groups.min(axis=2)) / np.float32(15)
    codes = np.rint((groups - low[..., None]) / scales[..., None]).astype(np.uint8)
    zero_points = np.clip(np.rint(-low / scales), 0, 15).astype(np.uint8)
    return GroupQuantized(codes.reshape(weight.shape), scales, zero_points, False)


def truncated(weight: np.ndarray) -> GroupQuantized:
    made = quantize_groups(weight, GROUP, symmetric=True)
    return replace(made, codes=(np.trunc(weight / np.repeat(made.scales, GROUP, axis=1)) + 8).astype(np.uint8))


def groups_of_twice_the_size(weight: np.ndarray) -> GroupQuantized:
    return quantize_groups(weight, 2 * GROUP, symmetric=False)


@pytest.mark.parametrize(
    "broken",
    [one_scale_for_all, codes_beyond_four_bits, zero_between_two_codes, truncated, groups_of_twice_the_size],
)
def test_the_bound_rejects_a_broken_twin(broken: Callable[[np.ndarray], GroupQuantized]) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 4 * GROUP)).astype(np.float32)
    assert not faults(weight, quantize_groups(weight, GROUP, symmetric=False))
    assert not faults(weight, quantize_groups(weight, GROUP, symmetric=True))
    assert faults(weight, broken(weight))


def unpacked(stored: np.ndarray, count: int) -> list[int]:
    """Read `count` codes of a row of bytes, digit by digit of their hexadecimal form."""
    pairs = stored.tobytes().hex()
    digits = [pairs[place ^ 1] for place in range(len(pairs))]  # the low half of a byte comes first
    return [int(digit, 16) for digit in digits[:count]]


@given(st.integers(1, 3), st.integers(1, 9), st.integers(0, 2**31))
def test_packed_codes_are_read_again(rows: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 16, size=(rows, count)).astype(np.uint8)
    stored = packed(codes)
    assert stored.shape == (rows, (count + 1) // 2)
    assert stored.dtype == np.uint8
    assert [unpacked(row, count) for row in stored] == codes.tolist()


def test_an_odd_count_is_filled_up_with_zero_and_axes_before_the_last_are_kept() -> None:
    assert packed(np.array([1, 2, 3], np.uint8)).tolist() == [0x21, 0x03]
    assert packed(np.zeros((2, 3, 5), np.uint8)).shape == (2, 3, 3)


def test_the_independent_reading_rejects_bytes_that_are_filled_the_other_way() -> None:
    codes = np.array([[1, 2, 3, 4]], np.uint8)
    turned = codes[:, 1::2] | (codes[:, 0::2] << 4)
    assert unpacked(packed(codes)[0], 4) == [1, 2, 3, 4]
    assert unpacked(turned[0], 4) != [1, 2, 3, 4]
