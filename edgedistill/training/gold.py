"""Learning from gold labels: how a teacher is fitted, and how the student's twin learns without a teacher."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from edgedistill.training.predict import outputs_of
from edgedistill.training.rows import TokenRows


class GoldLabels:
    """Cross-entropy with the rows' own labels; validation metric is accuracy."""

    views = 1

    def __init__(self, labels: np.ndarray, validation: TokenRows, validation_labels: np.ndarray) -> None:
        """Keep what training needs.

        Args:
            labels: (training rows,) int64, all of them class indices.
            validation: rows to stop early on.
            validation_labels: (validation rows,) int64; -1 rows are left out of loss and metric.
        """
        self._labels = np.asarray(labels)
        self._validation = validation
        self._gold = np.asarray(validation_labels)

    def loss(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return the mean cross-entropy, in nats, of logits (batch, classes) for these training rows."""
        return F.cross_entropy(logits, torch.from_numpy(self._labels[rows]).to(logits.device))

    def validate(self, model: Any) -> tuple[float, float]:
        """Return mean cross-entropy and accuracy on the labelled validation rows."""
        device = next(model.parameters()).device
        known = self._gold >= 0
        logits = torch.from_numpy(outputs_of(model, self._validation, device)[known])
        gold = torch.from_numpy(self._gold[known])
        return float(F.cross_entropy(logits, gold)), float((logits.argmax(dim=1) == gold).float().mean())
