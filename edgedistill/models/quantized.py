"""A quantized model in PyTorch: the shape of the float student, the numbers of the quantized file."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from edgedistill.models.int8_layers import DynamicInt8Linear, Int8Embedding
from edgedistill.models.load import load_classifier


def load_quantized(checkpoint: Path, weights: Path) -> Any:
    """Return the quantized model, in evaluation mode.

    Args:
        checkpoint: of the float student.
        weights: safetensors file whose `<name>.codes` and `<name>.scales` take the place of `<name>.weight`.
    """
    state = load_file(weights)
    model = load_classifier(checkpoint)
    for name in [key.removesuffix(".codes") for key in state if key.endswith(".codes")]:
        codes, scales = state[f"{name}.codes"], state[f"{name}.scales"]
        if f"{name}.bias" in state:
            replace_module(model, name, DynamicInt8Linear(codes, scales, state[f"{name}.bias"]))
        else:
            replace_module(model, name, Int8Embedding(codes, scales))
    model.load_state_dict(state)
    return model.eval()


def replace_module(model: Any, name: str, module: nn.Module) -> None:
    """Put `module` where the dotted `name` says."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, leaf, module)
