"""Which token comes next: the likeliest, or one drawn from the model's distribution.

The order is that of transformers: the temperature first, then top_k, then top_p on what is left. Draws are those of
numpy's PCG64 under a seed, so that the same logits give the same tokens on every machine.

Source: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, section 3.1 (top_p).
"""

from dataclasses import dataclass

import numpy as np

from edgedistill.errors import ModelError, RecipeError


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen."""

    temperature: float = 0.0  # divides the logits; 0 takes the likeliest token always
    top_k: int | None = None  # draws among so many, and those that are as likely as the last of them
    top_p: float | None = None  # draws among the fewest likeliest tokens that have this share together
    seed: int = 0  # of the draws

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise RecipeError(f"temperature {self.temperature} is no number of 0 or more; 0 takes the likeliest token")
        if self.top_k is not None and self.top_k < 1:
            raise RecipeError(f"top_k {self.top_k} leaves no token to draw; give 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p {self.top_p} is no share; give more than 0 and at most 1")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise RecipeError(
                "top_k and top_p limit what is drawn, and temperature 0 draws nothing; give one, such as 1"
            )
        if self.seed < 0:
            raise RecipeError(f"seed {self.seed} is negative; give a whole number of 0 or more")


class Sampler:
    """Chooses one token after another."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: np.ndarray) -> int:
        """Return the id of the next token; the first of those that are likeliest where nothing is drawn.

        Args:
            logits: (vocab,), any float.

        Raises:
            ModelError: they hold a NaN, or nothing is possible.
        """
        if not np.isfinite(logits.max()):  # NaN where any is
            raise ModelError("the model's logits are not finite; its weights are damaged, or too large for its numbers")
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        bounds = probabilities(logits, self._sampling).cumsum()
        return int(bounds.searchsorted(self._random.random() * bounds[-1], side="right"))


def probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Return the distribution that is drawn from, (vocab,) float64; what is never drawn has 0.

    Args:
        logits: (vocab,), finite or minus infinity.
        sampling: with a temperature above 0.
    """
    scaled = (logits.astype(np.float64) - float(logits.max())) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(scaled):
        scaled[scaled < np.partition(scaled, -sampling.top_k)[-sampling.top_k]] = -np.inf
    shares = np.exp(scaled)
    shares /= shares.sum()
    if sampling.top_p is not None:
        order = np.argsort(-shares, kind="stable")
        kept = int(shares[order].cumsum().searchsorted(sampling.top_p)) + 1
        shares[order[kept:]] = 0
        shares /= shares.sum()
    return shares
