"""Weights and embedding tables as int8; activations as uint8 over ranges that the calibration split decides.

Nothing is measured while the model runs, so the same text always gets the same answer, whatever stands beside it in a
batch. What lies outside a range is clipped.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, on static quantization.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.quantize.methods import _int8
from edgedistill.quantize.methods._int8 import Int8Options

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.training.rows import TokenRows

decide_range, needs = _int8.decide_range, _int8.needs


class Options(Int8Options):
    """8-bit weights and tables, and how the range of an activation is found."""

    method: Literal["static_int8"]
    ranges: Literal["min_max", "percentile", "entropy"] = Field(
        "min_max", description="All calibration inputs, most of them, or those that lose the least information."
    )
    percentile: float = Field(
        99.999, gt=50, le=100, description="Inputs inside the range in percent, with ranges: percentile."
    )

    SCHEME: ClassVar[str] = "int8_static"


def quantize(model: Any, options: Options, calibration: "TokenRows") -> Iterator[tuple[str, "Decision"]]:
    """Yield (layer name, decision) for every embedding table and large linear layer of `model`.

    Args:
        model: float, in evaluation mode; left as it is.
        calibration: decides the range of every linear layer's input.

    Raises:
        QuantizationError: there are no calibration rows, or an activation is not finite.
    """
    from edgedistill.quantize.ranges import RangeRule

    rule = RangeRule(options.ranges, options.percentile)
    yield from _int8.decided(model, options, calibration, reduced_range=decide_range(options)[0], ranges=rule)
