"""A moving average of the weights over the steps of a training: it is often better than any one step's weights.

A constant decay remembers the untrained start for too long: after 300 steps at 0.999, three quarters of the average
would still be the first step's weights. So the decay rises with the steps, as (1 + n) / (10 + n) after n averaged
steps, until it reaches the one asked for: up to there the average covers about the last ninth of the training so far,
be it short or long. A decay of 0.999 is reached after 9,000 steps, 0.99 after 900.

Source: Polyak, Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; Tarvainen, Valpola 2017, "Mean
teachers are better role models", arXiv:1703.01780, section 2, for the exponential average; the rise of the decay is
that of TensorFlow's ExponentialMovingAverage with num_updates.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import swa_utils
from torch.optim.swa_utils import AveragedModel


def average_of(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return the average of a model's weights, a copy that its `update_parameters` keeps up; None without a decay.

    The first update copies the weights, so the start itself is not part of the average. What the model has besides
    weights (buffers) is copied at every update.
    """
    return None if decay is None else AveragedModel(model, multi_avg_fn=_updating(decay))


def decay_after(averaged: int, decay: float) -> float:
    """Return the share that the average so far keeps when one more step joins the `averaged` that are in it."""
    return min(decay, (1 + averaged) / (10 + averaged))


def _updating(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    untyped: Any = swa_utils  # its functions carry no types

    def update(average: Any, weights: Any, averaged: Tensor | int) -> None:
        untyped.get_ema_multi_avg_fn(decay_after(int(averaged), decay))(average, weights, averaged)

    return update
