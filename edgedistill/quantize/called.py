"""Which layers a model calls as layers, and which of them read the very same tensor.

The others it reads by their weight, and those cannot be exchanged.
"""

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


def first_readers(model: Any) -> dict[str, str]:
    """Return for each linear layer that is called the first one that reads the very same tensors: itself, mostly.

    Query, key and value of an attention read one tensor, so all that is known of their inputs is the same.

    Args:
        model: maps ids and mask, both (batch, tokens) int64, to logits; in evaluation mode.
    """
    import torch
    from torch import nn

    read: dict[str, list[torch.Tensor]] = {}  # holds the tensors, or another one would get the number of one that went
    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    hooks = [
        part.register_forward_pre_hook(lambda _, given, name=name: read.setdefault(name, []).append(given[0]))
        for name, part in layers
    ]
    ids = torch.ones((1, 4), dtype=torch.int64)
    with torch.no_grad():
        model(ids, torch.ones_like(ids))
    for hook in hooks:
        hook.remove()
    first: dict[tuple[int, ...], str] = {}
    return {name: first.setdefault(tuple(map(id, tensors)), name) for name, tensors in read.items()}
