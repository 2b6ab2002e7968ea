"""Codes that are chosen together: closer outputs than the nearest codes give, and the very codes of the algorithm."""

from collections.abc import Callable

import numpy as np
import pytest

from edgedistill.quantize.affine import GroupQuantized, RowQuantized, quantize_groups, quantize_rows, quantize_whole
from edgedistill.quantize.gptq import BLOCK, DAMPING, optimised_groups, optimised_rows

ROWS, COLUMNS, GROUP = 12, 64, 16
Quantized = RowQuantized | GroupQuantized
KINDS: dict[str, Callable[[np.ndarray], Quantized]] = {
    "int4": lambda weight: quantize_groups(weight, GROUP, symmetric=True),
    "int4 asymmetric": lambda weight: quantize_groups(weight, GROUP, symmetric=False),
    "3 bits": lambda weight: quantize_rows(weight, 3),
    "7 bits": lambda weight: quantize_rows(weight, 63),
    "per tensor": lambda weight: quantize_whole(weight, 31),
}


def layer(columns: int = COLUMNS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs whose columns go together, (count, columns), and a weight, (ROWS, columns)."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(1000, columns // 4))
    values = causes @ random.normal(size=(columns // 4, columns)) + 0.3 * random.normal(size=(1000, columns))
    return values.astype(np.float32), random.normal(size=(ROWS, columns)).astype(np.float32)


def optimised(weight: np.ndarray, nearest: Quantized, hessian: np.ndarray) -> Quantized:
    make = optimised_rows if isinstance(nearest, RowQuantized) else optimised_groups
    return make(weight, nearest, hessian)  # type: ignore[arg-type]


def output_error(values: np.ndarray, weight: np.ndarray, made: Quantized) -> float:
    return float(np.linalg.norm(values @ (weight - made.dequantize()).T))


def directly(weight: np.ndarray, nearest: Quantized, hessian: np.ndarray) -> np.ndarray:
    """Return the dequantized weight of algorithm 1 written plainly: one row, one column, one inverse at a time."""
    damped = hessian + DAMPING * np.trace(hessian) / len(hessian) * np.eye(len(hessian))
    made = np.zeros(weight.shape)
    for row in range(len(weight)):
        left = weight[row].astype(np.float64)
        for j in range(len(left)):
            inverse = np.linalg.inv(damped[j:, j:])
            made[row, j] = nearest_value(nearest, row, j, left[j])
            left[j + 1 :] -= (left[j] - made[row, j]) / inverse[0, 0] * inverse[0, 1:]
    return made


def nearest_value(grid: Quantized, row: int, column: int, value: float) -> float:
    """Return the value of the grid that is closest, by looking at all of them."""
    if isinstance(grid, RowQuantized):
        values = np.arange(-grid.limit, grid.limit + 1) * float(grid.scales[row % len(grid.scales)])
    else:
        group = column // grid.group_size
        values = (np.arange(16) - float(grid.zero_points[row, group])) * float(grid.scales[row, group])
    return float(values[np.abs(values - value).argmin()])


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_closer_than_with_nearest_codes(kind: str) -> None:
    values, weight = layer()
    nearest = KINDS[kind](weight)
    made = optimised(weight, nearest, values.T.astype(np.float64) @ values)
    assert output_error(values, weight, made) < 0.8 * output_error(values, weight, nearest)


@pytest.mark.parametrize("kind", KINDS)
def test_the_codes_are_those_of_the_algorithm_written_plainly(kind: str) -> None:
    values, weight = layer(columns=32)
    nearest, hessian = KINDS[kind](weight), values.T.astype(np.float64) @ values
    made = optimised(weight, nearest, hessian).dequantize()
    assert made == pytest.approx(directly(weight, nearest, hessian), abs=1e-4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, weight = layer(columns=BLOCK + 48)
    nearest, hessian = quantize_rows(weight, 7), values.T.astype(np.float64) @ values
    codes = []
    for block in (1, 50, BLOCK, 1000):
        monkeypatch.setattr("edgedistill.quantize.gptq.BLOCK", block)
        codes.append(optimised_rows(weight, nearest, hessian).codes)
    assert all(np.array_equal(codes[0], other) for other in codes[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hessian", [np.eye(COLUMNS), np.diag(np.arange(1.0, COLUMNS + 1)), np.zeros((COLUMNS,) * 2)])
def test_inputs_that_do_not_go_together_leave_the_nearest_codes(kind: str, hessian: np.ndarray) -> None:
    weight = layer()[1]
    nearest = KINDS[kind](weight)
    assert np.array_equal(optimised(weight, nearest, hessian).codes, nearest.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_stay_in_their_range_and_scales_as_they_are(kind: str) -> None:
    values, weight = layer()
    nearest = KINDS[kind](weight)
    made = optimised(weight, nearest, values.T.astype(np.float64) @ values)
    assert made.codes.dtype == nearest.codes.dtype
    assert made.scales is nearest.scales
    limits = (-made.limit, made.limit) if isinstance(made, RowQuantized) else (0, 15)
    assert limits[0] <= made.codes.min() <= made.codes.max() <= limits[1]
    assert made.max_error_in_steps(weight) > 0.5, "a code may be further away than the nearest"


def test_a_column_without_inputs_has_the_nearest_codes() -> None:
    values, weight = layer()
    values[:, 5] = 0
    nearest = quantize_rows(weight, 7)
    made = optimised_rows(weight, nearest, values.T.astype(np.float64) @ values)
    assert np.array_equal(made.codes[:, 5], nearest.codes[:, 5])


def without_feedback(weight: np.ndarray, nearest: RowQuantized, hessian: np.ndarray) -> RowQuantized:
    return optimised_rows(weight, nearest, np.diag(np.diag(hessian)))


def inverted(weight: np.ndarray, nearest: RowQuantized, hessian: np.ndarray) -> RowQuantized:
    return optimised_rows(weight, nearest, np.linalg.inv(hessian + np.eye(len(hessian))))


def other_inputs(weight: np.ndarray, nearest: RowQuantized, hessian: np.ndarray) -> RowQuantized:
    return optimised_rows(weight, nearest, hessian[::-1, ::-1])


@pytest.mark.parametrize("broken", [without_feedback, inverted, other_inputs])
def test_a_broken_twin_is_no_better_than_the_nearest_codes(broken: Callable[..., RowQuantized]) -> None:
    values, weight = layer()
    nearest, hessian = quantize_rows(weight, 7), values.T.astype(np.float64) @ values
    assert output_error(values, weight, broken(weight, nearest, hessian)) > 0.8 * output_error(values, weight, nearest)
    assert not np.allclose(broken(weight, nearest, hessian).dequantize(), directly(weight, nearest, hessian), atol=1e-4)
