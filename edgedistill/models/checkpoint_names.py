"""The names that a checkpoint has for the tensors of a model, whatever stands around the model in memory."""

from typing import Any


def wrapped(model: Any) -> str:
    """Return what stands before a checkpoint's own names in a model that holds one of transformers' inside.

    Empty where there is none inside, or where the model itself is one.
    """
    from transformers import PreTrainedModel

    inside = next((name for name, part in model.named_modules() if isinstance(part, PreTrainedModel)), "")
    return f"{inside}." if inside else ""


def checkpoint_tensors(model: Any) -> dict[str, Any]:
    """Return each parameter under its checkpoint's name; one that several layers share stands there once, first named.

    They are the model's own: what is written into them changes the model.
    """
    before = wrapped(model)
    return {name.removeprefix(before): tensor for name, tensor in model.named_parameters()}
