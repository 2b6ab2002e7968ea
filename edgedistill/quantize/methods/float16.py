"""Every weight in half precision, multiplied as float32: half the file, and hardly ever another answer.

The file converts a layer's weight when it is loaded, and a token's vector when it is looked up; so it is as fast as
float32 on a CPU, which has few kernels for half precision, and no activation can overflow.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/float16.html
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgedistill.quantize.methods import _weight_only
from edgedistill.section import LayerOptions

if TYPE_CHECKING:
    from edgedistill.quantize.decisions import Decision
    from edgedistill.training.rows import TokenRows

decide_range, needs = _weight_only.decide_range, _weight_only.needs


class Options(LayerOptions):
    """Half precision for every layer and table."""

    method: Literal["float16"]

    SCHEME: ClassVar[str] = "float16"


def quantize(model: Any, options: Options, calibration: "TokenRows") -> Iterator[tuple[str, "Decision"]]:
    """Yield (layer name, decision) for every linear layer and table that `model` calls.

    Args:
        model: float, in evaluation mode; left as it is.
        calibration: not read.

    Raises:
        QuantizationError: a weight is beyond 65504.
    """
    from edgedistill.quantize.decisions import Float16
    from edgedistill.quantize.widths import left_to_method, naming, quantizable

    for name, layer in left_to_method(quantizable(model), options.overrides).items():
        with naming(name):
            decision = Float16.of(layer.weight.detach().numpy())
        yield name, decision
