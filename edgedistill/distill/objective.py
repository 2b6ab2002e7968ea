"""What a student minimises: the recipe's weighted sum of losses, on the teacher's cached logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.section import LossOptions
from edgedistill.training.predict import logits_of
from edgedistill.training.signals import SplitSignals

LOSSES = "edgedistill.distill.losses"


class TeacherSignals:
    """The sum of losses on training rows; the validation metric is accuracy on gold, or agreement where none is."""

    def __init__(self, losses: Sequence[LossOptions], train: SplitSignals, validation: SplitSignals) -> None:
        self._losses = tuple((options, registry.load(LOSSES, options.loss)) for options in losses)
        self._train, self._validation = train, validation

    def terms(self, student_logits: torch.Tensor, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return each loss, weighted, for the logits (batch, classes) of these training rows."""
        return self._terms(student_logits, self._train, rows)

    def loss(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the sum of the terms, a scalar."""
        return torch.stack(list(self.terms(logits, rows).values())).sum()

    def validate(self, model: Any) -> tuple[float, float]:
        """Return the sum of losses and the metric on the validation split."""
        device = next(model.parameters()).device
        held_out = self._validation
        logits = logits_of(model, held_out.rows, held_out.logits.shape[1], device)
        everything = np.arange(len(held_out.rows))
        loss = sum(float(term) for term in self._terms(torch.from_numpy(logits), held_out, everything).values())
        known = held_out.labels >= 0
        truth = held_out.labels[known] if known.any() else held_out.logits.argmax(axis=1)
        answers = logits.argmax(axis=1)[known] if known.any() else logits.argmax(axis=1)
        return loss, float((answers == truth).mean())

    def _terms(self, student_logits: torch.Tensor, split: SplitSignals, rows: np.ndarray) -> dict[str, torch.Tensor]:
        device = student_logits.device
        teacher_logits = torch.from_numpy(np.asarray(split.logits[rows])).to(device)
        labels = torch.from_numpy(np.asarray(split.labels[rows])).to(device)
        return {
            options.loss: options.weight * module.loss(options, student_logits, teacher_logits, labels)
            for options, module in self._losses
        }
