"""A decoder with fewer channels, heads and neurons: which ones stay, and what its state is then.

Rows and columns that stay are the teacher's, to the bit; rotary positions too, as heads keep their width. The norms'
gains are not: a root mean square over fewer channels is another one, and each gain is multiplied by what makes up for
it on average, sqrt(share * channels before / channels after), where the share is that of the sum of squares that lies
in the channels that stay. Exact where the channels that are left out are zero. Gemma multiplies token vectors by the
root of their width: its table is multiplied by what makes up for that.

Source: Muralidharan et al. 2024 (Minitron), arXiv:2407.14679, section 2.3 (trimming of matrices); the gains are ours,
in the manner of `models/shrinking.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.models.activation_importance import Importance
from edgedistill.models.decoder_parts import (
    ATTENTION_OUTPUT,
    FEED_FORWARD_OUTPUT,
    LAST_NORM,
    DecoderFamily,
    DecoderSizes,
)

ROWS = {
    "self_attn.q_proj": "queries",
    "self_attn.k_proj": "keys",
    "self_attn.v_proj": "keys",
    ATTENTION_OUTPUT: "channels",
    "mlp.gate_proj": "neurons",
    "mlp.up_proj": "neurons",
    FEED_FORWARD_OUTPUT: "channels",
}
"""Matrix of a layer to what its rows are."""
COLUMNS = {**dict.fromkeys(ROWS, "channels"), ATTENTION_OUTPUT: "queries", FEED_FORWARD_OUTPUT: "neurons"}
OF_A_HEAD = ("self_attn.q_norm", "self_attn.k_norm")
"""Norms as wide as a head, the same for all heads."""
IN_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
SMALLEST_SHARE = 1e-6


@dataclass(frozen=True)
class Kept:
    """What stays, each ascending."""

    channels: np.ndarray  # of the stream
    heads: tuple[np.ndarray, ...]  # of queries, by layer
    groups: tuple[np.ndarray, ...]  # heads of keys and values, by layer
    neurons: tuple[np.ndarray, ...]  # by layer


def most_important(importance: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the `count` largest, ascending; of equal ones the first."""
    stay: np.ndarray = np.sort(np.argsort(-importance, kind="stable")[:count])
    return stay


def kept(importance: Importance, layers: tuple[int, ...], before: DecoderSizes, after: DecoderSizes) -> Kept:
    """Return what stays in a decoder of these sizes.

    Channels are the same ones everywhere, since layers add to one stream; heads and neurons are chosen in each layer.

    Args:
        layers: those of the teacher that stay, by their numbers there.
        before: sizes of the teacher.
        after: sizes of the student, none larger.
    """
    chosen = [_heads(importance.heads[layer], before, after) for layer in layers]
    return Kept(
        channels=most_important(importance.channels, after.hidden_size),
        heads=tuple(heads for heads, _ in chosen),
        groups=tuple(groups for _, groups in chosen),
        neurons=tuple(most_important(importance.neurons[layer], after.intermediate_size) for layer in layers),
    )


def _heads(importance: np.ndarray, before: DecoderSizes, after: DecoderSizes) -> tuple[np.ndarray, np.ndarray]:
    """Return the heads of queries and those of keys and values that stay.

    As many heads stay in each group, the best of it; the groups are those whose best do most together.
    """
    by_group = importance.reshape(before.num_key_value_heads, before.sharing)
    best = np.stack([most_important(group, after.sharing) for group in by_group])
    groups = most_important(np.take_along_axis(by_group, best, axis=1).sum(axis=1), after.num_key_value_heads)
    heads: np.ndarray = (groups[:, None] * before.sharing + best[groups]).ravel()
    return heads, groups


@dataclass(frozen=True)
class CutDecoder:
    """A decoder taken apart by the names of its parts, and put together smaller; no part is left out or made up."""

    whole: Mapping[str, Any]  # state of the teacher's causal language model, its layers already chosen
    family: DecoderFamily
    before: DecoderSizes
    kept: Kept
    shares: Mapping[str, np.ndarray]  # norm, by its name in `whole` without the prefix -> (hidden,)
    tied: bool  # whether the output head is the token table

    def state(self) -> dict[str, Any]:
        """Return the state of the smaller model.

        Raises:
            ModelError: a part has a name that is not known here.
        """
        return {name: self._part(name, tensor).clone() for name, tensor in self.whole.items()}

    def _part(self, name: str, tensor: Any) -> Any:
        path, _, what = name.removeprefix("model.").rpartition(".")
        in_layer = IN_LAYER.fullmatch(path)
        layer, part = in_layer.groups() if in_layer else ("0", path)
        if part in ROWS:
            rows = tensor[self._places(ROWS[part], int(layer))]
            return rows if what == "bias" else rows[:, self._places(COLUMNS[part], int(layer))]
        if part in OF_A_HEAD:
            return tensor
        if part in ("embed_tokens", "lm_head"):
            return tensor[:, self._channels] * (self._table_factor if part == "embed_tokens" or self.tied else 1.0)
        if path in self.shares:
            return self._gain(path, tensor)
        raise ModelError(f"student.kind: pruned does not know the teacher's {name}; choose student.kind: layers")

    def _places(self, what: str, layer: int) -> Any:
        """Return the rows or columns that stay of a matrix in a layer, (count,) int64."""
        import torch

        if what == "channels":
            return self._channels
        if what == "neurons":
            return torch.from_numpy(self.kept.neurons[layer])
        heads = (self.kept.heads if what == "queries" else self.kept.groups)[layer]
        size = self.before.head_dim
        return torch.from_numpy((heads[:, None] * size + np.arange(size)).ravel())

    @property
    def _channels(self) -> Any:
        import torch

        return torch.from_numpy(self.kept.channels)

    @property
    def _wider(self) -> float:
        return self.before.hidden_size / len(self.kept.channels)

    @property
    def _table_factor(self) -> float:
        return sqrt(self._wider) if self.family.scaled_table else 1.0

    def _gain(self, norm: str, weight: Any) -> Any:
        """Return the weight of a norm over fewer channels."""
        if len(self.kept.channels) == self.before.hidden_size:
            return weight
        share = max(float(self.shares[norm][self.kept.channels].sum()), SMALLEST_SHARE)
        factor = sqrt(share * self._wider)
        if norm == LAST_NORM and self.tied:
            factor /= self._table_factor  # which the head, being the table, has too
        return (weight[self._channels] + self.family.unit) * factor - self.family.unit
