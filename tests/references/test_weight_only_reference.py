"""The simulated 4-bit and half-precision layers against onnxruntime's own operators, node by node."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from plain_session import largest_difference, session
from torch import nn

from edgedistill.models.weight_only_layers import int4_embedding, int4_linear
from edgedistill.quantize.affine import GroupQuantized, quantize_groups
from edgedistill.quantize.decisions import Float16, Int4

ROWS = 7
SIZES = [(16, 16), (16, 48), (32, 32), (32, 96), (64, 64), (128, 256), (256, 256)]  # group size, columns
FLOAT, CODES = TensorProto.FLOAT, TensorProto.UINT8


def matmul(size: int, columns: int) -> ort.InferenceSession:
    node = helper.make_node(
        "MatMulNBits", ["values", "codes", "scales", "zeros"], ["result"], domain="com.microsoft",
        N=ROWS, K=columns, bits=4, block_size=size, accuracy_level=1,
    )  # fmt: skip
    return session([node], {"values": FLOAT, "codes": CODES, "scales": FLOAT, "zeros": CODES}, "result")


def gather(size: int) -> ort.InferenceSession:
    node = helper.make_node(
        "GatherBlockQuantized", ["codes", "ids", "scales", "zeros"], ["result"], domain="com.microsoft",
        bits=4, block_size=size, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    return session([node], {"codes": CODES, "ids": TensorProto.INT64, "scales": FLOAT, "zeros": CODES}, "result")


def groups(size: int, columns: int, symmetric: bool) -> GroupQuantized:
    weight = np.random.default_rng(columns).normal(0.1, 1, size=(ROWS, columns)).astype(np.float32)
    return quantize_groups(weight, size, symmetric=symmetric)


def stored(made: GroupQuantized, replaced: nn.Module) -> dict[str, np.ndarray]:
    """Return the numbers of the module, as they are stored, by the names of the reference's inputs."""
    numbers = Int4(made).module(replaced).state_dict()
    return {"codes": numbers["packed"].numpy(), "scales": numbers["scales"].numpy(),
            "zeros": numbers["zero_points"].numpy()}  # fmt: skip


def tensors(numbers: dict[str, np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in numbers.values()]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("size", "columns"), SIZES)
def test_the_linear_layer_of_4_bit_codes_is_onnxruntimes(size: int, columns: int, symmetric: bool) -> None:
    made = groups(size, columns, symmetric)
    numbers = stored(made, nn.Linear(columns, ROWS))
    values = np.random.default_rng(0).normal(size=(2, 3, columns)).astype(np.float32)
    expected = matmul(size, columns).run(None, {"values": values, **numbers})[0]
    assert largest_difference(int4_linear(torch.from_numpy(values), *tensors(numbers)).numpy(), expected) < 1e-5
    assert largest_difference(values @ made.dequantize().T, expected) < 1e-5, "and so is what is said of the weight"


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("size", "columns"), SIZES)
@pytest.mark.parametrize("shape", [(1,), (4,), (2, 5)])
def test_the_table_of_4_bit_codes_is_onnxruntimes(
    size: int, columns: int, symmetric: bool, shape: tuple[int, ...]
) -> None:
    made = groups(size, columns, symmetric)
    numbers = stored(made, nn.Embedding(ROWS, columns))
    ids = np.random.default_rng(0).integers(0, ROWS, size=shape)
    expected = gather(size).run(None, {"ids": ids, **numbers})[0]
    assert np.array_equal(int4_embedding(torch.from_numpy(ids), *tensors(numbers)).numpy(), expected)
    assert np.array_equal(made.dequantize()[ids], expected)


def high_bits_first(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return numbers | {"codes": (numbers["codes"] << 4) | (numbers["codes"] >> 4)}


def zero_points_turned(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return numbers | {"zeros": (numbers["zeros"] << 4) | (numbers["zeros"] >> 4)}


def scales_of_the_next_group(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return numbers | {"scales": np.roll(numbers["scales"], 1, axis=1)}


@pytest.mark.parametrize("broken", [high_bits_first, zero_points_turned, scales_of_the_next_group])
def test_the_reference_rejects_a_broken_layout(broken: Callable[..., dict[str, np.ndarray]]) -> None:
    numbers = stored(groups(16, 48, symmetric=False), nn.Linear(48, ROWS))
    values = np.random.default_rng(0).normal(size=(2, 48)).astype(np.float32)
    expected = matmul(16, 48).run(None, {"values": values, **numbers})[0]
    made = int4_linear(torch.from_numpy(values), *tensors(broken(numbers))).numpy()
    assert largest_difference(made, expected) > 1e-2
    table = stored(groups(16, 48, symmetric=False), nn.Embedding(ROWS, 48))
    ids = np.arange(ROWS)
    expected = gather(16).run(None, {"ids": ids, **table})[0]
    assert not np.allclose(int4_embedding(torch.from_numpy(ids), *tensors(broken(table))).numpy(), expected)


HALF_MATMUL = session(
    [
        helper.make_node("Cast", ["weight"], ["wide"], to=FLOAT),
        helper.make_node("MatMul", ["values", "wide"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["result"]),
    ],
    {"values": FLOAT, "weight": TensorProto.FLOAT16, "bias": FLOAT},
    "result",
)
HALF_TABLE = session(
    [
        helper.make_node("Gather", ["weight", "ids"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["result"], to=FLOAT),
    ],
    {"weight": TensorProto.FLOAT16, "ids": TensorProto.INT64},
    "result",
)


def half() -> Float16:
    """Return numbers of every size that half precision knows, those below its normal range too."""
    random = np.random.default_rng(0)
    return Float16.of((random.normal(size=(ROWS, 24)) * 10.0 ** random.integers(-7, 4, size=(ROWS, 24))).astype("f4"))


def test_the_layers_of_half_precision_are_onnxruntimes() -> None:
    linear, table = half().module(nn.Linear(24, ROWS)), half().module(nn.Embedding(ROWS, 24))
    values, ids = np.random.default_rng(1).normal(size=(2, 3, 24)).astype(np.float32), np.array([[6, 0], [3, 3]])
    numbers = {name: tensor.detach().numpy() for name, tensor in linear.state_dict().items()}
    expected = HALF_MATMUL.run(None, {"values": values, **numbers})[0]
    with torch.no_grad():
        assert largest_difference(linear(torch.from_numpy(values)).numpy(), expected) < 1e-5
        rounded = linear(torch.from_numpy(values.astype(np.float16).astype(np.float32))).numpy()
    assert largest_difference(rounded, expected) > 1e-5, "an activation in half precision would be seen"
    expected = HALF_TABLE.run(None, {"weight": table.weight.numpy(), "ids": ids})[0]
    assert np.array_equal(table(torch.from_numpy(ids)).numpy(), expected)
    assert not np.array_equal(table(torch.from_numpy(ids[::-1].copy())).numpy(), expected)
