"""Weights as 4-bit codes, with a scale for each group of columns; activations stay float32.

On a CPU this buys size and memory, seldom speed: the codes are widened before they are multiplied.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, on MatMulNBits and
GatherBlockQuantized.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.quantize.methods import _weight_only
from edgedistill.quantize.methods._gate import Gate, GatedOptions
from edgedistill.section import Rounding, Width

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.training.rows import TokenRows

decide_range, needs = _weight_only.decide_range, _weight_only.needs


class Options(GatedOptions):
    """How many columns share a scale, and whether a group has a zero point of its own."""

    method: Literal["int4_groupwise"]
    group_size: Literal[16, 32, 64, 128, 256] = Field(
        32, examples=[64], description="Columns that share a scale; fewer are more exact, and each scale takes 4 bytes."
    )
    symmetric: bool = Field(False, description="Codes around a fixed zero point; else each group has its own.")
    min_weights: int = Field(
        1 << 12, ge=0, description="Linear layers with fewer weights stay float: they save nothing, and rounding costs."
    )
    rounding: Rounding = "nearest"
    embeddings: Width = Field("int4", description="Width of embedding tables.")
    gate: Gate | None = Field(
        Gate(min_agreement=0.97, max_metric_loss=0.01),
        description="How close to its float student the model must stay; null: anything. 4 bits cost more than 8.",
    )

    SCHEME: ClassVar[str] = "int4"


def quantize(model: Any, options: Options, calibration: "TokenRows") -> Iterator[tuple[str, "Decision"]]:
    """Yield (layer name, decision) for every table and every linear layer that is large enough.

    Args:
        model: float, in evaluation mode; left as it is.
        calibration: read for rounding by gptq.

    Raises:
        QuantizationError: the groups do not fill a layer's columns, or gptq has no calibration rows.
    """
    from torch import nn

    from edgedistill.quantize.affine import quantize_groups
    from edgedistill.quantize.decisions import Int4
    from edgedistill.quantize.gptq import optimised_groups
    from edgedistill.quantize.inputs import Wanted, inputs_of
    from edgedistill.quantize.widths import at_width, left_to_method, naming, quantizable

    layers = left_to_method(quantizable(model), options.overrides)
    tables = [name for name, layer in layers.items() if isinstance(layer, nn.Embedding)]
    large = [name for name in layers if name not in tables and layers[name].weight.numel() >= options.min_weights]
    inputs = inputs_of(model, large, Wanted(hessian=options.rounding == "gptq"), calibration)
    for name, layer in layers.items():
        if name in tables and options.embeddings != "int4":
            decision = at_width(name, layer, options.embeddings)
            if decision is not None:
                yield name, decision
        elif name in tables or name in inputs:
            weight = layer.weight.detach().numpy()
            with naming(name):
                groups = quantize_groups(weight, options.group_size, symmetric=options.symmetric)
            hessian = inputs[name].hessian if name in inputs else None
            if hessian is not None:
                groups = optimised_groups(weight, groups, hessian)
            yield name, Int4(groups)
