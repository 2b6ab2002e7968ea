"""From the inputs that a layer was seen to read, to the range that its uint8 codes will span.

A narrower range has finer steps, and clips what lies outside: `percentile` gives up a fixed share of the inputs,
`entropy` searches for the range whose codes lose the least information, `min_max` clips nothing that was seen.

Source: Wu et al. 2020, "Integer Quantization for Deep Learning Inference", arXiv:2004.09602, section 3.4 (max, entropy
and percentile calibration).
"""

from dataclasses import dataclass

import numpy as np

from edgedistill.quantize.decisions import InputRange
from edgedistill.quantize.observers import BINS, Channels, Histogram

CODES = 256  # of a byte
CANDIDATES = 128  # ranges that the entropy search tries


@dataclass(frozen=True)
class RangeRule:
    """How a range is found."""

    name: str  # min_max, percentile or entropy
    percent: float = 100.0  # of the inputs, that a range by percentile holds

    def observer(self, columns: int) -> Channels | Histogram:
        """Return what has to see the inputs of a layer of so many columns."""
        return Channels(columns) if self.name == "min_max" else Histogram()

    def range_of(self, seen: Channels | Histogram) -> InputRange:
        """Return the range for the inputs that this rule's observer saw."""
        if isinstance(seen, Channels):
            return InputRange.of(float(seen.low.min()), float(seen.high.max()))
        return InputRange.of(*(entropy(seen) if self.name == "entropy" else percentile(seen, self.percent)))


def percentile(seen: Histogram, percent: float) -> tuple[float, float]:
    """Return the ends of the range that holds `percent` of the inputs; half of the others lie below it, half above.

    An end is that of a bin, and never beyond what was seen.
    """
    cut = (100 - percent) / 200
    cumulative = np.cumsum(seen.counts)
    first = np.searchsorted(cumulative, cut * cumulative[-1], side="right")
    last = np.searchsorted(cumulative, (1 - cut) * cumulative[-1])
    return max(float(seen.edges[first]), float(seen.low)), min(float(seen.edges[last + 1]), float(seen.high))


def entropy(seen: Histogram) -> tuple[float, float]:
    """Return the ends of the range whose codes diverge least from the inputs: KL(inputs || codes).

    Candidates reach equally far to both sides of 0, each cut to what was seen. What lies outside counts as lying at
    the end; a code stands for all bins that it covers and that are not empty, evenly. (onnxruntime's search takes
    seconds for a layer, and measures the divergence of symmetric ranges only.)
    """
    filled = np.flatnonzero(seen.counts)
    if len(filled) == 0:
        return 0.0, 0.0
    middle, first, end = BINS // 2, min(filled[0], BINS // 2), max(filled[-1] + 1, BINS // 2)
    reach = max(middle - first, end - middle)
    halves = np.unique(np.ceil(reach * np.arange(1, CANDIDATES + 1) / CANDIDATES).astype(int))
    candidates = [(max(first, middle - half), min(end, middle + half)) for half in halves]
    low, high = min(reversed(candidates), key=lambda ends: _divergence(seen.counts, *ends))
    return max(float(seen.edges[low]), float(seen.low)), min(float(seen.edges[high]), float(seen.high))


def _divergence(counts: np.ndarray, first: int, end: int) -> float:
    """Return KL(P || Q) in nats, where Q has one height for all of a code's bins; infinite where Q lacks a bin of P."""
    inside = counts[first:end].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[end:].sum()
    code = np.arange(len(inside)) * CODES // len(inside)
    alive = clipped > 0
    held = np.bincount(code, inside, CODES) / np.maximum(np.bincount(code, alive, CODES), 1)
    p, q = clipped[alive] / clipped.sum(), held[code][alive]
    if not q.all():
        return np.inf
    return float((p * np.log(p * q.sum() / q)).sum())
