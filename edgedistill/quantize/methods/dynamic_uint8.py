"""As dynamic_int8, with a linear layer's codes stored unsigned around 128: the same numbers, another instruction.

A CPU without VNNI or dotprod adds products of unsigned by signed bytes in 16 bits, which saturate; unsigned by unsigned
ones it widens first. So codes of 8 bits are right on every CPU, where dynamic_int8 may need 7. Where the CPU has the
instructions, dynamic_int8 is the faster one.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, on U8U8 and U8S8.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgedistill.quantize.methods import _int8
from edgedistill.quantize.methods._int8 import CodesOptions

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.training.rows import TokenRows


class Options(CodesOptions):
    """8-bit weights and tables, activations measured on the fly; right on every CPU."""

    method: Literal["dynamic_uint8"]

    SCHEME: ClassVar[str] = "uint8_dynamic"


def decide_range(options: Options) -> tuple[bool, str]:
    """Return that codes keep their full range, and why, in words."""
    return False, "unsigned codes are widened before they are multiplied, and do not saturate"


def needs(options: Options) -> dict[str, Any]:
    """Return what the result depends on besides the options: nothing."""
    return {}


def quantize(model: Any, options: Options, calibration: "TokenRows") -> Iterator[tuple[str, "Decision"]]:
    """Yield (layer name, decision) for every embedding table and large linear layer of `model`.

    Args:
        model: float, in evaluation mode; left as it is.
        calibration: read for smoothing and for rounding by gptq.

    Raises:
        QuantizationError: one of these is asked for, and there are no calibration rows.
    """
    from torch import nn

    from edgedistill.quantize.decisions import Int8

    for name, decision in _int8.decided(model, options, calibration, reduced_range=False):
        if isinstance(decision, Int8) and isinstance(model.get_submodule(name), nn.Linear):
            yield name, replace(decision, unsigned=True)
        else:
            yield name, decision
