"""Codes that are chosen together: what rounding one column gets wrong, the columns to its right make up for.

Scales and zero points are those of the nearest codes, so only the choice of codes differs. The inputs come from the
float model, in one pass for all layers, and not layer by layer from what was quantized before.

Source: Frantar et al. 2022, "GPTQ", arXiv:2210.17323, algorithm 1.
"""

from dataclasses import replace

import numpy as np

from edgedistill.quantize.affine import LARGEST_4_BIT_CODE, GroupQuantized, RowQuantized

DAMPING = 0.01  # added to the Hessian's diagonal, as a share of its mean; section 4, step 3
BLOCK = 128  # columns whose errors are handed on to all later ones at once


def optimised_rows(weight: np.ndarray, nearest: RowQuantized, hessian: np.ndarray) -> RowQuantized:
    """Return `nearest` with codes whose outputs are closer to those of `weight`, (rows, columns) float32.

    Args:
        hessian: (columns, columns) float64; the sum of x x^T over the layer's inputs.
    """
    scales = np.broadcast_to(nearest.scales[:, None], weight.shape)
    centred = _codes(weight, hessian, scales, np.zeros((1, 1)), -nearest.limit, nearest.limit)
    return replace(nearest, codes=centred.astype(np.int8))


def optimised_groups(weight: np.ndarray, nearest: GroupQuantized, hessian: np.ndarray) -> GroupQuantized:
    """Return `nearest` with codes whose outputs are closer to those of `weight`, (rows, columns) float32.

    Args:
        hessian: (columns, columns) float64; the sum of x x^T over the layer's inputs.
    """
    scales, zero_points = (np.repeat(of, nearest.group_size, axis=1) for of in (nearest.scales, nearest.zero_points))
    codes = _codes(weight, hessian, scales, zero_points, 0, LARGEST_4_BIT_CODE)
    return replace(nearest, codes=codes.astype(np.uint8))


def _codes(
    weight: np.ndarray, hessian: np.ndarray, scales: np.ndarray, zero_points: np.ndarray, low: int, high: int
) -> np.ndarray:
    """Return codes in low..high, (rows, columns) float32.

    Args:
        scales: (rows, columns) float32.
        zero_points: broadcast to (rows, columns).
    """
    columns = weight.shape[1]
    zero_points = np.broadcast_to(zero_points, weight.shape).astype(np.float32)
    spread = _upper_factor_of_inverse(hessian)
    left = weight.astype(np.float64)  # the weights yet to be rounded, with the errors of those before them
    codes = np.empty(weight.shape, dtype=np.float32)
    errors = np.empty(weight.shape)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        for j in range(start, stop):
            centred = np.rint(left[:, j].astype(np.float32) / scales[:, j])
            codes[:, j] = np.clip(centred + zero_points[:, j], low, high)
            made = (codes[:, j] - zero_points[:, j]) * scales[:, j]
            errors[:, j] = (left[:, j] - made) / spread[j, j]
            left[:, j + 1 : stop] -= np.outer(errors[:, j], spread[j, j + 1 : stop])
        left[:, stop:] -= errors[:, start:stop] @ spread[start:stop, stop:]
    return codes


def _upper_factor_of_inverse(hessian: np.ndarray) -> np.ndarray:
    """Return the upper triangular U with U^T U the inverse of the damped Hessian."""
    diagonal = np.diag(hessian)
    damped = hessian + np.eye(len(hessian)) * (DAMPING * diagonal.mean() or 1.0)  # 1 where all inputs are 0
    inverse = np.linalg.inv(damped)
    factor: np.ndarray = np.linalg.cholesky((inverse + inverse.T) / 2, upper=True)
    return factor
