"""Layers whose weights are stored small and multiplied as float32: half precision, and 4-bit codes in groups.

As in `int8_layers.py`, running an operator is the simulation, and its name is what is exported. No activation is
rounded, so a batch changes nothing.

Source: onnxruntime's contrib operators MatMulNBits and GatherBlockQuantized,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, for the layout of the packed codes.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOAT16 = "edgedistill::float16_weight"
INT4_LINEAR, INT4_EMBEDDING = "edgedistill::int4_linear", "edgedistill::int4_embedding"


@torch.library.custom_op(FLOAT16, mutates_args=())
def float16_weight(weight: Tensor) -> Tensor:
    """Return `weight`, of any shape, as float32; an operator, so that no exporter folds it into float32 again."""
    return weight.float()


@float16_weight.register_fake
def _(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape, dtype=torch.float32)


@torch.library.custom_op(INT4_LINEAR, mutates_args=())
def int4_linear(values: Tensor, packed: Tensor, scales: Tensor, zero_points: Tensor) -> Tensor:
    """Return values @ weight.T, where weight[r, c] is (code - zero_point) * scale of its group.

    Args:
        values: (..., columns) float32.
        packed: (rows, groups, group_size / 2) uint8, two codes in each, the first one in the low bits.
        scales: (rows, groups) float32.
        zero_points: (rows, ceil(groups / 2)) uint8, packed likewise.

    Returns:
        (..., rows) float32.
    """
    return F.linear(values, unpacked(packed, scales, zero_points))


@int4_linear.register_fake
def _(values: Tensor, packed: Tensor, scales: Tensor, zero_points: Tensor) -> Tensor:  # noqa: ARG001 - PyTorch's signature
    return values.new_empty((*values.shape[:-1], packed.shape[0]))


@torch.library.custom_op(INT4_EMBEDDING, mutates_args=())
def int4_embedding(ids: Tensor, packed: Tensor, scales: Tensor, zero_points: Tensor) -> Tensor:
    """Return rows of a table of 4-bit codes, (..., columns) float32.

    Args:
        ids: (...) int64.
        packed: (rows, columns / 2) uint8, two codes in each, the first one in the low bits.
        scales: (rows, groups) float32.
        zero_points: (rows, ceil(groups / 2)) uint8, packed likewise.
    """
    groups, rows = scales.shape[1], ids.reshape(-1)
    chosen = packed[rows].reshape(len(rows), groups, -1)
    return unpacked(chosen, scales[rows], zero_points[rows]).reshape(*ids.shape, 2 * packed.shape[1])


@int4_embedding.register_fake
def _(ids: Tensor, packed: Tensor, scales: Tensor, zero_points: Tensor) -> Tensor:  # noqa: ARG001
    return scales.new_empty((*ids.shape, 2 * packed.shape[1]))


def unpacked(packed: Tensor, scales: Tensor, zero_points: Tensor) -> Tensor:
    """Return the float32 weight, (rows, columns), that packed codes (rows, groups, group_size / 2) stand for."""
    groups = scales.shape[1]
    codes = _nibbles(packed)  # (rows, groups, group_size)
    zeros = _nibbles(zero_points)[:, :groups]  # (rows, groups)
    weight = (codes.float() - zeros.float().unsqueeze(-1)) * scales.unsqueeze(-1)
    return weight.flatten(1)


def _nibbles(packed: Tensor) -> Tensor:
    """Return two codes for each byte of the last axis, the low bits first."""
    return torch.stack([packed & 15, packed >> 4], dim=-1).flatten(-2)


class Float16Linear(nn.Module):
    """Stands in for nn.Linear; keeps the weight in half precision and multiplies in single."""

    KIND: ClassVar[str] = "float16_linear"
    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)  # (columns, rows) float16
        self.register_buffer("bias", bias)  # (rows,) float32

    def forward(self, values: Tensor) -> Tensor:
        """Return the linear map of `values`, (..., rows)."""
        product: Tensor = values @ float16_weight(self.weight) + self.bias
        return product


class Float16Embedding(nn.Module):
    """Stands in for nn.Embedding; only the vectors that are looked up become single precision."""

    KIND: ClassVar[str] = "float16_embedding"
    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)  # (rows, columns) float16

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of `ids`, (..., columns)."""
        vectors: Tensor = float16_weight(F.embedding(ids, self.weight))
        return vectors


class Int4Linear(nn.Module):
    """Stands in for nn.Linear; holds 4-bit codes in groups of columns."""

    KIND: ClassVar[str] = "int4_linear"
    packed: Tensor
    scales: Tensor
    zero_points: Tensor
    bias: Tensor

    def __init__(self, packed: Tensor, scales: Tensor, zero_points: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("packed", packed)  # (rows, groups, group_size / 2) uint8
        self.register_buffer("scales", scales)  # (rows, groups) float32
        self.register_buffer("zero_points", zero_points)  # (rows, ceil(groups / 2)) uint8
        self.register_buffer("bias", bias)  # (rows,) float32

    def forward(self, values: Tensor) -> Tensor:
        """Return the linear map of `values`, (..., rows)."""
        product: Tensor = int4_linear(values, self.packed, self.scales, self.zero_points) + self.bias
        return product


class Int4Embedding(nn.Module):
    """Stands in for nn.Embedding; holds 4-bit codes in groups of columns."""

    KIND: ClassVar[str] = "int4_embedding"
    packed: Tensor
    scales: Tensor
    zero_points: Tensor

    def __init__(self, packed: Tensor, scales: Tensor, zero_points: Tensor) -> None:
        super().__init__()
        self.register_buffer("packed", packed)  # (rows, columns / 2) uint8
        self.register_buffer("scales", scales)  # (rows, groups) float32
        self.register_buffer("zero_points", zero_points)  # (rows, ceil(groups / 2)) uint8

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of `ids`, (..., columns)."""
        vectors: Tensor = int4_embedding(ids, self.packed, self.scales, self.zero_points)
        return vectors
