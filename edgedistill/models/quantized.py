"""A quantized model in PyTorch: the shape of the float student, the numbers of the quantized file."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from edgedistill.models.int8_layers import DynamicInt8Linear, Int8Embedding, StaticInt8Linear
from edgedistill.models.load import load_classifier
from edgedistill.models.smoothed import Smoothed
from edgedistill.models.weight_only_layers import Float16Embedding, Float16Linear, Int4Embedding, Int4Linear

KINDS: dict[str, Any] = {
    kind.KIND: kind
    for kind in (
        DynamicInt8Linear,
        StaticInt8Linear,
        Int8Embedding,
        Float16Linear,
        Float16Embedding,
        Int4Linear,
        Int4Embedding,
        Smoothed,
    )
}
ROUNDING = (DynamicInt8Linear, StaticInt8Linear)  # layers that round what comes in, and not only what they store


def rounds_activations(model: Any) -> bool:
    """Whether a layer rounds its input: then one rounding the other way moves the logits."""
    return any(isinstance(part, ROUNDING) for part in model.modules())


def batch_matters(model: Any) -> bool:
    """Whether a text's logits depend on the texts beside it: a range is measured over the whole batch."""
    return any(isinstance(part, DynamicInt8Linear) for part in model.modules())


def save_quantized(model: Any, file: Path) -> None:
    """Write every stored number of the model, and which layers are quantized how."""
    kinds = {name: part.KIND for name, part in model.named_modules() if type(part) in KINDS.values()}
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, file, {"quantized_layers": json.dumps(kinds, sort_keys=True)})


def load_quantized(checkpoint: Path, weights: Path) -> Any:
    """Return the quantized model, in evaluation mode.

    Args:
        checkpoint: of the float student.
        weights: file that `save_quantized` wrote.
    """
    state = load_file(weights)
    with safe_open(weights, framework="pt") as opened:
        kinds: dict[str, str] = json.loads(opened.metadata()["quantized_layers"])
    model = load_classifier(checkpoint)
    for name in sorted(kinds):  # an outer layer before the one inside it
        numbers = {key.rpartition(".")[2]: tensor for key, tensor in state.items() if key.rpartition(".")[0] == name}
        replace_module(model, name, KINDS[kinds[name]](**numbers))
    model.load_state_dict(state)
    return model.eval()


def replace_module(model: Any, name: str, module: nn.Module) -> None:
    """Put `module` where the dotted `name` says."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, leaf, module)
