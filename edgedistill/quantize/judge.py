"""What quantization costs, on held-out rows that are not test.

The rows are the validation split's. Calibration rows choose ranges and factors, and who chose on them cannot judge on
them too; test rows are for the report alone. Validation stopped the training early, which changed the float student
and with it everything that is compared here: it favours neither side.

Source: KL divergence and top-1 agreement with the unquantized model show damage that a task's metric hides, since
right answers that turn wrong and wrong ones that turn right cancel in it: Dutta et al. 2024, "Accuracy is Not All You
Need", arXiv:2407.09141.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgedistill.errors import QuantizationError
from edgedistill.models.quantized import batch_matters
from edgedistill.quantize.decisions import Decision
from edgedistill.quantize.exchange import exchange
from edgedistill.statistics import accuracy, difference
from edgedistill.training.predict import BATCH_SIZE, logits_of
from edgedistill.training.rows import TokenRows
from edgedistill.values import QuantizationCost

MOST_ROWS = 2048  # then 99 % has an interval of 0.4 points to each side


@dataclass(frozen=True)
class Judge:
    """Holds quantized models against the float one, on the same rows."""

    model: Any  # float, in evaluation mode; left as it is
    rows: TokenRows
    labels: np.ndarray  # (rows,) int64; -1 where the row has no gold label
    classes: int

    def fewer(self, most: int) -> "Judge":
        """Return a judge of at most this many rows, spread evenly: always the same ones."""
        count = len(self.rows)
        kept = np.arange(min(count, most)) * count // min(count, most)
        return Judge(self.model, self.rows.take(kept), self.labels[kept], self.classes)

    @cached_property
    def float_logits(self) -> np.ndarray:
        """The float model's answers, (rows, classes) float32."""
        return logits_of(self.model, self.rows, self.classes)

    def cost(self, decided: Mapping[str, Decision]) -> QuantizationCost:
        """Return what these decisions cost: zero in every number where there is none.

        Where inputs are rounded on the fly the model is asked row by row, since a range would span its batch.

        Raises:
            QuantizationError: the quantized model gives logits that are not finite.
        """
        quantized = copy.deepcopy(self.model)
        exchange(quantized, decided)
        alone = batch_matters(quantized)
        logits = logits_of(quantized, self.rows, self.classes, batch_size=1 if alone else BATCH_SIZE)
        if not np.isfinite(logits).all():
            raise QuantizationError("the quantized model gives logits that are not finite")
        return compared(self.float_logits, logits, self.labels)


def compared(float_logits: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> QuantizationCost:
    """Return how far `logits` are from the float model's; KL is zero exactly where all probabilities are equal.

    Args:
        float_logits: (rows, classes), finite.
        logits: (rows, classes), finite; row i is the same text.
        labels: (rows,) int; -1 where the row has no gold label.
    """
    before, after = _log_softmax(float_logits), _log_softmax(logits)
    kl = (np.exp(before) * (before - after)).sum(axis=1).mean()
    was, now, known = float_logits.argmax(axis=1), logits.argmax(axis=1), labels >= 0
    right_before, right_now = was[known] == labels[known], now[known] == labels[known]
    return QuantizationCost(
        rows=len(labels),
        kl=max(float(kl), 0.0),
        agreement=accuracy(was == now),
        metric=accuracy(right_now) if known.any() else None,
        metric_loss=difference(right_before, right_now) if known.any() else None,
    )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the classes' probabilities, (rows, classes) float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logarithms: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
