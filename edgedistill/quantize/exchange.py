"""Exchanging float layers for quantized ones, so that what was decided can be measured before it is exported."""

from collections.abc import Mapping
from typing import Any

from edgedistill.models.quantized import replace_module
from edgedistill.quantize.decisions import Decision


def exchange(model: Any, decided: Mapping[str, Decision]) -> None:
    """Exchange the named linear layers and tables of `model`, in place, for quantized ones."""
    for name, decision in decided.items():
        replace_module(model, name, decision.module(model.get_submodule(name)))
