"""Each layer at the narrowest width that a stated loss allows: few bytes where they do not matter, more where they do.

The loss is the mean KL divergence from the float student on validation rows. It moves with every row, where a metric
moves only when an answer flips: so it tells layers apart, and a few hundred rows are enough. `max_metric_loss` is held
beside it where gold labels exist. The widths that were chosen stand in the result as `overrides`: with these the same
file comes out again.

Source: https://github.com/microsoft/Olive, whose SelectiveMixedPrecision passes choose widths per layer, for decoders.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.quantize.methods import _int8
from edgedistill.quantize.methods._int8 import CpuOptions
from edgedistill.section import LayerOptions, Width

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.quantize.trial import Settled, Trial
    from edgedistill.training.rows import TokenRows

decide_range, needs = _int8.decide_range, _int8.needs
Narrow = Literal["int4", "int8", "float16"]
NARROWEST_FIRST: tuple[Narrow, ...] = ("int4", "int8", "float16")


class Options(CpuOptions, LayerOptions):
    """How much may be lost, and which widths may be used for it."""

    method: Literal["mixed"]
    max_kl: float = Field(0.01, gt=0, description="Most mean KL divergence from the float student, in nats.")
    max_metric_loss: float = Field(
        0.005, ge=0, lt=1, description="Most that the metric may fall below the float student's, where gold exists."
    )
    widths: tuple[Narrow, ...] = Field(
        NARROWEST_FIRST, min_length=1, description="Widths to choose from; float32 is always one more."
    )
    min_weights: int = Field(
        1 << 12, ge=0, description="Linear layers with fewer weights stay float: they save nothing, and rounding costs."
    )

    SCHEME: ClassVar[str] = "mixed"


def quantize(model: Any, options: Options, calibration: "TokenRows") -> "Iterator[tuple[str, Decision]]":
    """Yield (layer name, decision) for every table and large layer that no override names, at its narrowest width.

    Args:
        model: float, in evaluation mode; left as it is.
        calibration: not read.
    """
    for name, decisions in _forms(model, options):
        if decisions:
            yield name, next(iter(decisions.values()))


def settle(options: Options, trial: "Trial") -> "Settled":
    """Return the widths that keep the stated loss with few bytes, as overrides, with every model that was measured.

    Raises:
        QuantizationError: only the float student loses so little; the text has the numbers.
    """
    from edgedistill.quantize.mixing import mix

    return mix(options, trial, dict(_forms(trial.model, options)))


def _forms(model: Any, options: Options) -> "Iterator[tuple[str, dict[Width, Decision]]]":
    """Yield each table and large layer that no override names, at all widths that can hold it, the narrowest first."""
    from torch import nn

    from edgedistill.quantize.widths import FULL_RANGE, REDUCED_RANGE, at_widths, left_to_method, quantizable

    limit = REDUCED_RANGE if decide_range(options)[0] else FULL_RANGE
    widths = [width for width in NARROWEST_FIRST if width in options.widths]
    for name, layer in left_to_method(quantizable(model), options.overrides).items():
        if isinstance(layer, nn.Embedding) or layer.weight.numel() >= options.min_weights:
            yield name, at_widths(name, layer, widths, limit)
