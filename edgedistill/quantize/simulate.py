"""A quantized model in PyTorch: the float student with its layers exchanged for ones that hold codes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from edgedistill.models.load import load_classifier
from edgedistill.quantize.affine import RowQuantized
from edgedistill.quantize.operators import DynamicInt8Linear, Int8Embedding


def exchange(model: Any, quantized: Mapping[str, RowQuantized]) -> Any:
    """Exchange the named linear layers and tables of `model`, in place, for quantized ones; return it."""
    for name, rows in quantized.items():
        module = model.get_submodule(name)
        scales = torch.from_numpy(rows.scales)
        if isinstance(module, nn.Embedding):
            _replace(model, name, Int8Embedding(torch.from_numpy(rows.codes), scales[:, None].contiguous()))
        else:
            bias = torch.zeros(len(scales)) if module.bias is None else module.bias.detach().clone()
            codes = torch.from_numpy(np.ascontiguousarray(rows.codes.T))
            _replace(model, name, DynamicInt8Linear(codes, scales, bias))
    return model


def load_quantized(checkpoint: Path, weights: Path) -> Any:
    """Return the quantized model: the shape of the float student, the numbers of the quantized file."""
    state = load_file(weights)
    model = load_classifier(checkpoint)
    for key in [name for name in state if name.endswith(".codes")]:
        name = key.removesuffix(".codes")
        codes, scales = state[key], state[f"{name}.scales"]
        if f"{name}.bias" in state:
            _replace(model, name, DynamicInt8Linear(codes, scales, state[f"{name}.bias"]))
        else:
            _replace(model, name, Int8Embedding(codes, scales))
    model.load_state_dict(state)
    return model.eval()


def _replace(model: Any, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, leaf, module)
