"""Exchanging float layers for quantized ones, so that what was decided can be measured before it is exported."""

from collections.abc import Mapping
from typing import Any

from edgedistill.models.quantized import replace_module
from edgedistill.quantize.decisions import Decision


def stored_bytes(decision: Decision, layer: Any) -> int:
    """Return what a layer's weight takes as it is decided; its bias is a tensor of its own."""
    numbers = decision.module(layer).state_dict()
    return sum(tensor.nbytes for name, tensor in numbers.items() if name.rpartition(".")[2] != "bias")


def exchange(model: Any, decided: Mapping[str, Decision]) -> None:
    """Exchange the named linear layers and tables of `model`, in place, for quantized ones."""
    for name, decision in decided.items():
        replace_module(model, name, decision.module(model.get_submodule(name)))
