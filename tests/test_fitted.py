"""Scales that are searched for: never worse than those of the whole range, by the error that counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.quantize import fitted
from edgedistill.quantize.affine import GroupQuantized, quantize_groups
from edgedistill.quantize.fitted import fitted_groups


def errors(weight: np.ndarray, groups: GroupQuantized, importance: np.ndarray) -> np.ndarray:
    """Return the weighted squared error of each group."""
    lost = importance * np.square(groups.dequantize().astype(np.float64) - weight)
    return lost.reshape(len(weight), -1, groups.group_size).sum(axis=2)


@given(
    seed=st.integers(0, 10**6), symmetric=st.booleans(), bits=st.sampled_from([4, 8]), size=st.sampled_from([16, 32])
)
@settings(max_examples=40, deadline=None)
def test_no_group_loses_more_than_by_its_whole_range(seed: int, symmetric: bool, bits: int, size: int) -> None:
    random = np.random.default_rng(seed)
    weight = (random.standard_t(3, size=(5, 64)) * 10.0 ** random.integers(-4, 3)).astype(np.float32)
    weight[1], weight[2] = 0, 0.5
    importance = random.lognormal(sigma=2, size=64).astype(np.float32)
    whole = quantize_groups(weight, size, symmetric=symmetric, bits=bits)
    found = fitted_groups(weight, size, importance, symmetric=symmetric, bits=bits)
    assert (errors(weight, found, importance) <= errors(weight, whole, importance) * (1 + 1e-5)).all()
    assert (found.scales > 0).all()
    assert found.scales.dtype == np.float32
    assert found.codes.max() < 1 << bits
    assert found.codes.dtype == found.zero_points.dtype == np.uint8
    assert (found.zero_points == 1 << (bits - 1)).all() or not symmetric
    assert (found.dequantize()[1] == 0).all()


def test_importance_decides_which_weights_are_kept() -> None:
    weight = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    loud = np.where(np.arange(64) % 8 == 3, 100.0, 1.0).astype(np.float32)
    lost = [
        float(errors(weight, fitted_groups(weight, 32, importance, symmetric=False, bits=4), loud).sum())
        for importance in (np.ones(64, np.float32), loud)
    ]
    assert lost[1] < 0.8 * lost[0]


def test_many_rows_are_as_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).normal(size=(9, 64)).astype(np.float32)
    whole = fitted_groups(weight, 32, np.ones(64, np.float32), symmetric=False, bits=4)
    monkeypatch.setattr(fitted, "WEIGHTS_AT_ONCE", 128)
    parts = fitted_groups(weight, 32, np.ones(64, np.float32), symmetric=False, bits=4)
    assert np.array_equal(whole.codes, parts.codes)
    assert np.array_equal(whole.scales, parts.scales)
