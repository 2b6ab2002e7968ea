"""Smoothing changes no product, moves outliers into weights, and is left out where it does no good."""

from functools import partial

import numpy as np
import pytest

from edgedistill.quantize.affine import quantize_rows, quantize_whole
from edgedistill.quantize.observers import Channels
from edgedistill.quantize.smoothing import LEAST_GAIN, Smoothing

RANDOM = np.random.default_rng(0)
ROWS, COLUMNS = 24, 32
NEAREST = {"per_channel": partial(quantize_rows, limit=127), "per_tensor": partial(quantize_whole, limit=127)}


def layer(outliers: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, two of whose channels have outliers, and a weight."""
    values = RANDOM.normal(size=(500, COLUMNS)).astype(np.float32)
    values[:, [3, 17]] *= outliers
    return values, (RANDOM.normal(size=(ROWS, COLUMNS)) * 0.1).astype(np.float32)


def channels(values: np.ndarray) -> Channels:
    seen = Channels(values.shape[1])
    seen.see(values)
    return seen


def smoothing(alpha: float = 0.5, granularity: str = "per_channel") -> Smoothing:
    return Smoothing(alpha, NEAREST[granularity])


def real_error(values: np.ndarray, weight: np.ndarray, factors: np.ndarray, granularity: str) -> float:
    """Return how far outputs are from float ones, with rounded weights, and inputs rounded over their whole range."""
    smoothed, rows = values / factors, NEAREST[granularity](weight * factors)
    step = np.ptp(smoothed) / 255
    difference = np.rint(smoothed / step) * step @ rows.dequantize().T - values @ weight.T
    return float(np.linalg.norm(difference) / np.sqrt(len(values)))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_the_factors_are_equation_four_but_for_a_common_one(alpha: float) -> None:
    values, weight = layer()
    found = smoothing(alpha).proposed(np.abs(values).max(axis=0), [weight])
    ratio = found / (np.abs(values).max(axis=0) ** alpha / np.abs(weight).max(axis=0) ** (1 - alpha))
    assert ratio == pytest.approx(np.full(COLUMNS, ratio[0]), rel=1e-5)
    assert np.log(found).mean() == pytest.approx(0, abs=1e-5)


def test_the_product_stays_and_rounding_costs_less() -> None:
    values, weight = layer()
    factors = smoothing().factors(channels(values), [weight])
    assert factors is not None
    assert (values / factors) @ (weight * factors).T == pytest.approx(values @ weight.T, abs=1e-4)
    before = real_error(values, weight, np.ones(COLUMNS, np.float32), "per_channel")
    assert real_error(values, weight, factors, "per_channel") < 0.5 * before
    assert real_error(values, weight, 1 / factors, "per_channel") > before, "the wrong way round is seen"


@pytest.mark.parametrize("granularity", NEAREST)
@pytest.mark.parametrize("outliers", [1.0, 5.0, 40.0])
@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
def test_the_error_that_is_foretold_is_the_one_that_comes(granularity: str, outliers: float, alpha: float) -> None:
    values, weight = layer(outliers)
    inputs, chosen = channels(values), smoothing(alpha, granularity)
    for factors in (chosen.proposed(inputs.magnitudes, [weight]), np.ones(COLUMNS, np.float32)):
        foretold = chosen.output_error(inputs, [weight], factors)
        assert foretold == pytest.approx(real_error(values, weight, factors, granularity), rel=0.15)


def test_a_layer_is_smoothed_exactly_where_that_gains_enough() -> None:
    decisions = set()
    for outliers in (1.0, 1.5, 2.0, 3.0, 5.0, 40.0):
        for granularity in NEAREST:
            values, weight = layer(outliers)
            weight[:, [3, 17]] *= 3  # large inputs meet large weights
            inputs, chosen = channels(values), smoothing(granularity=granularity)
            factors = chosen.proposed(inputs.magnitudes, [weight])
            before = chosen.output_error(inputs, [weight], np.ones(COLUMNS, np.float32))
            gain = 1 - chosen.output_error(inputs, [weight], factors) / before
            decided = chosen.factors(inputs, [weight])
            assert (decided is not None) == (gain >= LEAST_GAIN)
            decisions.add(decided is not None)
    assert decisions == {True, False}


def test_channels_that_are_alike_are_not_smoothed() -> None:
    values, weight = layer(outliers=1.0)
    assert smoothing().factors(channels(values * 1e4), [weight * 1e-4]) is None, "nor is a common factor a reason"


def test_layers_that_read_one_input_share_the_larger_of_their_weights() -> None:
    values, weight = layer()
    other = weight[::-1] * RANDOM.uniform(0.1, 3, size=COLUMNS).astype(np.float32)
    inputs, chosen = channels(values), smoothing()
    shared = chosen.proposed(inputs.magnitudes, [weight, other])
    assert np.array_equal(shared, chosen.proposed(inputs.magnitudes, [np.concatenate([weight, other])]))
    assert not np.allclose(shared, chosen.proposed(inputs.magnitudes, [weight]))
    together = chosen.output_error(inputs, [weight, other], shared)
    apart = [chosen.output_error(inputs, [each], shared) for each in (weight, other)]
    assert together == pytest.approx(np.hypot(*apart))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_channel_without_inputs_or_weights_stays_as_it_is(alpha: float) -> None:
    values, weight = layer()
    values[:, 5], weight[:, 6] = 0, 0
    factors = smoothing(alpha).proposed(np.abs(values).max(axis=0), [weight])
    assert factors[5] == factors[6] == 1
    assert (factors > 0).all()
    assert np.isfinite(factors).all()
    assert smoothing(alpha).factors(channels(np.zeros_like(values)), [weight]) is None
