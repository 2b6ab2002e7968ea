"""Ranges from histograms agree with numpy's percentiles and with onnxruntime's own search."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector
from scipy.stats import entropy as relative_entropy

from edgedistill.quantize import ranges
from edgedistill.quantize.observers import BINS, Histogram
from edgedistill.quantize.ranges import RangeRule, entropy, percentile

RANDOM = np.random.default_rng(0)
MADE: dict[str, np.ndarray] = {
    "normal": RANDOM.normal(size=200_000),
    "outliers": np.concatenate([RANDOM.normal(size=100_000), RANDOM.normal(size=50) * 30]),
    "gelu": np.maximum(RANDOM.normal(size=100_000) * 2, -0.17),
    "negative": -np.abs(RANDOM.normal(size=50_000)),
}
SHAPES = {name: values.astype(np.float32) for name, values in MADE.items()}


def seen(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in np.array_split(values, 7):
        histogram.see(part)
    return histogram


def theirs(values: np.ndarray, percent: float) -> tuple[float, float]:
    """Return the percentile that onnxruntime finds where it sees everything at once."""
    collector = HistogramCollector("percentile", False, BINS, None, percent, None)
    collector.collect_value({"x": values})
    found = collector.compute_percentile()["x"]
    return float(found[0]), float(found[1])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("percent", [90.0, 99.9, 99.99, 100.0])
def test_a_percentile_is_numpys_to_a_bin(shape: str, percent: float) -> None:
    values, histogram = SHAPES[shape], seen(SHAPES[shape])
    low, high = percentile(histogram, percent)
    cut = (100 - percent) / 2
    expected = np.percentile(values, [cut, 100 - cut], method="inverted_cdf")
    assert np.abs(np.array([low, high]) - expected).max() <= 1.01 * histogram.width
    assert np.mean((values >= low) & (values <= high)) >= percent / 100 - 1e-6, "what is promised lies inside"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_percentile_is_onnxruntimes_to_two_bins(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    histogram = seen(SHAPES[shape])
    ours, other = percentile(histogram, 99.0), theirs(SHAPES[shape], 99.0)
    assert np.abs(np.subtract(ours, other)).max() <= 2 * histogram.width
    capsys.readouterr()  # it prints


def test_the_entropy_search_cuts_where_onnxruntimes_does(monkeypatch: pytest.MonkeyPatch) -> None:
    values, bins = SHAPES["normal"], 2048
    monkeypatch.setattr(ranges, "CODES", 128)  # as many as theirs makes of a range
    search = HistogramCollector("entropy", False, bins, 128, None, None)
    search.collect_value({"x": values})
    other = float(search.get_entropy_threshold(search.histogram_dict["x"], 128)[1])
    assert entropy(seen(values))[1] == pytest.approx(other, rel=0.15)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_divergence_is_zero_where_each_bin_has_its_code_and_infinite_where_a_code_is_missing(shape: str) -> None:
    counts = seen(SHAPES[shape]).counts
    few = np.add.reduceat(counts, np.arange(0, BINS, BINS // 128))
    assert ranges._divergence(few, 0, 128) == pytest.approx(0, abs=1e-12)
    assert ranges._divergence(counts, 0, BINS) > 1e-5
    apart = np.array([5, 0, 0, 7])
    assert ranges._divergence(apart, 0, 2) == np.inf


def test_outliers_are_cut_by_percentile_and_entropy_and_not_by_min_max() -> None:
    values = SHAPES["outliers"]
    widths = {}
    for rule in (RangeRule("min_max"), RangeRule("percentile", 99.9), RangeRule("entropy")):
        observer = rule.observer(1)
        observer.see(values[:, None])
        widths[rule.name] = rule.range_of(observer).scale * 255
    assert widths["min_max"] == pytest.approx(np.ptp(values))
    assert widths["percentile"] < 0.2 * widths["min_max"]
    assert widths["entropy"] < 0.6 * widths["min_max"]


@pytest.mark.parametrize("name", ["min_max", "percentile", "entropy"])
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_inputs_that_are_all_alike_have_a_range_that_reaches_them(name: str, value: float) -> None:
    rule = RangeRule(name, 99.0)
    observer = rule.observer(2)
    observer.see(np.full((10, 2), value, dtype=np.float32))
    found = rule.range_of(observer)
    code = np.clip(np.rint(value / found.scale) + found.zero_point, 0, 255)
    assert (code - found.zero_point) * found.scale == pytest.approx(value, rel=1e-5)


def test_the_divergence_is_that_of_the_inputs_from_their_codes_with_what_is_clipped_at_both_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranges, "CODES", 2)
    counts = np.array([3, 1, 2, 0, 4, 6, 5])
    inputs = np.array([3 + 1, 2, 0, 4, 6 + 5])  # bins 1 to 5, and beyond
    codes = np.array([3 / 2, 3 / 2, 0, 5, 5])  # 1 + 2 in the two bins of three that are not empty; 4 + 6 in two
    assert ranges._divergence(counts, 1, 6) == pytest.approx(float(relative_entropy(inputs, codes)))


def left_edges(histogram: Histogram, percent: float) -> tuple[float, float]:
    low, high = percentile(histogram, percent)
    return low + 3 * histogram.width, high


def one_sided(histogram: Histogram, percent: float) -> tuple[float, float]:
    return percentile(histogram, 100 - 2 * (100 - percent))


@pytest.mark.parametrize("broken", [left_edges, one_sided])
def test_a_wrong_percentile_is_seen(broken: Callable[..., Any]) -> None:
    histogram = seen(SHAPES["normal"])
    expected = np.percentile(SHAPES["normal"], [0.05, 99.95], method="inverted_cdf")
    assert np.abs(np.array(percentile(histogram, 99.9)) - expected).max() <= 1.01 * histogram.width
    assert np.abs(np.array(broken(histogram, 99.9)) - expected).max() > 1.01 * histogram.width
