"""How much each channel, head and neuron of a decoder does on calibration text, by its activations.

All are means over the tokens that were read, so neither the number of texts nor how they are put into batches matters:

* a neuron of the feed-forward part: the absolute value that goes into the down projection, behind the gate;
* a head: the length (L2) of what it gives, before the output projection;
* a channel of the stream: the absolute value of what the norms give to attention, feed-forward part and output head,
  and of these the mean over all norms.

Beside these, each norm's share: how much of the sum of squares of what it is given lies in each channel. A norm of
fewer channels divides by another root mean square, and by its share the difference is known.

Source: Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation" (Minitron),
arXiv:2407.14679, section 2.2. There a batch and a sequence may be aggregated in different ways; here both by the mean.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import DataError, ModelError
from edgedistill.models.decoder_parts import (
    ATTENTION_OUTPUT,
    FEED_FORWARD_OUTPUT,
    DecoderFamily,
    family_of,
    sizes_in,
)

TOKENS_AT_ONCE = 1024
SMALLEST = 1e-30  # sum of squares of a token whose channels are all zero
CHANNELS, HEADS, NEURONS, SHARE = "channels", "heads", "neurons", "share"


@dataclass(frozen=True)
class Importance:
    """What was measured of a decoder; all float64."""

    channels: np.ndarray  # (hidden,)
    heads: tuple[np.ndarray, ...]  # of each layer, (heads,)
    neurons: tuple[np.ndarray, ...]  # of each layer, (intermediate,)
    shares: dict[str, np.ndarray]  # norm -> (hidden,); each sums to 1

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        from safetensors.numpy import save_file

        layers = {f"{HEADS}.{i}": of for i, of in enumerate(self.heads)}
        layers |= {f"{NEURONS}.{i}": of for i, of in enumerate(self.neurons)}
        save_file({CHANNELS: self.channels, **layers, **{f"{SHARE}.{n}": of for n, of in self.shares.items()}}, file)

    @classmethod
    def load(cls, file: Path) -> "Importance":
        """Return what `save` wrote."""
        from safetensors.numpy import load_file

        found = load_file(file)
        layers = sum(name.startswith(f"{HEADS}.") for name in found)
        return cls(
            channels=found[CHANNELS],
            heads=tuple(found[f"{HEADS}.{i}"] for i in range(layers)),
            neurons=tuple(found[f"{NEURONS}.{i}"] for i in range(layers)),
            shares={n.removeprefix(f"{SHARE}."): of for n, of in found.items() if n.startswith(f"{SHARE}.")},
        )


def measure(decoder: Any, rows: Any, tokens_at_once: int = TOKENS_AT_ONCE) -> Importance:
    """Return the importance of a decoder's parts on these rows.

    The model is run once over all rows. Sums alone are kept, so memory does not grow with the rows; nothing is drawn.

    Args:
        decoder: in evaluation mode; left as it is.
        rows: `training.rows.TokenRows`, without long rows that the model has no positions for.
        tokens_at_once: in a batch, padding included; a longer row is a batch of its own.

    Raises:
        DataError: there are no rows.
        ModelError: the architecture is not known, or an activation is not finite.
    """
    import torch

    from edgedistill.progress import bar
    from edgedistill.training.rows import ordered_batches

    if not len(rows):
        raise DataError(
            "the calibration split has no row that fits task.max_length, and importance is measured on it; name texts "
            "as data.calibration, or give data.split.calibration a larger share"
        )
    config = decoder.model.config.to_dict()
    family, heads = family_of(config), sizes_in(config).num_attention_heads
    body, layers = decoder.model.base_model, decoder.model.config.num_hidden_layers
    sums, device = _Sums(), next(decoder.parameters()).device
    at_once = max(1, tokens_at_once // int(rows.lengths.max()))
    with torch.no_grad(), bar("importance of the teacher's parts", len(rows)) as advance:
        for batch in ordered_batches(rows.lengths, at_once):
            ids, mask = (torch.from_numpy(array).to(device) for array in rows.padded(batch))
            with _watched(body, layers, _Watch(sums, family, heads, mask.bool())):
                body(input_ids=ids, attention_mask=mask, use_cache=False)
            advance(len(batch))
    return _summary(sums, family, layers)


class _Sums:
    """Sums over tokens, by name."""

    def __init__(self) -> None:
        self.of: dict[str, np.ndarray] = {}
        self.tokens: dict[str, int] = {}

    def add(self, name: str, values: Any) -> None:
        """Add values, (tokens, columns)."""
        if not values.isfinite().all():
            raise ModelError(f"the teacher has activations that are not finite, in {name}; fetch it again")
        summed = values.double().sum(dim=0).cpu().numpy()
        self.of[name] = self.of[name] + summed if name in self.of else summed
        self.tokens[name] = self.tokens.get(name, 0) + len(values)

    def mean(self, name: str) -> np.ndarray:
        """Return the mean over tokens, (columns,)."""
        mean: np.ndarray = self.of[name] / self.tokens[name]
        return mean


@dataclass(frozen=True)
class _Watch:
    """What is seen of one batch."""

    sums: _Sums
    family: DecoderFamily
    heads: int
    mask: Any  # (batch, tokens) bool; True where there is a token

    def norm(self, name: str) -> Any:
        """Return a hook for a norm."""

        def see(_part: Any, given: tuple[Any, ...], output: Any) -> None:
            squares = given[0][self.mask].double().square()  # (tokens, hidden)
            self.sums.add(f"{SHARE}.{name}", squares / squares.sum(dim=-1, keepdim=True).clamp(min=SMALLEST))
            if self.family.read(name):
                self.sums.add(CHANNELS, output[self.mask].abs())

        return see

    def neurons(self, layer: int) -> Any:
        """Return a hook for what reads the neurons of a layer."""
        return lambda _part, given: self.sums.add(f"{NEURONS}.{layer}", given[0][self.mask].abs())

    def lengths(self, layer: int) -> Any:
        """Return a hook for what reads the heads of a layer."""

        def see(_part: Any, given: tuple[Any, ...]) -> None:
            by_head = given[0][self.mask].unflatten(-1, (self.heads, -1))  # (tokens, heads, head_dim)
            self.sums.add(f"{HEADS}.{layer}", by_head.norm(dim=-1))

        return see


@contextmanager
def _watched(body: Any, layers: int, watch: _Watch) -> Iterator[None]:
    """Add up what flows through a decoder's parts while this lasts."""
    hooks = [body.get_submodule(name).register_forward_hook(watch.norm(name)) for name in watch.family.norms(layers)]
    for layer in range(layers):
        for part, hook in ((ATTENTION_OUTPUT, watch.lengths(layer)), (FEED_FORWARD_OUTPUT, watch.neurons(layer))):
            hooks.append(body.get_submodule(f"layers.{layer}.{part}").register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _summary(sums: _Sums, family: DecoderFamily, layers: int) -> Importance:
    shares = {name: sums.mean(f"{SHARE}.{name}") for name in family.norms(layers)}
    return Importance(
        channels=sums.mean(CHANNELS),
        heads=tuple(sums.mean(f"{HEADS}.{layer}") for layer in range(layers)),
        neurons=tuple(sums.mean(f"{NEURONS}.{layer}") for layer in range(layers)),
        shares={name: share / max(share.sum(), SMALLEST) for name, share in shares.items()},
    )
