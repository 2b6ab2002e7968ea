"""What a student minimises: the recipe's weighted sum of losses, on what the teacher said of each row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.section import LossOptions
from edgedistill.tasks._task import task_of
from edgedistill.training.predict import outputs_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Signals

LOSSES = "edgedistill.distill.losses"


class TeacherSignals:
    """The sum of losses on training rows; the validation metric is the task's on gold, or agreement where none is.

    Where shorter vectors are taught, too, a loss is the mean over all lengths.
    Source: Kusupati et al. 2022, "Matryoshka Representation Learning", arXiv:2205.13147, section 3, equal weights.
    """

    views = 1

    def __init__(
        self, losses: Sequence[LossOptions], train: SplitSignals, validation: SplitSignals, signals: Signals
    ) -> None:
        self._losses = tuple((options, registry.load(LOSSES, options.loss)) for options in losses)
        self._train, self._validation = train, validation
        self._task, self._lengths = task_of(signals.task), (signals.width, *signals.truncations)

    def terms(self, said: torch.Tensor, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return each loss, weighted, for what the student says of these training rows, (batch, width)."""
        return self._terms(said, self._train, rows)

    def asked(self, rows: np.ndarray) -> dict[str, torch.Tensor]:  # noqa: ARG002 - as every objective's
        """Return nothing: the model says one thing of each row."""
        return {}

    def loss(self, said: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the sum of the terms, a scalar."""
        return torch.stack(list(self.terms(said, rows).values())).sum()

    def validate(self, model: Any) -> tuple[float, float]:
        """Return the sum of losses and the metric on the validation split."""
        held_out = self._validation
        outputs = outputs_of(model, held_out.rows, next(model.parameters()).device)
        everything = np.arange(len(held_out.rows))
        loss = sum(float(term) for term in self._terms(torch.from_numpy(outputs), held_out, everything).values())
        gold = np.asarray(held_out.labels)
        if (gold >= 0).any():
            return loss, float(self._task.right(outputs, gold).mean())
        return loss, float(self._task.agree(np.asarray(held_out.outputs), outputs, gold).mean())

    def _terms(self, said: torch.Tensor, split: SplitSignals, rows: np.ndarray) -> dict[str, torch.Tensor]:
        teacher = torch.from_numpy(split.targets(rows)).to(said.device)
        labels = torch.from_numpy(np.asarray(split.labels[rows])).to(said.device)
        return {
            options.loss: options.weight
            * torch.stack(
                [module.loss(options, said[:, :length], teacher[:, :length], labels) for length in self._lengths]
            ).mean()
            for options, module in self._losses
        }
