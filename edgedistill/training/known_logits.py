"""What is known of a teacher's distribution at each position: drawn tokens, the likeliest ones and the rest, or all.

Bytes at a position: sampled, 5 for each different token (12 to 20 of 50 draws); top_k, 6 for each token and for the
rest; dense, 2 for each token of the vocabulary; 8 more at each position for where its entries begin.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgedistill.tasks.text_generation import CacheOptions

REST = -1  # stands for every token that its position does not name


@dataclass(frozen=True)
class Known:
    """What is known at some positions; entries of one position lie together."""

    place: Tensor  # (entries,) int64; the position that each belongs to, from 0
    tokens: Tensor  # (entries,) int64; or REST
    weights: Tensor  # (entries,) float32 > 0; those of one position sum to 1

    def log_probs(self, logits: Tensor) -> Tensor:
        """Return a model's log-probability of each entry, (entries,), from its logits, (positions, vocabulary)."""
        whole = torch.logsumexp(logits, dim=-1)
        named = self.tokens != REST
        said = logits.new_zeros(len(self.tokens))
        said = said.masked_scatter(named, logits[self.place[named], self.tokens[named]] - whole[self.place[named]])
        if bool(named.all()):
            return said
        spoken = logits.new_zeros(len(logits)).index_add(0, self.place[named], said[named].exp())
        left = torch.log((1 - spoken).clamp_min(torch.finfo(logits.dtype).tiny))
        return said.masked_scatter(~named, left[self.place[~named]])


def drawn(probabilities: Tensor, options: CacheOptions, generator: torch.Generator) -> tuple[np.ndarray, ...]:
    """Return how many entries each position has, (positions,) int64, their tokens, int32, and their weights.

    Of every token, tokens is empty and weights are log-probabilities: small ones are zero in float16, their logarithms
    are not.

    Args:
        probabilities: (positions, vocabulary) float32, each row summing to 1.
        generator: of the draws.
    """
    if options.way == "sampled":
        return _sampled(probabilities, options.draws, generator)
    return _top_k(probabilities, options.k) if options.way == "top_k" else _dense(probabilities)


def _sampled(probabilities: Tensor, draws: int, generator: torch.Generator) -> tuple[np.ndarray, ...]:
    found = torch.multinomial(probabilities, draws, replacement=True, generator=generator)
    ordered = found.cpu().sort(dim=1).values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    begins = first.flatten().nonzero()[:, 0]
    ends = torch.cat([begins[1:], torch.tensor([ordered.numel()])])
    tokens = ordered.flatten()[begins]
    return _arrays(first.sum(dim=1), tokens, (ends - begins).to(torch.uint8))


def _top_k(probabilities: Tensor, k: int) -> tuple[np.ndarray, ...]:
    found = probabilities.cpu().topk(min(k, probabilities.shape[1] - 1), dim=1)
    rest = (1 - found.values.sum(dim=1, keepdim=True)).clamp_min(0)
    tokens = torch.cat([found.indices, torch.full_like(found.indices[:, :1], REST)], dim=1)
    weights = torch.cat([found.values, rest], dim=1).to(torch.float16)
    return _arrays(torch.full((len(tokens),), tokens.shape[1]), tokens.flatten(), weights.flatten())


def _dense(probabilities: Tensor) -> tuple[np.ndarray, ...]:
    whole = torch.full((len(probabilities),), probabilities.shape[1])
    logarithms = probabilities.cpu().log().clamp_min(torch.finfo(torch.float16).min).to(torch.float16)
    return _arrays(whole, torch.empty(0, dtype=torch.int64), logarithms.flatten())


def _arrays(entries: Tensor, tokens: Tensor, weights: Tensor) -> tuple[np.ndarray, ...]:
    return entries.numpy(), tokens.to(torch.int32).numpy(), weights.numpy()


class KnownLogits:
    """What is known at every position of one split, mapped into memory."""

    def __init__(self, offsets: Path, tokens: Path, weights: Path) -> None:
        self._offsets, self._tokens, self._weights = (
            np.load(file, mmap_mode="r") for file in (offsets, tokens, weights)
        )
        self.every_token = len(self._tokens) == 0 and len(self._weights) > 0  # which then need no naming

    def at(self, positions: np.ndarray, device: Any = None) -> Known:
        """Return what is known at these positions, in this order, where some tokens are named."""
        spans = [np.arange(self._offsets[one], self._offsets[one + 1]) for one in positions]
        entries = np.concatenate(spans)
        place = torch.from_numpy(np.repeat(np.arange(len(positions)), [len(span) for span in spans]))
        weights = torch.from_numpy(np.asarray(self._weights[entries], dtype=np.float32))
        tokens = torch.from_numpy(np.asarray(self._tokens[entries], dtype=np.int64))
        weights = weights / torch.zeros(len(positions)).index_add(0, place, weights)[place]
        kept = weights > 0
        return Known(*(part[kept].to(device) for part in (place, tokens, weights)))

    def dense_at(self, positions: np.ndarray, device: Any = None) -> Tensor:
        """Return log-probabilities at these positions, (positions, vocabulary) float32, where every token is known."""
        rows = [self._weights[self._offsets[one] : self._offsets[one + 1]] for one in positions]
        said = torch.from_numpy(np.stack(rows).astype(np.float32)).to(device)
        return said.log_softmax(dim=-1)
