"""What is kept of a layer's inputs: of one size for any number of them, and the same in any order and any batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnxruntime.quantization.calibrate import HistogramCollector

from edgedistill.quantize.observers import BINS, Channels, Hessian, Histogram

COLUMNS = 4
sizes = st.floats(-(2.0**60), 2.0**60, width=32)
inputs = arrays(np.float32, st.tuples(st.integers(1, 30), st.just(COLUMNS)), elements=sizes)


def shown(observer: Channels | Histogram, batches: list[np.ndarray]) -> list[np.ndarray]:
    """Return the arrays and numbers that an observer keeps after some batches."""
    for batch in batches:
        observer.see(batch)
    return [np.asarray(kept) for kept in vars(observer).values()]


def alike(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


@settings(max_examples=20)
@given(inputs, st.permutations(range(30)), st.integers(1, 30))
def test_neither_order_nor_batches_change_what_is_kept(values: np.ndarray, order: list[int], size: int) -> None:
    mixed = values[[row for row in order if row < len(values)]]
    batches = [mixed[start : start + size] for start in range(0, len(mixed), size)]
    assert alike(shown(Histogram(), [values]), shown(Histogram(), batches))
    (low, high, squares, count), others = shown(Channels(COLUMNS), [values]), shown(Channels(COLUMNS), batches)
    assert alike([low, high, count], [others[0], others[1], others[3]])
    assert np.allclose(squares, others[2], rtol=1e-5, atol=0)


def test_onnxruntimes_collector_is_not_so() -> None:
    small, large = np.linspace(-1, 1, 100, dtype=np.float32), np.linspace(-10, 10, 100, dtype=np.float32)

    def collected(*batches: np.ndarray) -> int:
        collector = HistogramCollector("percentile", False, BINS, None, 99.9, None)
        for batch in batches:
            collector.collect_value({"x": batch})
        return len(collector.histogram_dict["x"][0])

    assert collected(small, large) > collected(large, small), "its bins depend on what comes first, and grow in number"


def test_what_is_kept_does_not_grow_with_the_rows() -> None:
    random = np.random.default_rng(0)
    for kind in (lambda: Channels(COLUMNS), Histogram, lambda: Hessian(COLUMNS)):
        observer, counted = kind(), []
        for _ in range(3):
            for _ in range(20):
                observer.see(random.standard_cauchy((50, COLUMNS)).astype(np.float32))
            counted.append([np.asarray(kept).size for kept in vars(observer).values()])
        assert counted[0] == counted[1] == counted[2]


@settings(max_examples=20)
@given(inputs)
def test_the_counts_are_those_of_a_histogram_over_the_same_edges(values: np.ndarray) -> None:
    values[np.abs(values) < 2.0**-40] = 0  # beside 0 the smallest numbers of all may lie in either bin
    seen = Histogram()
    seen.see(values)
    assert np.array_equal(seen.counts, np.histogram(values.astype(np.float64), seen.edges)[0])
    assert (seen.low, seen.high) == (min(values.min(), 0), max(values.max(), 0))


def test_a_bin_that_was_widened_never_reaches_across_zero() -> None:
    seen = Histogram()
    seen.see(np.array([[-1e-6, 1e-6, -0.75, 0.75]], dtype=np.float32))
    seen.see(np.array([[1000.0]], dtype=np.float32))
    assert seen.counts[: BINS // 2].sum() == 2
    assert seen.counts[BINS // 2 :].sum() == 3
    assert seen.edges[BINS // 2] == 0
    assert seen.edges[-1] >= 1000


def test_channels_are_told_apart() -> None:
    seen = Channels(3)
    seen.see(np.array([[1, -2, 3], [2, -1, -4]], dtype=np.float32))
    assert seen.low.tolist() == [0, -2, -4]
    assert seen.high.tolist() == [2, 0, 3]
    assert seen.magnitudes.tolist() == [2, 2, 4]
    assert seen.mean_squares.tolist() == [2.5, 2.5, 12.5]


def test_the_hessian_is_the_sum_of_outer_products() -> None:
    values = np.random.default_rng(0).normal(size=(40, COLUMNS)).astype(np.float32)
    seen = Hessian(COLUMNS)
    seen.see(values[:7])
    seen.see(values[7:])
    assert seen.sums.dtype == np.float64
    assert np.allclose(seen.sums, sum(np.outer(row, row) for row in values.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Histogram, lambda: Channels(COLUMNS)])
def test_zeros_alone_leave_no_range(kind: type) -> None:
    seen = kind()
    seen.see(np.zeros((5, COLUMNS), dtype=np.float32))
    assert np.max(seen.high) == np.min(seen.low) == 0
