"""Affine quantization of weights to small integer codes, in numpy.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", arXiv:1712.05877, section 2.1; codes of 8 bits have zero_point 0.
"""

from dataclasses import dataclass

import numpy as np

from edgedistill.errors import QuantizationError

LARGEST_4_BIT_CODE = 15


@dataclass(frozen=True)
class RowQuantized:
    """A matrix as signed 8-bit integers, with one scale per row, or with one for all of them.

    weight[r, c] is about codes[r, c] * scales[r], and never further from it than half of that scale.
    """

    codes: np.ndarray  # (rows, columns) int8, symmetric: -limit..limit
    scales: np.ndarray  # (rows,) float32, or (1,) for the whole matrix; all > 0
    limit: int

    def dequantize(self) -> np.ndarray:
        """Return the float32 weights that the codes stand for, (rows, columns)."""
        weights: np.ndarray = self.codes.astype(np.float32) * self.scales[:, None]
        return weights

    def max_error_in_steps(self, weight: np.ndarray) -> float:
        """Return the largest distance from `weight`, in units of its scale; at most one half where codes are nearest.

        Codes that were chosen together, so that their errors cancel, may lie further away.
        """
        return float((np.abs(self.dequantize() - weight) / self.scales[:, None]).max())


@dataclass(frozen=True)
class GroupQuantized:
    """A matrix as unsigned integers of 4 or 8 bits, with a scale and a zero point for each group of columns.

    weight[r, c] is about (codes[r, c] - zero_points[r, g]) * scales[r, g], where g = c // group_size.
    """

    codes: np.ndarray  # (rows, columns) uint8, 0..15 or 0..255
    scales: np.ndarray  # (rows, groups) float32, all > 0
    zero_points: np.ndarray  # (rows, groups) uint8, of the same range
    symmetric: bool  # every zero point is the middle: 8, or 128

    @property
    def group_size(self) -> int:
        """Columns that share a scale."""
        return int(self.codes.shape[1] // self.scales.shape[1])

    def dequantize(self) -> np.ndarray:
        """Return the float32 weights that the codes stand for, (rows, columns)."""
        centred = self.codes.astype(np.float32) - np.repeat(self.zero_points, self.group_size, axis=1)
        weights: np.ndarray = centred * np.repeat(self.scales, self.group_size, axis=1)
        return weights

    def max_error_in_steps(self, weight: np.ndarray) -> float:
        """Return the largest distance from `weight`, in units of its group's scale."""
        steps = np.repeat(self.scales, self.group_size, axis=1)
        return float((np.abs(self.dequantize() - weight) / steps).max())


def quantize_rows(weight: np.ndarray, limit: int) -> RowQuantized:
    """Round each row of `weight`, (rows, columns) float32, to integers in -limit..limit.

    A row's scale is its largest magnitude over `limit`; a row of zeros gets scale 1 and stays exact.

    Raises:
        QuantizationError: a weight is not finite, or the limit does not fit into 8 bits.
    """
    weight = _checked(weight, limit)
    return _rounded(weight, np.abs(weight).max(axis=1), limit)


def quantize_whole(weight: np.ndarray, limit: int) -> RowQuantized:
    """Round `weight`, (rows, columns) float32, to integers in -limit..limit with one scale: per tensor.

    Raises:
        QuantizationError: a weight is not finite, or the limit does not fit into 8 bits.
    """
    weight = _checked(weight, limit)
    return _rounded(weight, np.abs(weight).max(keepdims=True).reshape(1), limit)


def quantize_groups(weight: np.ndarray, group_size: int, *, symmetric: bool, bits: int = 4) -> GroupQuantized:
    """Round `weight`, (rows, columns) float32, to codes of 4 or 8 bits, one scale for `group_size` columns of a row.

    Symmetric 4-bit codes lie in -7..7 around the zero point 8. Asymmetric ones use all of 0..15: the group's range is
    widened to hold 0, and the zero point is the one that reaches both ends with the finest scale. A weight moves by no
    more than half a scale, and 0 stays 0; a group of zeros gets scale 1.

    Raises:
        QuantizationError: the groups do not fill the columns, or a weight is not finite.
    """
    rows, columns = weight.shape
    if columns % group_size:
        fits = [str(size) for size in (16, 32, 64, 128, 256) if columns % size == 0]
        cure = f"these do: {', '.join(fits)}" if fits else "no size does; give the layer another width with overrides"
        raise QuantizationError(f"group_size {group_size} does not divide {columns} columns; {cure}")
    largest, middle = (1 << bits) - 1, 1 << (bits - 1)
    weight = _checked(weight, middle - 1)
    groups = weight.reshape(rows, columns // group_size, group_size)
    if symmetric:
        zero_points = np.full(groups.shape[:2], middle, dtype=np.uint8)
        scales = np.abs(groups).max(axis=2) / np.float32(middle - 1)
    else:
        below, above = np.maximum(-groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
        zero_points, scales = _finest(below, above, largest)
    scales = _usable(scales.astype(np.float32))
    codes = np.clip(np.rint(groups / scales[:, :, None]) + zero_points[:, :, None], 0, largest).astype(np.uint8)
    return GroupQuantized(codes.reshape(rows, columns), scales, zero_points, symmetric)


def packed(codes: np.ndarray) -> np.ndarray:
    """Return 4-bit codes, (..., count) uint8, two in each byte, the first one in the low bits: (..., ceil(count / 2)).

    An odd count is filled up with a 0.
    """
    even = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
    both: np.ndarray = even[..., 0::2] | (even[..., 1::2] << 4)
    return both.astype(np.uint8)


def _finest(below: np.ndarray, above: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return zero points and scales with which codes 0..largest reach from -below to above, the finest scales.

    Of the two whole numbers around the zero point that would be exact, the nearer one is not always the better one.
    """
    span = np.where(below + above > 0, below + above, 1)
    lower = np.minimum(np.floor(below / span * largest), largest - 1)

    def scales(zero_points: np.ndarray) -> np.ndarray:
        ends, steps = np.stack([below, above]), np.stack([zero_points, largest - zero_points])
        reached = np.where(steps > 0, ends / np.maximum(steps, 1), np.where(ends > 0, np.inf, 0))
        larger: np.ndarray = reached.max(axis=0)
        return larger

    at_lower, at_upper = scales(lower), scales(lower + 1)
    zero_points: np.ndarray = np.where(at_lower <= at_upper, lower, lower + 1)
    return zero_points.astype(np.uint8), np.minimum(at_lower, at_upper)


def _checked(weight: np.ndarray, limit: int) -> np.ndarray:
    if not 1 <= limit <= 127:
        raise QuantizationError(
            f"a code limit of {limit} does not fit into a signed byte; use 63 (7-bit) or 127 (8-bit)"
        )
    if not np.isfinite(weight).all():
        raise QuantizationError("the weight has a NaN or an infinity; did distillation diverge?")
    return weight.astype(np.float32)


def _rounded(weight: np.ndarray, largest: np.ndarray, limit: int) -> RowQuantized:
    scales = _usable((largest / np.float32(limit)).astype(np.float32))
    codes = np.clip(np.rint(weight / scales[:, None]), -limit, limit).astype(np.int8)
    return RowQuantized(codes, scales, limit)


def _usable(scales: np.ndarray) -> np.ndarray:
    """Return the scales with 1 where there is nothing to scale: a quotient by less would overflow."""
    return np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
