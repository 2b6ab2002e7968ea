"""Layers of 8-bit codes, as PyTorch operators: running one is the simulation, its name is what is exported.

Each operator computes exactly what the ONNX operators of its translation compute, up to the order of float sums, so
the simulated quality is the quality of the file. Where an activation's range is measured on the fly, that holds for
the same batches only: the range spans its batch, and padding too.

Source: ONNX operators DynamicQuantizeLinear-11, QuantizeLinear-13, DequantizeLinear-13 and MatMulInteger-10,
https://onnx.ai/onnx/operators/
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from edgedistill.models.integer_product import integer_product

LINEAR, EMBEDDING = "edgedistill::dynamic_int8_linear", "edgedistill::int8_embedding"
STATIC_LINEAR = "edgedistill::static_int8_linear"


@torch.library.custom_op(LINEAR, mutates_args=())
def dynamic_int8_linear(values: Tensor, codes: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    """Return values @ (codes * scales) + bias, with `values` rounded to uint8 over their own range.

    Args:
        values: (..., columns) float32; its range, widened to include 0, is measured over the whole tensor.
        codes: (columns, rows) int8, or uint8, where UNSIGNED_ZERO stands for 0.
        scales: (rows,) float32, or (1,) where one scale holds for all rows.
        bias: (rows,) float32.

    Returns:
        (..., rows) float32.
    """
    low = torch.clamp(values.min(), max=0.0)
    high = torch.clamp(values.max(), min=0.0)
    scale = (high - low) / 255.0
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.clamp(torch.round(-low / scale), 0, 255)
    quantized = torch.clamp(torch.round(values / scale) + zero_point, 0, 255)
    return integer_product(quantized, zero_point, codes) * (scale * scales) + bias


@dynamic_int8_linear.register_fake
def _(values: Tensor, codes: Tensor, scales: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 - PyTorch's signature
    return values.new_empty((*values.shape[:-1], codes.shape[1]))


@torch.library.custom_op(STATIC_LINEAR, mutates_args=())
def static_int8_linear(
    values: Tensor, codes: Tensor, scales: Tensor, bias: Tensor, input_scale: Tensor, input_zero_point: Tensor
) -> Tensor:
    """Return values @ (codes * scales) + bias, with `values` rounded to uint8 over a range that is known before.

    What lies outside the range is clipped to its ends. No text of a batch changes what another one gets.

    Args:
        values: (..., columns) float32.
        codes: (columns, rows) int8.
        scales: (rows,) float32, or (1,) where one scale holds for all rows.
        bias: (rows,) float32.
        input_scale: () float32.
        input_zero_point: () uint8.

    Returns:
        (..., rows) float32.
    """
    quantized = torch.clamp(torch.round(values / input_scale) + input_zero_point.float(), 0, 255)
    return integer_product(quantized, input_zero_point, codes) * (input_scale * scales) + bias


@static_int8_linear.register_fake
def _(
    values: Tensor,
    codes: Tensor,
    scales: Tensor,  # noqa: ARG001 - PyTorch's signature
    bias: Tensor,  # noqa: ARG001
    input_scale: Tensor,  # noqa: ARG001
    input_zero_point: Tensor,  # noqa: ARG001
) -> Tensor:
    return values.new_empty((*values.shape[:-1], codes.shape[1]))


@torch.library.custom_op(EMBEDDING, mutates_args=())
def int8_embedding(ids: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Return rows of a table: codes[ids] * scales[ids], (..., columns) float32.

    Args:
        ids: (...) int64.
        codes: (rows, columns) int8.
        scales: (rows, 1) float32.
    """
    return codes[ids].float() * scales[ids]


@int8_embedding.register_fake
def _(ids: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    return scales.new_empty((*ids.shape, codes.shape[1]))


class DynamicInt8Linear(nn.Module):
    """Stands in for nn.Linear; holds codes instead of weights, and measures the range of what comes in."""

    KIND: ClassVar[str] = "dynamic_int8_linear"

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)  # (columns, rows) int8 or uint8, as MatMulInteger wants them
        self.register_buffer("scales", scales)  # (rows,) or (1,) float32
        self.register_buffer("bias", bias)  # (rows,) float32

    def forward(self, values: Tensor) -> Tensor:
        """Return the linear map of `values`, (..., rows)."""
        product: Tensor = dynamic_int8_linear(values, self.codes, self.scales, self.bias)
        return product


class StaticInt8Linear(nn.Module):
    """Stands in for nn.Linear; holds codes instead of weights, and the calibrated range of what comes in."""

    KIND: ClassVar[str] = "static_int8_linear"

    def __init__(
        self, codes: Tensor, scales: Tensor, bias: Tensor, input_scale: Tensor, input_zero_point: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("codes", codes)  # (columns, rows) int8
        self.register_buffer("scales", scales)  # (rows,) or (1,) float32
        self.register_buffer("bias", bias)  # (rows,) float32
        self.register_buffer("input_scale", input_scale)  # () float32
        self.register_buffer("input_zero_point", input_zero_point)  # () uint8

    def forward(self, values: Tensor) -> Tensor:
        """Return the linear map of `values`, (..., rows)."""
        product: Tensor = static_int8_linear(
            values, self.codes, self.scales, self.bias, self.input_scale, self.input_zero_point
        )
        return product


class Int8Embedding(nn.Module):
    """Stands in for nn.Embedding; holds codes instead of weights."""

    KIND: ClassVar[str] = "int8_embedding"

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)  # (rows, columns) int8
        self.register_buffer("scales", scales)  # (rows, 1) float32

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of `ids`, (..., columns)."""
        vectors: Tensor = int8_embedding(ids, self.codes, self.scales)
        return vectors
