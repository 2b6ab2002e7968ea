"""Affine quantization of weights to symmetric 8-bit codes, in numpy.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv:1712.05877, section 2.1, with zero_point 0.
"""

from dataclasses import dataclass

import numpy as np

from edgedistill.errors import QuantizationError


@dataclass(frozen=True)
class RowQuantized:
    """A matrix as small integers with one scale per row.

    weight[r, c] is about codes[r, c] * scales[r], and never further from it than half of that scale.
    """

    codes: np.ndarray  # (rows, columns) int8, symmetric: -limit..limit
    scales: np.ndarray  # (rows,) float32, all > 0
    limit: int

    def dequantize(self) -> np.ndarray:
        """Return the float32 weights that the codes stand for, (rows, columns)."""
        weights: np.ndarray = self.codes.astype(np.float32) * self.scales[:, None]
        return weights

    def max_error_in_steps(self, weight: np.ndarray) -> float:
        """Return the largest distance from `weight`, in units of the row's scale; at most one half."""
        return float((np.abs(self.dequantize() - weight) / self.scales[:, None]).max())


def quantize_rows(weight: np.ndarray, limit: int) -> RowQuantized:
    """Round each row of `weight`, (rows, columns) float32, to integers in -limit..limit.

    A row's scale is its largest magnitude over `limit`; a row of zeros gets scale 1 and stays exact.

    Raises:
        QuantizationError: a weight is not finite, or the limit does not fit into 8 bits.
    """
    if not 1 <= limit <= 127:
        raise QuantizationError(
            f"a code limit of {limit} does not fit into a signed byte; use 63 (7-bit) or 127 (8-bit)"
        )
    if not np.isfinite(weight).all():
        raise QuantizationError("the weight has a NaN or an infinity; did distillation diverge?")
    weight = weight.astype(np.float32)
    scales = (np.abs(weight).max(axis=1) / np.float32(limit)).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    codes = np.clip(np.rint(weight / scales[:, None]), -limit, limit).astype(np.int8)
    return RowQuantized(codes, scales, limit)
