"""Trying options: what a method decides under them, what that costs, and how many bytes it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill import registry
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.exchange import stored_bytes
from edgedistill.quantize.judge import Judge
from edgedistill.quantize.widths import FULL_RANGE, REDUCED_RANGE, overridden, quantizable
from edgedistill.section import LayerOptions
from edgedistill.training.rows import TokenRows
from edgedistill.values import Rung, Sensitivity

METHODS = "edgedistill.quantize.methods"


@dataclass(frozen=True)
class Trial:
    """The float student, what methods may choose on, and who judges what they chose."""

    model: Any  # float, in evaluation mode; left as it is
    calibration: TokenRows
    judge: Judge

    def decide(self, options: LayerOptions) -> dict[str, Decision]:
        """Return what the method and the overrides decide about each layer.

        Raises:
            QuantizationError: a weight cannot be stored so.
        """
        method: Any = registry.load(METHODS, options.method)
        decided = dict(method.quantize(self.model, options, self.calibration))
        return overridden(quantizable(self.model), decided, options.overrides, code_limit(options))

    def stored_bytes(self, decided: Mapping[str, Decision]) -> int:
        """Return what all numbers of the model take, those that stay float among them."""
        floats = sum(tensor.nbytes for tensor in self.model.state_dict().values())
        return int(floats) - sum(self.saved_bytes(name, decision) for name, decision in decided.items())

    def saved_bytes(self, name: str, decision: Decision) -> int:
        """Return what one decision saves against float32."""
        layer = self.model.get_submodule(name)
        return int(layer.weight.nbytes) - stored_bytes(decision, layer)


@dataclass(frozen=True)
class Settled:
    """The options that are used in the end, and how they were found."""

    options: LayerOptions
    decided: Mapping[str, Decision]
    rungs: tuple[Rung, ...] = ()
    repaired: str = ""  # what was changed to pass the gate
    sensitivity: tuple[Sensitivity, ...] = ()


def code_limit(options: LayerOptions) -> int:
    """Return the largest 8-bit code that an override may give a linear layer.

    Where a method is not told the CPUs that its file must be right on, that is the one that no CPU saturates on.
    """
    method: Any = registry.load(METHODS, options.method)
    told = "cpus" in type(options).model_fields
    return FULL_RANGE if told and not method.decide_range(options)[0] else REDUCED_RANGE


def changes(asked: LayerOptions, used: LayerOptions) -> dict[str, Any]:
    """Return the options that differ from those asked for, as a recipe says them."""
    before, after = asked.model_dump(mode="json"), used.model_dump(mode="json")
    return {name: value for name, value in after.items() if name not in before or before[name] != value}
