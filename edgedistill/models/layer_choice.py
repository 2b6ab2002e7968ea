"""Which layers of a decoder stay: one after another goes, each time the one whose loss is missed least.

Which layer is the cheapest beside those that went before is measured anew each time: layers that hurt little alone may
hurt much together. A round looks at those alone that the round before found cheap, and every fourth one at all.

Source: Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation" (Minitron),
arXiv:2407.14679, section 2.2 (a layer's importance is the loss without it); Men et al. 2024, "ShortGPT",
arXiv:2403.03853, section 3 (layers differ widely in it). There all layers are ranked once; here after each that went.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError
from edgedistill.files import write_atomic
from edgedistill.models.students.layers import list_name, shortened
from edgedistill.progress import bar

CHEAPEST = 7  # layers that a round looks at, next to those that look at all
ALL_EVERY = 4  # rounds


@dataclass(frozen=True)
class LayerChoice:
    """Layers that stay, and what it cost before any training."""

    layers: tuple[int, ...]  # numbers in the whole model, ascending
    losses: tuple[float, ...]  # of the whole model, then after each layer that went; nats a token
    candidates: tuple[int, ...]  # what a further round would look at

    def save(self, file: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_atomic(file, json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, file: Path) -> "LayerChoice":
        """Return what `save` wrote."""
        said = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{name: tuple(value) for name, value in said.items()})


def choose(decoder: Any, loss: Callable[[], float], keep: int, file: Path) -> LayerChoice:
    """Return which layers stay, and write it to `file` after each one that went; where it lies there, that goes on.

    Args:
        decoder: with all layers; left as it is.
        loss: of the decoder as it stands when it is called, in nats a token.
        keep: how many stay, at least one.
        file: of this decoder, this loss and no other.

    Raises:
        ModelError: the loss of the whole model is not finite.
    """
    every = tuple(range(decoder.model.config.num_hidden_layers))
    found = LayerChoice.load(file) if file.exists() else LayerChoice(every, (_finite(loss()),), every)
    found.save(file)
    with bar("dropping layers one by one", len(every) - keep, "layers", len(every) - len(found.layers)) as advance:
        while len(found.layers) > keep:
            found = _without_one(decoder, loss, found, len(every))
            found.save(file)
            advance(1)
    return found


@contextmanager
def only(decoder: Any, kept: Sequence[int]) -> Iterator[None]:
    """Have a decoder run with some of its layers; whatever its configuration says layer by layer shrinks with them."""
    import torch

    config = decoder.model.config
    place, _, name = list_name(decoder.model, config.num_hidden_layers).rpartition(".")
    parent = decoder.model.get_submodule(place)
    layers = getattr(parent, name)
    said = shortened(config, kept)
    before = {key: getattr(config, key) for key in said}
    try:
        setattr(parent, name, torch.nn.ModuleList([layers[number] for number in kept]))
        _say(config, said)
        yield
    finally:
        setattr(parent, name, layers)
        _say(config, before)


def _say(config: Any, said: Mapping[str, Any]) -> None:
    for key, value in said.items():
        setattr(config, key, value)


def _without_one(decoder: Any, loss: Callable[[], float], before: LayerChoice, whole: int) -> LayerChoice:
    """Return the choice with one layer less."""
    tried: dict[int, float] = {}
    for one in before.candidates:
        with only(decoder, [two for two in before.layers if two != one]):
            value = loss()
        tried[one] = value if math.isfinite(value) else math.inf
    order = sorted(tried, key=lambda one: (tried[one], one))
    left = tuple(two for two in before.layers if two != order[0])
    look_at_all = (whole - len(left)) % ALL_EVERY == 0 or len(order) == 1
    return LayerChoice(left, (*before.losses, tried[order[0]]), left if look_at_all else tuple(order[1 : 1 + CHEAPEST]))


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        raise ModelError(f"the teacher's loss on calibration text is {loss}; fetch the teacher again")
    return loss
