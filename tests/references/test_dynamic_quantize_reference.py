"""The simulated operators against onnxruntime's own DynamicQuantizeLinear, MatMulInteger and Gather, node by node."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto, helper
from plain_session import largest_difference, session

from edgedistill.models.int8_layers import dynamic_int8_linear, int8_embedding

Linear = Callable[..., torch.Tensor]
COLUMNS, ROWS = 12, 5
values_of = st.floats(min_value=-1e3, max_value=1e3, width=32)


LINEAR = session(
    [
        helper.make_node("DynamicQuantizeLinear", ["values"], ["quantized", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["quantized", "codes", "zero"], ["products"]),
        helper.make_node("Cast", ["products"], ["products_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "scales"], ["both"]),
        helper.make_node("Mul", ["products_float", "both"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["result"]),
    ],
    {"values": TensorProto.FLOAT, "codes": TensorProto.INT8, "scales": TensorProto.FLOAT, "bias": TensorProto.FLOAT},
    "result",
)
UNSIGNED = session(
    [
        helper.make_node("DynamicQuantizeLinear", ["values"], ["quantized", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["quantized", "codes", "zero", "middle"], ["products"]),
        helper.make_node("Cast", ["products"], ["products_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "scales"], ["both"]),
        helper.make_node("Mul", ["products_float", "both"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["result"]),
    ],
    {"values": TensorProto.FLOAT, "codes": TensorProto.UINT8, "scales": TensorProto.FLOAT, "bias": TensorProto.FLOAT,
     "middle": TensorProto.UINT8},
    "result",
)  # fmt: skip
EMBEDDING = session(
    [
        helper.make_node("Gather", ["codes", "ids"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["rows_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["scales", "ids"], ["row_scales"]),
        helper.make_node("Mul", ["rows_float", "row_scales"], ["result"]),
    ],
    {"ids": TensorProto.INT64, "codes": TensorProto.INT8, "scales": TensorProto.FLOAT},
    "result",
)


def weights(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "codes": random.integers(-127, 128, size=(COLUMNS, ROWS)).astype(np.int8),
        "scales": random.uniform(1e-4, 1e-2, size=ROWS).astype(np.float32),
        "bias": random.normal(size=ROWS).astype(np.float32),
    }


def difference(linear: Linear, values: np.ndarray, seed: int = 0) -> float:
    """Return the largest difference between a linear operator and onnxruntime, as a share of the largest result."""
    stored = weights(seed)
    expected = LINEAR.run(None, {"values": values, **stored})[0]
    given_values = linear(torch.from_numpy(values), *(torch.from_numpy(array) for array in stored.values())).numpy()
    return largest_difference(given_values, expected)


@given(
    arrays(
        np.float32, array_shapes(min_dims=1, max_dims=2, max_side=6).map(lambda s: (*s, COLUMNS)), elements=values_of
    )
)
def test_the_linear_operator_is_onnxruntimes(values: np.ndarray) -> None:
    assert difference(dynamic_int8_linear, values) < 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_the_linear_operator_is_onnxruntimes_on_ordinary_activations(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(random.normal(), size=(8, COLUMNS)) * 10.0 ** random.integers(-6, 7)).astype(np.float32)
    assert difference(dynamic_int8_linear, values, seed) < 1e-6


@pytest.mark.parametrize("seed", range(10))
def test_unsigned_codes_are_onnxruntimes_around_a_zero_point_of_128(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(8, COLUMNS)).astype(np.float32)
    stored = weights(seed)
    stored["codes"] = (stored["codes"].astype(np.int16) + 128).astype(np.uint8)
    made = dynamic_int8_linear(torch.from_numpy(values), *(torch.from_numpy(array) for array in stored.values()))
    expected = UNSIGNED.run(None, {"values": values, **stored, "middle": np.array(128, np.uint8)})[0]
    assert largest_difference(made.numpy(), expected) < 1e-6
    for middle in (0, 127):
        other = UNSIGNED.run(None, {"values": values, **stored, "middle": np.array(middle, np.uint8)})[0]
        assert largest_difference(made.numpy(), other) > 1e-3


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, COLUMNS)),
        np.full((2, COLUMNS), 3.7),
        np.full((2, COLUMNS), -3.7),
        -np.linspace(1, 2, 2 * COLUMNS).reshape(2, COLUMNS),
        np.linspace(1, 2, 2 * COLUMNS).reshape(2, COLUMNS),
        np.arange(2 * COLUMNS).reshape(2, COLUMNS) - 127.5,  # ties, and a zero point between two codes
        np.full((1, COLUMNS), 1e-40),
    ],
    ids=["zeros", "constant", "negative constant", "all negative", "all positive", "ties", "denormal"],
)
def test_the_linear_operator_is_onnxruntimes_on_odd_activations(values: np.ndarray) -> None:
    assert difference(dynamic_int8_linear, values.astype(np.float32)) < 1e-6


def range_without_zero(
    values: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    scale = (values.max() - values.min()).clamp(min=1e-6) / 255
    quantized = torch.round((values - values.min()) / scale) * scale + values.min()
    return (quantized.double() @ (codes.double() * scales)).float() + bias


def range_per_row(values: torch.Tensor, *stored: torch.Tensor) -> torch.Tensor:
    return torch.stack([dynamic_int8_linear(row[None], *stored)[0] for row in values])


def not_quantized(values: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return values @ (codes.float() * scales) + bias


def truncated(values: torch.Tensor, *stored: torch.Tensor) -> torch.Tensor:
    scale = (values.max().clamp(min=0) - values.min().clamp(max=0)) / 255
    return dynamic_int8_linear(torch.trunc(values / scale) * scale, *stored)


@pytest.mark.parametrize("broken", [range_without_zero, range_per_row, not_quantized, truncated])
def test_the_reference_rejects_a_broken_twin(broken: Linear) -> None:
    values = np.random.default_rng(3).normal(2.0, 0.3, size=(4, COLUMNS)).astype(np.float32)
    assert difference(dynamic_int8_linear, values) < 1e-6
    assert difference(broken, values) > 1e-5


@given(arrays(np.int64, array_shapes(max_dims=2, max_side=9), elements=st.integers(0, COLUMNS - 1)))
def test_the_table_is_a_gather_times_its_scales(ids: np.ndarray) -> None:
    random = np.random.default_rng(0)
    stored = {
        "codes": random.integers(-127, 128, size=(COLUMNS, ROWS)).astype(np.int8),
        "scales": random.uniform(1e-4, 1e-2, size=(COLUMNS, 1)).astype(np.float32),
    }
    expected = EMBEDDING.run(None, {"ids": ids, **stored})[0]
    vectors = int8_embedding(torch.from_numpy(ids), *(torch.from_numpy(array) for array in stored.values()))
    assert np.array_equal(vectors.numpy(), expected)
