"""As dynamic_int8, with weights stored as unsigned codes around 128: the same numbers, another instruction.

A CPU without VNNI or dotprod adds products of unsigned by signed bytes in 16 bits, which saturate; unsigned by unsigned
ones it widens first. So 8-bit codes are exact there, where dynamic_int8 falls back to 7 bits. It is slower: for a CPU
that has the instructions, dynamic_int8 is the better one.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, on U8U8 and U8S8.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.section import MethodOptions, Width

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.training.rows import TokenRows


class Options(MethodOptions):
    """8-bit weights and tables, activations measured on the fly; no CPU saturates."""

    method: Literal["dynamic_uint8"]
    granularity: Literal["per_channel", "per_tensor"] = Field(
        "per_channel", description="One scale for each output channel, or one for the whole matrix."
    )
    min_weights: int = Field(
        1 << 16, ge=0, description="Linear layers with fewer weights stay float: they save nothing, and rounding costs."
    )
    embeddings: Width = Field("int8", description="Width of embedding tables; as float32 the file hardly shrinks.")

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
        calibration: not read.
    """
    from torch import nn

    from edgedistill.quantize.affine import quantize_rows, quantize_whole
    from edgedistill.quantize.decisions import Int8
    from edgedistill.quantize.widths import FULL_RANGE, at_width, quantizable

    rounded = quantize_rows if options.granularity == "per_channel" else quantize_whole
    for name, layer in quantizable(model).items():
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= options.min_weights:
            yield name, Int8(rounded(layer.weight.detach().numpy(), FULL_RANGE), unsigned=True)
        elif isinstance(layer, nn.Embedding):
            decision = at_width(name, layer, options.embeddings)
            if decision is not None:
                yield name, decision
