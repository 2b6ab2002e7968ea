"""Temperature and mixing weight: which pairs of them a search tries, and the losses that a pair makes.

The soft weight is the share of forward_kl in the sum of its weight and that of cross_entropy; that sum, and every other
loss, stay what the recipe says.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from edgedistill.recipe_sections import DistillOptions, SearchOptions
from edgedistill.section import LossOptions
from edgedistill.student_values import Search

SOFT, GOLD = "forward_kl", "cross_entropy"
SOFT_WEIGHTS = (0.5, 0.9, 1.0)  # where the recipe has both losses and names no others


class Mixture(NamedTuple):
    """One pair to try."""

    temperature: float
    soft_weight: float  # 1 where there is no cross_entropy


def own(losses: Sequence[LossOptions]) -> Mixture:
    """Return what the recipe itself says."""
    soft: Any = next(loss for loss in losses if loss.loss == SOFT)
    return Mixture(soft.temperature, round(soft.weight / _sum(losses), 6))


def mixtures(options: SearchOptions, losses: Sequence[LossOptions]) -> tuple[Mixture, ...]:
    """Return every pair to try, each once, the recipe's own first."""
    said = own(losses)
    both = any(loss.loss == GOLD for loss in losses)
    weights = (options.soft_weights or SOFT_WEIGHTS) if both else (said.soft_weight,)
    tried = [Mixture(temperature, weight) for weight in weights for temperature in options.temperatures]
    return tuple(dict.fromkeys([said, *tried]))


def mixed(losses: Sequence[LossOptions], mixture: Mixture) -> tuple[LossOptions, ...]:
    """Return the losses with a temperature and a soft weight; a cross_entropy that would weigh nothing is left out."""
    if mixture == own(losses):
        return tuple(losses)
    weights = {SOFT: mixture.soft_weight * _sum(losses), GOLD: (1 - mixture.soft_weight) * _sum(losses)}
    changes = {SOFT: {"temperature": mixture.temperature}}
    return tuple(
        loss.model_copy(update={"weight": weights.get(loss.loss, loss.weight), **changes.get(loss.loss, {})})
        for loss in losses
        if weights.get(loss.loss, loss.weight) > 0
    )


def with_best(options: DistillOptions, search: Search | None) -> DistillOptions:
    """Return how the student is trained: with what a search has chosen, or as the recipe says where there was none."""
    if search is None:
        return options
    best = search.trials[search.chosen]
    return options.model_copy(update={"losses": mixed(options.losses, Mixture(best.temperature, best.soft_weight))})


def _sum(losses: Sequence[LossOptions]) -> float:
    return sum(loss.weight for loss in losses if loss.loss in (SOFT, GOLD))
