"""Learning from gold labels: how a teacher is fitted, and how the student's twin learns without a teacher."""

from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.tasks._task import task_of
from edgedistill.training.predict import outputs_of
from edgedistill.training.rows import TokenRows

LOSSES = "edgedistill.distill.losses"


class GoldLabels:
    """The task's loss with the rows' own labels; the validation metric is the task's."""

    views = 1

    def __init__(
        self,
        labels: np.ndarray,
        validation: TokenRows,
        validation_labels: np.ndarray,
        task: str = "text_classification",
    ) -> None:
        """Keep what training needs.

        Args:
            labels: (training rows,) int64, all of them known.
            validation: rows to stop early on.
            validation_labels: (validation rows,) int64; -1 rows are left out of loss and metric.
            task: whose labels they are.
        """
        self._task = task_of(task)
        name = self._task.Options.GOLD_LOSS
        module = registry.load(LOSSES, name)
        self._options, self._loss = module.Options(loss=name), module.loss
        self._labels = np.asarray(labels)
        self._validation = validation
        self._gold = np.array(validation_labels)  # a copy: on disk, it is read-only

    def asked(self, rows: np.ndarray) -> dict[str, torch.Tensor]:  # noqa: ARG002 - as every objective's
        """Return nothing: the model says one thing of each row."""
        return {}

    def loss(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the mean loss, in nats, of logits (batch, classes) for these training rows."""
        return self._of(logits, self._labels[rows])

    def validate(self, model: Any) -> tuple[float, float]:
        """Return the mean loss and the task's metric on the labelled validation rows."""
        outputs = outputs_of(model, self._validation, next(model.parameters()).device)
        loss = float(self._of(torch.from_numpy(outputs), self._gold))
        return loss, float(self._task.right(outputs, self._gold).mean())

    def _of(self, logits: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
        loss: torch.Tensor = self._loss(
            self._options, logits, logits.detach(), torch.from_numpy(np.asarray(labels)).to(logits.device)
        )
        return loss
