"""Which layers a model calls as layers: the others it reads by their weight, and those cannot be exchanged."""

from typing import Any


def called(model: Any) -> frozenset[str]:
    """Return the names of the linear layers and tables that a forward pass of `model` calls.

    DeBERTa, for one, takes the matrix of its relative positions out of its table, and multiplies it like any other.

    Args:
        model: maps ids and mask, both (batch, tokens) int64, to logits; left in evaluation mode.
    """
    import torch
    from torch import nn

    seen: set[str] = set()
    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, (nn.Linear, nn.Embedding))]
    hooks = [part.register_forward_hook(lambda *_, name=name: seen.add(name)) for name, part in layers]
    ids = torch.ones((1, 4), dtype=torch.int64)
    with torch.no_grad():
        model.eval()(ids, torch.ones_like(ids))
    for hook in hooks:
        hook.remove()
    return frozenset(seen)
