"""Exact products of 8-bit codes, as ONNX's MatMulInteger has them: by integer instructions where those are exact.

Source: ONNX operator MatMulInteger-10, https://onnx.ai/onnx/operators/onnx__MatMulInteger.html
"""

from functools import cache

import torch
from torch import Tensor

UNSIGNED_ZERO = 128  # the unsigned code of 0


def integer_product(quantized: Tensor, zero_point: Tensor, codes: Tensor) -> Tensor:
    """Return (quantized - zero_point) @ codes, summed exactly, then rounded to float32; (..., rows).

    Args:
        quantized: (..., columns) whole numbers from 0 to 255, of any type.
        zero_point: () whole number from 0 to 255, of any type.
        codes: (columns, rows) int8, or uint8, where UNSIGNED_ZERO stands for 0.
    """
    if codes.dtype == torch.uint8:
        codes = (codes.short() - UNSIGNED_ZERO).to(torch.int8)
    if codes.device.type != "cpu" or not integers_are_exact():
        return (quantized.double() - zero_point.double()).matmul(codes.double()).float()
    rows = (quantized.reshape(-1, codes.shape[0]) - UNSIGNED_ZERO).to(torch.int8)
    moved = (UNSIGNED_ZERO - zero_point.int()) * codes.sum(dim=0, dtype=torch.int32)
    return (torch._int_mm(rows, codes) + moved).float().reshape(*quantized.shape[:-1], codes.shape[1])


@cache
def integers_are_exact() -> bool:
    """Whether this CPU's product of 8-bit matrices loses nothing, even where every pair is as large as it can be.

    Without the VNNI instructions pairs may be summed in 16 bits, and saturate.
    """
    for left in (-128, 127):
        for right in (-128, 127):
            product = torch._int_mm(
                torch.full((32, 64), left, dtype=torch.int8), torch.full((64, 32), right, dtype=torch.int8)
            )
            if not bool((product == 64 * left * right).all()):
                return False
    return True
