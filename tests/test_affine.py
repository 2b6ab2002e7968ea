"""Rounding to 8-bit codes: never further than half a step, whatever the weights; ways to do it wrong are seen."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgedistill.errors import QuantizationError
from edgedistill.quantize.affine import RowQuantized, quantize_rows, quantize_whole

LARGEST = float(np.finfo(np.float32).max) / 2
SMALLEST = 2.0**-100
sizes = st.floats(min_value=SMALLEST, max_value=LARGEST, width=32)
numbers = st.one_of(st.just(0.0), sizes, sizes.map(lambda size: -size))
matrices = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=numbers)
limits = st.sampled_from([1, 7, 63, 127])
HALF = 0.5 + 1e-4  # float32 divides and multiplies with rounding of its own


def faults(weight: np.ndarray, limit: int, made: RowQuantized) -> list[str]:
    """Return what is wrong with a quantized matrix."""
    found = []
    exact = made.codes.astype(np.float64) * made.scales.astype(np.float64)[:, None]
    steps = np.abs(exact - weight.astype(np.float64)) / made.scales.astype(np.float64)[:, None]
    if made.codes.dtype != np.int8 or made.scales.dtype != np.float32 or made.codes.shape != weight.shape:
        found.append("types and shapes are those that are stored")
    if made.scales.shape != (len(weight),) or not (made.scales > 0).all() or not np.isfinite(made.scales).all():
        found.append("one positive scale per row")
    if np.abs(made.codes.astype(int)).max() > limit:
        found.append("codes stay within the limit")
    if not steps.max() <= HALF:
        found.append("no weight is further than half a step from its code")
    if made.codes[weight == 0].any():
        found.append("zero stays zero")
    if not (np.sign(made.codes) * np.sign(weight) >= 0).all():
        found.append("no weight changes its sign")
    largest = np.abs(made.codes.astype(int)).max(axis=1)
    if (largest != np.where(np.abs(weight).max(axis=1) > 0, limit, 0)).any():
        found.append("a row uses its whole range")
    return found


@given(matrices, limits)
def test_codes_are_within_half_a_step(weight: np.ndarray, limit: int) -> None:
    made = quantize_rows(weight, limit)
    assert not faults(weight, limit, made)
    assert made.limit == limit
    assert made.max_error_in_steps(weight) <= HALF


@given(matrices, limits)
def test_quantizing_again_changes_nothing(weight: np.ndarray, limit: int) -> None:
    once = quantize_rows(weight, limit)
    again = quantize_rows(once.dequantize(), limit)
    assert np.array_equal(again.codes, once.codes)
    assert np.allclose(again.scales, once.scales, rtol=1e-6, atol=0)


@given(matrices, limits)
def test_rows_do_not_see_each_other(weight: np.ndarray, limit: int) -> None:
    whole, alone = quantize_rows(weight, limit), quantize_rows(weight[:1], limit)
    assert np.array_equal(whole.codes[:1], alone.codes)
    assert whole.scales[0] == alone.scales[0]


@given(matrices, limits)
def test_one_scale_for_the_whole_matrix_keeps_the_same_bound(weight: np.ndarray, limit: int) -> None:
    made = quantize_whole(weight, limit)
    in_one_row = quantize_rows(weight.reshape(1, -1), limit)
    assert not faults(weight.reshape(1, -1), limit, RowQuantized(made.codes.reshape(1, -1), made.scales, limit))
    assert made.codes.shape == weight.shape
    assert made.max_error_in_steps(weight) <= HALF
    assert np.array_equal(made.codes.ravel(), in_one_row.codes[0])
    assert made.scales == in_one_row.scales


def test_one_large_row_costs_the_others_their_codes_where_a_scale_is_shared() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    weight[0] *= 1000
    whole, rows = quantize_whole(weight, 127), quantize_rows(weight, 127)
    assert np.abs(whole.dequantize() - weight)[1:].max() > 100 * np.abs(rows.dequantize() - weight)[1:].max()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38, 1e-30, 1.0, 1e30, 3e38])
def test_rows_of_any_size_stay_finite_and_close(size: float) -> None:
    weight = np.array([[size, -size / 3, 0.0]], dtype=np.float32)
    made = quantize_rows(weight, 127)
    assert np.isfinite(made.dequantize()).all()
    assert np.abs(made.dequantize() - weight).max() <= max(HALF * size / 127, np.finfo(np.float32).tiny)


def test_a_row_of_zeros_is_exact_and_a_row_too_small_to_scale_becomes_one() -> None:
    made = quantize_rows(np.array([[0, 0], [1e-44, -1e-44], [1, 2]], dtype=np.float32), 127)
    assert not made.dequantize()[0].any()
    assert not made.dequantize()[1].any()
    assert made.scales[:2].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(wrong: float) -> None:
    weight = np.ones((3, 4), dtype=np.float32)
    weight[1, 2] = wrong
    for quantize in (quantize_rows, quantize_whole):
        with pytest.raises(QuantizationError, match="NaN or an infinity"):
            quantize(weight, 127)


@pytest.mark.parametrize("limit", [-1, 0, 128, 255])
def test_a_limit_that_is_no_signed_byte_is_refused(limit: int) -> None:
    with pytest.raises(QuantizationError, match=f"code limit of {limit} does not fit"):
        quantize_rows(np.ones((2, 2), dtype=np.float32), limit)


def scale_skipped(weight: np.ndarray, limit: int) -> RowQuantized:
    codes = np.clip(np.rint(weight), -limit, limit).astype(np.int8)
    return RowQuantized(codes, np.ones(len(weight), np.float32), limit)


def wrong_axis(weight: np.ndarray, limit: int) -> RowQuantized:
    scales = np.abs(weight).max(axis=0) / np.float32(limit)
    return RowQuantized(np.clip(np.rint(weight / scales), -limit, limit).astype(np.int8), scales, limit)


def truncated(weight: np.ndarray, limit: int) -> RowQuantized:
    right = quantize_rows(weight, limit)
    return RowQuantized(np.trunc(weight / right.scales[:, None]).astype(np.int8), right.scales, limit)


def one_bit_too_many(weight: np.ndarray, limit: int) -> RowQuantized:
    return quantize_rows(weight, 2 * limit + 1)


@pytest.mark.parametrize("broken", [scale_skipped, wrong_axis, truncated, one_bit_too_many])
def test_the_bound_rejects_a_broken_twin(broken: Callable[[np.ndarray, int], RowQuantized]) -> None:
    weight = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    assert not faults(weight, 63, quantize_rows(weight, 63))
    assert faults(weight, 63, broken(weight, 63))
