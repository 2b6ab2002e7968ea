"""What quantization may decide about one layer: its stored numbers, and the module that stands in for it.

A decision is made once, in numpy; simulation, file and report all read it. All kinds of decision have the same
attributes: `scheme` in words, `bits` of a stored number, and `code_limit` where 8-bit codes have one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edgedistill.errors import QuantizationError
from edgedistill.models.int8_layers import DynamicInt8Linear, Int8Embedding, StaticInt8Linear
from edgedistill.models.integer_product import UNSIGNED_ZERO
from edgedistill.models.smoothed import Smoothed
from edgedistill.models.weight_only_layers import Float16Embedding, Float16Linear, Int4Embedding, Int4Linear
from edgedistill.quantize.affine import GroupQuantized, RowQuantized, packed


@dataclass(frozen=True)
class InputRange:
    """How activations in low..high become uint8."""

    scale: float  # > 0
    zero_point: int  # 0..255, the code of 0

    @classmethod
    def of(cls, low: float, high: float) -> "InputRange":
        """Return the finest scale that reaches from `low` to `high`, both widened to hold 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32((high - low) / 255)) or 1.0
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


@dataclass(frozen=True)
class Int8:
    """Codes of 8 bits; a linear layer rounds its input too, over a known range or over the one it finds."""

    rows: RowQuantized
    input_range: InputRange | None = None  # None: measured on the fly
    smoothing: np.ndarray | None = None  # (columns,) float32 > 0; `rows` is the weight times this
    unsigned: bool = False  # a linear layer's codes are stored as uint8, 128 more than they are

    @property
    def scheme(self) -> str:
        """Width, granularity, symmetry, and what is done to the input."""
        granularity = "per_tensor" if len(self.rows.scales) < len(self.rows.codes) else "per_channel"
        smoothed = ", smoothed input" if self.smoothing is not None else ""
        calibrated = ", calibrated input" if self.input_range is not None else ""
        return f"{'uint8' if self.unsigned else 'int8'} {granularity} symmetric{smoothed}{calibrated}"

    @property
    def bits(self) -> int:
        """Of one code."""
        return 8 if self.rows.limit > 63 else 7

    @property
    def code_limit(self) -> int | None:
        """Codes lie in -code_limit..code_limit."""
        return self.rows.limit

    def module(self, replaced: nn.Module) -> nn.Module:
        """Return the table or the linear layer of 8-bit codes."""
        scales = torch.from_numpy(self.rows.scales)
        if isinstance(replaced, nn.Embedding):
            every_row = scales.expand(len(self.rows.codes))
            return Int8Embedding(torch.from_numpy(self.rows.codes), every_row[:, None].contiguous())
        codes = torch.from_numpy(np.ascontiguousarray(self.rows.codes.T))
        if self.unsigned:
            codes = (codes.short() + UNSIGNED_ZERO).to(torch.uint8)
        bias = _bias(replaced, len(self.rows.codes))
        if self.input_range is None:
            layer: nn.Module = DynamicInt8Linear(codes, scales, bias)
        else:
            scale = torch.tensor(self.input_range.scale, dtype=torch.float32)
            zero_point = torch.tensor(self.input_range.zero_point, dtype=torch.uint8)
            layer = StaticInt8Linear(codes, scales, bias, scale, zero_point)
        if self.smoothing is None:
            return layer
        return Smoothed(torch.from_numpy(np.float32(1) / self.smoothing), layer)

    def weight(self) -> np.ndarray:
        """Return the float32 matrix that the codes stand for, smoothing undone."""
        made = self.rows.dequantize()
        return made if self.smoothing is None else made / self.smoothing

    def max_error_in_steps(self, weight: np.ndarray) -> float:
        """Return the largest rounding error, in units of the scale."""
        return self.rows.max_error_in_steps(weight if self.smoothing is None else weight * self.smoothing)


@dataclass(frozen=True)
class Int4:
    """Codes of 4 bits in groups of columns, multiplied as float32."""

    groups: GroupQuantized

    bits = 4
    code_limit = None

    @property
    def scheme(self) -> str:
        """Width, group size, symmetry."""
        symmetry = "symmetric" if self.groups.symmetric else "asymmetric"
        return f"int4 per_group {self.groups.group_size} {symmetry}"

    def module(self, replaced: nn.Module) -> nn.Module:
        """Return the table or the linear layer of 4-bit codes."""
        rows, groups = self.groups.scales.shape
        scales = torch.from_numpy(self.groups.scales)
        zero_points = torch.from_numpy(packed(self.groups.zero_points))
        codes = torch.from_numpy(packed(self.groups.codes.reshape(rows, groups, -1)))
        if isinstance(replaced, nn.Embedding):
            return Int4Embedding(codes.flatten(1).contiguous(), scales, zero_points)
        return Int4Linear(codes, scales, zero_points, _bias(replaced, rows))

    def weight(self) -> np.ndarray:
        """Return the float32 matrix that the codes stand for."""
        return self.groups.dequantize()

    def max_error_in_steps(self, weight: np.ndarray) -> float:
        """Return the largest rounding error, in units of the group's scale."""
        return self.groups.max_error_in_steps(weight)


@dataclass(frozen=True)
class Float16:
    """The weight in half precision, multiplied as float32."""

    half: np.ndarray  # (rows, columns) float16

    scheme = "float16"
    bits = 16
    code_limit = None

    @classmethod
    def of(cls, weight: np.ndarray) -> "Float16":
        """Return the nearest half-precision numbers.

        Raises:
            QuantizationError: a weight is beyond what half precision reaches, or not finite.
        """
        largest = float(np.abs(weight).max(initial=0.0))
        if not largest <= float(np.finfo(np.float16).max):
            raise QuantizationError(
                f"a weight of {largest:g} does not fit into float16, which ends at 65504; use another width"
            )
        return cls(weight.astype(np.float16))

    def module(self, replaced: nn.Module) -> nn.Module:
        """Return the table or the linear layer of half-precision numbers."""
        if isinstance(replaced, nn.Embedding):
            return Float16Embedding(torch.from_numpy(self.half))
        half = torch.from_numpy(np.ascontiguousarray(self.half.T))
        return Float16Linear(half, _bias(replaced, len(self.half)))

    def weight(self) -> np.ndarray:
        """Return the float32 matrix that is multiplied."""
        return self.half.astype(np.float32)

    def max_error_in_steps(self, weight: np.ndarray) -> float:  # noqa: ARG002 - the others' signature
        """Return 0: there is no scale."""
        return 0.0


Decision = Int8 | Int4 | Float16


def _bias(replaced: Any, rows: int) -> torch.Tensor:
    return torch.zeros(rows) if replaced.bias is None else replaced.bias.detach().clone()
