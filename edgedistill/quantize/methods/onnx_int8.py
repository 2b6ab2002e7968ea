"""Matrices as 8-bit codes for onnxruntime, one scale for each 32 columns of a row, table and head with them.

With a zero point of its own a block of 32 takes 9.25 bits a weight, one of 128 takes 8.31.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, on MatMulNBits and
GatherBlockQuantized.
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _blocks
from edgedistill.quantize.methods._blocks import BlockOptions, BlockWidth

decide, needs, save = _blocks.decide, _blocks.needs, _blocks.save


class Options(BlockOptions):
    """Codes of 8 bits unless an override says otherwise."""

    method: Literal["onnx_int8"]

    SCHEME: ClassVar[str] = "onnx_int8"
    WIDTH: ClassVar[BlockWidth] = "int8"
