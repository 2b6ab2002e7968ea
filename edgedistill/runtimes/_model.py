"""LoadedModel: what every runtime gives back, and all that a benchmark, a parity check or `predict` may ask of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

Encoded = Mapping[str, np.ndarray]


class LoadedModel(Protocol):
    """A model in memory, ready to answer."""

    labels: tuple[str, ...]  # empty where it gives sentence vectors
    several: bool  # whether several labels may hold at once

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return input_ids and attention_mask, each (batch, tokens) int64, padded to the longest text."""

    def run(self, encoded: Encoded) -> np.ndarray:
        """Return logits, (batch, classes) float32, or sentence vectors, (batch, width)."""

    def kernels(self) -> dict[str, int]:
        """Return the operator types of the graph as the runtime really executes it, with their counts."""


def in_length_order(
    model: LoadedModel, texts: Sequence[str], batch_size: int, advance: Callable[[int], None] | None = None
) -> np.ndarray:
    """Return the outputs for every text, (texts, width) float32, batching texts of like length together.

    The batches are the same whenever the texts are, so that dynamic quantization, whose ranges span a batch,
    gives the same numbers each time.
    """
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    outputs = np.empty(0, dtype=np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        said = model.run(model.encode([texts[i] for i in rows]))
        outputs = outputs if outputs.size else np.empty((len(texts), said.shape[1]), dtype=np.float32)
        outputs[rows] = said
        if advance is not None:
            advance(len(rows))
    return outputs
