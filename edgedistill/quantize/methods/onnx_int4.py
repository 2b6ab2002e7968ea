"""Matrices as 4-bit codes for onnxruntime, one scale for each 32 columns of a row, table and head with them.

With a zero point of its own a block of 32 takes 5.125 bits a weight, one of 128 takes 4.28.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, on MatMulNBits and
GatherBlockQuantized.
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _blocks
from edgedistill.quantize.methods._blocks import BlockOptions, BlockWidth

decide, needs, save = _blocks.decide, _blocks.needs, _blocks.save


class Options(BlockOptions):
    """Codes of 4 bits unless an override says otherwise."""

    method: Literal["onnx_int4"]

    SCHEME: ClassVar[str] = "onnx_int4"
    WIDTH: ClassVar[BlockWidth] = "int4"
