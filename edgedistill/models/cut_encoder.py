"""A whole model, taken apart by the names of its parts, and put together smaller."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from edgedistill.models.encoder_names import EncoderNames, Sizes
from edgedistill.models.shrinking import Affine, Basis, attention, neurons

State = dict[str, Tensor]


@dataclass(frozen=True)
class CutEncoder:
    """What the state of the smaller model is made from; no part is left out, and none is made up."""

    whole: Mapping[str, Tensor]
    names: EncoderNames
    before: Sizes
    after: Sizes
    basis: Basis

    def state(self, layers: int) -> State:
        """Return the state of the smaller model.

        Args:
            layers: how many there are, before and after.
        """
        cut = self._embeddings() | self._head()
        for layer in range(layers):
            cut |= self._attention(f"{self.names.layers}.{layer}") | self._feed_forward(f"{self.names.layers}.{layer}")
        return cut

    def _part(self, name: str) -> Affine:
        return Affine(self.whole[f"{name}.weight"], self.whole[f"{name}.bias"])

    def _embeddings(self) -> State:
        """Narrow the tables and their LayerNorm; where a projection comes behind them, as in ELECTRA, only that."""
        norm, projection = f"{self.names.embeddings}.LayerNorm", f"{self.names.embeddings}_project"
        tables = {name: table for name, table in self.whole.items() if name.endswith("_embeddings.weight")}
        if f"{projection}.weight" in self.whole:
            return tables | _named({norm: self._part(norm), projection: self.basis.writes(self._part(projection))})
        narrow = {name: self.basis.table(table) for name, table in tables.items()}
        return narrow | _named({norm: self.basis.norm(self._part(norm))})

    def _attention(self, layer: str) -> State:
        names = (self.names.query, self.names.key, self.names.value, self.names.output)
        *reading, writing = (self._part(f"{layer}.{name}") for name in names)
        query, key, value = (self.basis.reads(part) for part in reading)
        size = self.after.hidden_size // self.after.num_attention_heads
        cut = attention(
            query, key, value, self.basis.writes(writing), self.before.num_attention_heads,
            self.after.num_attention_heads, size,
        )  # fmt: skip
        norm = f"{layer}.{self.names.attention_norm}"
        parts = {f"{layer}.{name}": part for name, part in zip(names, cut, strict=True)}
        return _named({**parts, norm: self.basis.norm(self._part(norm))})

    def _feed_forward(self, layer: str) -> State:
        inner, outer, norm = (f"{layer}.{name}" for name in (self.names.inner, self.names.outer, self.names.norm))
        reading, writing = self.basis.reads(self._part(inner)), self.basis.writes(self._part(outer))
        cut = neurons(reading, writing, self.after.intermediate_size)
        return _named({inner: cut[0], outer: cut[1], norm: self.basis.norm(self._part(norm))})

    def _head(self) -> State:
        """Cut the head, whose hidden layer has as many neurons as the stream has numbers; an embedder has none."""
        if not self.names.classifier:
            return {}
        inner, outer = self.names.hidden_layer, self.names.classifier
        cut = neurons(self.basis.reads(self._part(inner)), self._part(outer), self.after.hidden_size)
        return _named({inner: cut[0], outer: cut[1]})


def _named(parts: Mapping[str, Affine]) -> State:
    weights = {f"{name}.weight": part.weight for name, part in parts.items()}
    return weights | {f"{name}.bias": part.bias for name, part in parts.items()}
