"""A quantized model in PyTorch: the shape of the float student, the numbers of the quantized file."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgedistill.errors import ModelError
from edgedistill.models.int8_layers import DynamicInt8Linear, Int8Embedding, StaticInt8Linear
from edgedistill.models.load import load_model
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

    Raises:
        ModelError: the file does not hold what its own list of layers needs, or is of another student.
    """
    kinds, state = _read(weights)
    model = load_model(checkpoint)
    try:
        for name in sorted(kinds):  # an outer layer before the one inside it
            held = {key.rpartition(".")[2]: number for key, number in state.items() if key.rpartition(".")[0] == name}
            replace_module(model, name, _made(kinds[name], name, held, weights))
        model.load_state_dict(state)
    except (AttributeError, RuntimeError) as error:  # no such layer, or not the numbers of this one
        raise ModelError(f"{weights} is not of the student in {checkpoint}: {' '.join(str(error).split())}") from error
    return model.eval()


def _read(weights: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return layer name -> kind, and every stored tensor by its name."""
    try:
        state = load_file(weights)
        with safe_open(weights, framework="pt") as opened:
            kinds: dict[str, str] = json.loads((opened.metadata() or {})["quantized_layers"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{weights} cannot be read as a quantized model: {error!r}; quantize again") from error
    return kinds, state


def _made(kind: str, name: str, numbers: Mapping[str, Tensor], weights: Path) -> nn.Module:
    """Return the layer of these numbers; one that wraps another layer is still empty."""
    if kind not in KINDS:
        raise ModelError(f"{weights} calls {name} {kind!r}; a layer is one of: {', '.join(sorted(KINDS))}")
    needed = inspect.signature(KINDS[kind]).parameters.keys() - {"layer"}
    if numbers.keys() != needed:
        raise ModelError(f"{weights} holds {sorted(numbers)} of {name}, and {kind} is made of {sorted(needed)}")
    made: nn.Module = KINDS[kind](**numbers)
    return made


def replace_module(model: Any, name: str, module: nn.Module) -> None:
    """Put `module` where the dotted `name` says."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, leaf, module)
