"""Scales of groups that are searched for: a range that leaves out the farthest weights may round all others finer.

A group's whole range, and narrower ones, are tried; for the codes of each, the scale is the one with the least squared
error, and the best of all is kept. Errors weigh what the column's inputs weigh: their mean square over calibration
text.

Source: in the manner of llama.cpp's quantizers, https://github.com/ggml-org/llama.cpp/pull/1684, here for codes around
a zero point.
"""

import numpy as np

from edgedistill.quantize.affine import GroupQuantized, quantize_groups

SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65)  # of a group's range
WEIGHTS_AT_ONCE = 1 << 20


def fitted_groups(
    weight: np.ndarray, group_size: int, importance: np.ndarray, *, symmetric: bool, bits: int
) -> GroupQuantized:
    """Round `weight`, (rows, columns) float32, to codes in groups; no group loses more than by its whole range.

    Args:
        weight: finite.
        group_size: divides the columns.
        importance: (columns,) above 0; mean square of each column's inputs.
        symmetric: as of `quantize_groups`.
        bits: 4 or 8.

    Raises:
        QuantizationError: the groups do not fill the columns, or a weight is not finite.
    """
    at_once = max(1, WEIGHTS_AT_ONCE // weight.shape[1])
    parts = [
        _fitted(weight[start : start + at_once], group_size, symmetric, bits, importance)
        for start in range(0, len(weight), at_once)
    ]
    codes, scales, zero_points = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "scales", "zero_points")
    )
    return GroupQuantized(codes, scales, zero_points, symmetric)


def _fitted(weight: np.ndarray, group_size: int, symmetric: bool, bits: int, felt: np.ndarray) -> GroupQuantized:
    best = quantize_groups(weight, group_size, symmetric=symmetric, bits=bits)
    groups, weighs = _grouped(weight, group_size), _grouped(felt[None], group_size)
    codes, scales, zeros = _grouped(best.codes, group_size), best.scales, best.zero_points
    least = _error(groups, weighs, codes, scales, zeros)
    for shrunk in SHRUNK:
        low, high = (shrunk * edge(groups, axis=2, keepdims=True) for edge in (np.min, np.max))
        tried = quantize_groups(
            np.clip(groups, low, high).reshape(weight.shape), group_size, symmetric=symmetric, bits=bits
        )
        given = _grouped(tried.codes, group_size)
        refined = _best_scales(groups, weighs, given, tried.scales, tried.zero_points)
        error = _error(groups, weighs, given, refined, tried.zero_points)
        better = error < least
        least = np.where(better, error, least)
        codes = np.where(better[:, :, None], given, codes)
        scales, zeros = np.where(better, refined, scales), np.where(better, tried.zero_points, zeros)
    return GroupQuantized(codes.reshape(weight.shape), scales, zeros, symmetric)


def _grouped(array: np.ndarray, group_size: int) -> np.ndarray:
    return array.reshape(len(array), -1, group_size)


def _best_scales(
    groups: np.ndarray, weighs: np.ndarray, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray
) -> np.ndarray:
    """Return the scales of these codes with the least squared error, (rows, groups) float32.

    Where there is none above 0 it stays as it is.
    """
    centred = codes.astype(np.float32) - zeros[:, :, None]
    above, below = (weighs * groups * centred).sum(axis=2), (weighs * centred * centred).sum(axis=2)
    usable = (above > 0) & (below > 0)
    found = np.where(usable, above / np.where(usable, below, 1), scales).astype(np.float32)
    return np.where(found < np.finfo(np.float32).tiny, scales, found)


def _error(
    groups: np.ndarray, weighs: np.ndarray, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray
) -> np.ndarray:
    """Return the weighted squared error of each group, (rows, groups)."""
    centred = codes.astype(np.float32) - zeros[:, :, None]
    errors: np.ndarray = (weighs * np.square(centred * scales[:, :, None] - groups)).sum(axis=2)
    return errors
