"""Weights and embedding tables as int8, one scale per output channel or table row; activations as uint8 on the fly.

Ranges are not calibrated: each activation's is measured when it is there. Where a CPU multiplies u8 by s8 without
a dot-product instruction (AVX2 without VNNI), two products are added in 16 bits and saturate; codes of 7 bits keep
the sum below that.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, on dynamic quantization and
reduced range.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgedistill.quantize.methods import _int8
from edgedistill.quantize.methods._int8 import Int8Options

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.training.rows import TokenRows

decide_range, needs = _int8.decide_range, _int8.needs


class Options(Int8Options):
    """8-bit weights and tables, activations measured on the fly."""

    method: Literal["dynamic_int8"]

    SCHEME: ClassVar[str] = "int8_dynamic"


def quantize(model: Any, options: Options, calibration: "TokenRows") -> Iterator[tuple[str, "Decision"]]:
    """Yield (layer name, decision) for every embedding table and large linear layer of `model`.

    A table or layer that the model reads by its weight, without calling it, stays float. Rows are output channels of a
    linear layer and entries of a table.

    Args:
        model: float, in evaluation mode; left as it is.
        calibration: read for smoothing and for rounding by gptq.

    Raises:
        QuantizationError: one of these is asked for, and there are no calibration rows.
    """
    yield from _int8.decided(model, options, calibration, reduced_range=decide_range(options)[0])
