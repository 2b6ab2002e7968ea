"""The simulated static layer against onnxruntime's own QuantizeLinear, DequantizeLinear and MatMul, node by node."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper
from plain_session import largest_difference, session

from edgedistill.models.int8_layers import static_int8_linear

Linear = Callable[..., torch.Tensor]
COLUMNS, ROWS = 12, 5

LINEAR = session(
    [
        helper.make_node("QuantizeLinear", ["values", "scale", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "scale", "zero"], ["known"]),
        helper.make_node("DequantizeLinear", ["codes", "scales"], ["weight"], axis=1),
        helper.make_node("MatMul", ["known", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["result"]),
    ],
    {
        "values": TensorProto.FLOAT, "codes": TensorProto.INT8, "scales": TensorProto.FLOAT, "bias": TensorProto.FLOAT,
        "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8,
    },
    "result",
)  # fmt: skip


def stored(seed: int = 0, scales: int = ROWS, zero_point: int = 100, step: float = 0.02) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "codes": random.integers(-127, 128, size=(COLUMNS, ROWS)).astype(np.int8),
        "scales": random.uniform(1e-4, 1e-2, size=scales).astype(np.float32),
        "bias": random.normal(size=ROWS).astype(np.float32),
        "scale": np.array(step, np.float32),
        "zero": np.array(zero_point, np.uint8),
    }


def difference(linear: Linear, values: np.ndarray, numbers: dict[str, np.ndarray]) -> float:
    expected = LINEAR.run(None, {"values": values, **numbers})[0]
    made = linear(torch.from_numpy(values), *(torch.from_numpy(array) for array in numbers.values())).numpy()
    return largest_difference(made, expected)


@given(
    arrays(np.float32, (3, COLUMNS), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(0, 255),
    st.floats(2.0**-13, 8, width=32),
)
def test_the_static_layer_is_onnxruntimes(values: np.ndarray, zero_point: int, step: float) -> None:
    assert difference(static_int8_linear, values, stored(zero_point=zero_point, step=step)) < 1e-5


@pytest.mark.parametrize("scales", [ROWS, 1], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("seed", range(10))
def test_the_static_layer_is_onnxruntimes_on_ordinary_activations(seed: int, scales: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, 4, COLUMNS)).astype(np.float32)
    assert difference(static_int8_linear, values, stored(seed, scales)) < 1e-5


@pytest.mark.parametrize("values", [-1e6, -2.0, -0.01, 0.0, 0.01, 0.03, 3.1, 1e6])
def test_what_lies_outside_the_range_is_clipped_as_onnxruntime_does(values: float) -> None:
    assert difference(static_int8_linear, np.full((1, COLUMNS), values, np.float32), stored()) < 1e-5


def not_clipped(values: torch.Tensor, *numbers: torch.Tensor) -> torch.Tensor:
    codes, scales, bias, step, _ = numbers
    return ((values / step).round() * step) @ (codes.float() * scales) + bias


def zero_point_left_out(values: torch.Tensor, *numbers: torch.Tensor) -> torch.Tensor:
    return static_int8_linear(values, *numbers[:4], torch.zeros_like(numbers[4]))


def halves_away_from_zero(values: torch.Tensor, *numbers: torch.Tensor) -> torch.Tensor:
    codes, scales, bias, step, zero = numbers
    steps = values / step
    away = torch.trunc(steps + 0.5 * steps.sign()) * step
    return static_int8_linear(away, codes, scales, bias, step, zero)


@pytest.mark.parametrize("broken", [not_clipped, zero_point_left_out, halves_away_from_zero])
def test_the_reference_rejects_a_broken_twin(broken: Linear) -> None:
    numbers = stored(step=0.25)
    values = (np.arange(2 * COLUMNS).reshape(2, COLUMNS) * 5 - 90).astype(np.float32)
    values[0] = np.arange(COLUMNS) / 4 + 0.125  # half a step after each code
    assert difference(static_int8_linear, values, numbers) < 1e-5
    assert difference(broken, values, numbers) > 1e-3
