"""What is decided about one layer: ranges that hold zero, half precision that fits, smoothing that changes nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgedistill.errors import QuantizationError
from edgedistill.models.int8_layers import DynamicInt8Linear, StaticInt8Linear
from edgedistill.models.smoothed import Smoothed
from edgedistill.quantize.affine import quantize_groups, quantize_rows, quantize_whole
from edgedistill.quantize.decisions import Decision, Float16, InputRange, Int4, Int8

ROWS, COLUMNS = 5, 32
WEIGHT = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
SMOOTHING = np.exp(0.4 * np.random.default_rng(1).normal(size=COLUMNS)).astype(np.float32)
ends = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def stored_as(values: np.ndarray, known: InputRange) -> np.ndarray:
    """Return what uint8 codes make of values: the affine map as the paper has it."""
    codes = np.clip(np.rint(values / known.scale) + known.zero_point, 0, 255)
    made: np.ndarray = (codes - known.zero_point) * known.scale
    return made


def faults(low: float, high: float, known: InputRange) -> list[str]:
    """Return what is wrong with the codes of activations between low and high."""
    found = []
    values = np.append(np.linspace(low, high, 101), 0.0)
    if not (0 < known.scale < np.inf) or known.zero_point not in range(256):
        found.append("a positive scale, and a zero point that is a code")
    if stored_as(np.zeros(1), known)[0] != 0:
        found.append("zero is exact")
    if np.abs(stored_as(values, known) - values).max() > known.scale * 0.5001:
        found.append("every value between the ends is in reach, to half a step")
    if known.scale > 1.0001 * (max(high, 0) - min(low, 0)) / 255 and known.scale != 1:
        found.append("no finer scale reaches both ends")
    return found


@given(ends, ends)
def test_a_range_holds_zero_and_reaches_both_ends(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert not faults(low, high, InputRange.of(low, high))


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0, 0, 0), (1, 4, 0), (-4, -1, 255), (0, 1e-45, 0), (-2, 1, 170), (-2.55, 0, 255)]
)
def test_a_range_on_one_side_of_zero_is_widened_to_hold_it(low: float, high: float, zero_point: int) -> None:
    known = InputRange.of(low, high)
    assert not faults(low, high, known)
    assert known.zero_point == zero_point


@pytest.mark.parametrize(
    "broken",
    [
        InputRange(4 / 255, 0),  # as if nothing were below zero
        InputRange(1 / 255, 64),  # a quarter of what is needed
        InputRange(40 / 255, 6),  # ten times too coarse
        InputRange(4 / 255, 260),
    ],
)
def test_a_range_that_misses_an_end_is_seen(broken: InputRange) -> None:
    assert not faults(-1, 3, InputRange.of(-1, 3))
    assert faults(-1, 3, broken)


@pytest.mark.parametrize("largest", [65505.0, 70000.0, np.inf, np.nan])
def test_a_weight_beyond_half_precision_is_refused_with_its_size(largest: float) -> None:
    weight = WEIGHT.copy()
    weight[1, 2] = -largest
    with pytest.raises(QuantizationError, match=f"a weight of {abs(largest):g} does not fit into float16.*65504"):
        Float16.of(weight)


def test_half_precision_holds_what_it_says() -> None:
    weight = WEIGHT.copy()
    weight[0, :3] = 65504, -65504, 0
    made = Float16.of(weight)
    assert made.weight()[0, :3].tolist() == [65504, -65504, 0]
    assert np.allclose(made.weight(), weight, rtol=2.0**-11, atol=0)
    assert made.half.dtype == np.float16


def linear() -> nn.Linear:
    layer = nn.Linear(COLUMNS, ROWS)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(WEIGHT))
    return layer


RANGE = InputRange.of(-3, 3)
DECISIONS: dict[str, Decision] = {
    "int8 per_channel symmetric": Int8(quantize_rows(WEIGHT, 127)),
    "int8 per_tensor symmetric": Int8(quantize_whole(WEIGHT, 63)),
    "uint8 per_channel symmetric": Int8(quantize_rows(WEIGHT, 127), unsigned=True),
    "int8 per_channel symmetric, calibrated input": Int8(quantize_rows(WEIGHT, 127), RANGE),
    "int8 per_channel symmetric, smoothed input": Int8(quantize_rows(WEIGHT * SMOOTHING, 127), None, SMOOTHING),
    "int8 per_tensor symmetric, smoothed input, calibrated input": Int8(
        quantize_whole(WEIGHT * SMOOTHING, 127), InputRange.of(-3, 3), SMOOTHING
    ),
    "int4 per_group 16 symmetric": Int4(quantize_groups(WEIGHT, 16, symmetric=True)),
    "int4 per_group 32 asymmetric": Int4(quantize_groups(WEIGHT, 32, symmetric=False)),
    "float16": Float16.of(WEIGHT),
}


@pytest.mark.parametrize("scheme", DECISIONS)
def test_a_decision_says_what_it_is(scheme: str) -> None:
    decision = DECISIONS[scheme]
    assert decision.scheme == scheme
    widths = {"int8": 8, "uint8": 8, "int4": 4, "float16": 16}
    assert decision.bits == (7 if decision.code_limit == 63 else widths[scheme.split()[0]])
    assert decision.max_error_in_steps(WEIGHT) <= 0.5001
    assert decision.weight().shape == WEIGHT.shape
    assert 0 < np.abs(decision.weight() - WEIGHT).max() < 0.35


@pytest.mark.parametrize("scheme", DECISIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_its_layer_multiplies_by_its_weight(scheme: str, bias: bool) -> None:
    decision, replaced = DECISIONS[scheme], linear()
    if not bias:
        replaced.bias = None
    values = torch.rand(7, 3, COLUMNS, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = nn.functional.linear(values, torch.from_numpy(decision.weight()), replaced.bias)
        given = decision.module(replaced)(values)
    assert given.shape == expected.shape
    inputs_are_rounded = "int8" in scheme
    assert (given - expected).abs().max() < (0.3 if inputs_are_rounded else 1e-5)


@pytest.mark.parametrize("scheme", sorted(DECISIONS.keys() - {"float16"}))  # which has no scale to count in
def test_the_error_of_another_weight_is_seen(scheme: str) -> None:
    assert DECISIONS[scheme].max_error_in_steps(WEIGHT + 1) > 0.51


def undone(factors: np.ndarray) -> Smoothed:
    """Return a float layer that reads smoothed inputs: its weight is multiplied, its input by these factors."""
    inner = linear()
    with torch.no_grad():
        inner.weight.mul_(torch.from_numpy(SMOOTHING))
    return Smoothed(torch.from_numpy(factors), inner)


def test_smoothing_changes_nothing_before_rounding() -> None:
    values = torch.randn(9, COLUMNS, generator=torch.Generator().manual_seed(0))
    plain, smoothed = linear(), undone(np.float32(1) / SMOOTHING)
    smoothed.layer.bias = plain.bias
    assert torch.allclose(smoothed(values), plain(values), atol=1e-5)
    for wrong in (SMOOTHING, np.ones_like(SMOOTHING)):
        broken = undone(wrong)
        broken.layer.bias = plain.bias
        assert not torch.allclose(broken(values), plain(values), atol=1e-2), "the check can fail"


def outliers() -> torch.Tensor:
    values = torch.randn(64, COLUMNS, generator=torch.Generator().manual_seed(0))
    values[:, 3] *= 100
    return values


def test_smoothing_an_outlier_makes_rounding_cost_less() -> None:
    values, layer = outliers(), linear()
    factors = np.ones(COLUMNS, np.float32)
    factors[3] = 10
    with torch.no_grad():
        expected = layer(values)
        plain = Int8(quantize_rows(WEIGHT, 127)).module(layer)(values)
        smoothed = Int8(quantize_rows(WEIGHT * factors, 127), None, factors).module(layer)(values)
    assert (smoothed - expected).abs().mean() < 0.5 * (plain - expected).abs().mean()


def test_unsigned_codes_are_the_same_numbers() -> None:
    signed, unsigned = (Int8(quantize_rows(WEIGHT, 127), unsigned=unsigned) for unsigned in (False, True))
    assert np.array_equal(signed.weight(), unsigned.weight())
    one, other = signed.module(linear()), unsigned.module(linear())
    one.bias = other.bias
    assert other.codes.dtype == torch.uint8
    assert torch.equal(other.codes.int() - 128, one.codes.int())
    values = torch.randn(9, COLUMNS, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one(values), other(values))
    other.codes = other.codes.to(torch.int8)  # read as if they were signed
    assert not torch.allclose(one(values), other(values), atol=1)


@pytest.mark.parametrize(
    ("decision", "kinds"),
    [
        (Int8(quantize_rows(WEIGHT, 127)), (DynamicInt8Linear,)),
        (Int8(quantize_rows(WEIGHT, 127), RANGE), (StaticInt8Linear,)),
        (Int8(quantize_rows(WEIGHT, 127), None, SMOOTHING), (Smoothed, DynamicInt8Linear)),
        (Int8(quantize_rows(WEIGHT, 127), RANGE, SMOOTHING), (Smoothed, StaticInt8Linear)),
    ],
)
def test_a_known_range_makes_a_static_layer_and_smoothing_wraps_it(
    decision: Decision, kinds: tuple[Callable[..., nn.Module], ...]
) -> None:
    assert tuple(type(part) for part in decision.module(linear()).modules()) == kinds


@pytest.mark.parametrize("decision", [Int8(quantize_rows(WEIGHT, 127)), Int8(quantize_whole(WEIGHT, 127))])
def test_a_table_gives_the_rows_of_its_weight(decision: Decision) -> None:
    table = decision.module(nn.Embedding(ROWS, COLUMNS))
    assert torch.equal(table(torch.arange(ROWS)), torch.from_numpy(decision.weight()))
    assert table(torch.tensor([[4, 0], [1, 1]])).shape == (2, 2, COLUMNS)


@pytest.mark.parametrize("scheme", [scheme for scheme in DECISIONS if "int4" in scheme or scheme == "float16"])
def test_a_table_stored_smaller_gives_the_rows_of_its_weight(scheme: str) -> None:
    table = DECISIONS[scheme].module(nn.Embedding(ROWS, COLUMNS))
    ids = torch.tensor([[4, 0, 2], [1, 1, 3]])
    assert torch.equal(table(ids), torch.from_numpy(DECISIONS[scheme].weight())[ids])
