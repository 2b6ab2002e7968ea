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
from edgedistill.tasks._task import task_of
from edgedistill.training.predict import BATCH_SIZE, outputs_of
from edgedistill.training.rows import TokenRows
from edgedistill.values import QuantizationCost

MOST_ROWS = 2048  # then 99 % has an interval of 0.4 points to each side


@dataclass(frozen=True)
class Judge:
    """Holds quantized models against the float one, on the same rows."""

    model: Any  # float, in evaluation mode; left as it is
    rows: TokenRows
    labels: np.ndarray  # (rows,) int64; the task's gold, -1 where the row has none
    task: str = "text_classification"

    def fewer(self, most: int) -> "Judge":
        """Return a judge of at most this many rows, spread evenly: always the same ones."""
        count = len(self.rows)
        kept = np.arange(min(count, most)) * count // min(count, most)
        return Judge(self.model, self.rows.take(kept), self.labels[kept], self.task)

    @cached_property
    def float_outputs(self) -> np.ndarray:
        """The float model's answers, (rows, width) float32."""
        return outputs_of(self.model, self.rows)

    def cost(self, decided: Mapping[str, Decision]) -> QuantizationCost:
        """Return what these decisions cost: zero in every number where there is none.

        Where inputs are rounded on the fly the model is asked row by row, since a range would span its batch.

        Raises:
            QuantizationError: the quantized model gives numbers that are not finite.
        """
        quantized = copy.deepcopy(self.model)
        exchange(quantized, decided)
        alone = batch_matters(quantized)
        outputs = outputs_of(quantized, self.rows, batch_size=1 if alone else BATCH_SIZE)
        if not np.isfinite(outputs).all():
            raise QuantizationError("the quantized model gives numbers that are not finite")
        return compared(self.float_outputs, outputs, self.labels, self.task)


def compared(
    before: np.ndarray, after: np.ndarray, gold: np.ndarray, kind: str = "text_classification"
) -> QuantizationCost:
    """Return how far a quantized model is from the float one.

    Args:
        before: (rows, width), finite; the float model's outputs.
        after: (rows, width), finite; row i is the same text.
        gold: (rows,) int; -1 where the row has none.
        kind: of the task.
    """
    task, known = task_of(kind), bool((gold >= 0).any())
    return QuantizationCost(
        rows=len(gold),
        kl=task.divergence(before, after),
        agreement=accuracy(task.agree(before, after, gold)),
        metric=accuracy(task.right(after, gold)) if known else None,
        metric_loss=difference(task.right(before, gold), task.right(after, gold)) if known else None,
    )
