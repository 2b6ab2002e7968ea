"""Any number of labels for each text, or none: each label holds or does not, whatever the others do.

A row's labels are one whole number: bit i says whether label i holds, so 0 says that none does; -1 where nothing is
known. A label is said to hold where its logit is positive, its probability above one half: the threshold is not chosen.
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import field_validator

from edgedistill.section import TaskOptions
from edgedistill.tasks._labels import MOST_AT_ONCE, Labels, members


class Options(TaskOptions):
    """Which labels may hold of a text."""

    kind: Literal["multi_label_classification"]
    labels: Labels = None

    @field_validator("labels")
    @classmethod
    def _fit_into_a_set(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None and len(labels) > MOST_AT_ONCE:
            raise ValueError(f"has {len(labels)} labels; a row's labels are chosen among at most {MOST_AT_ONCE}")
        return labels

    METRIC: ClassVar[str] = "exact_match"
    PIPELINE_TAG: ClassVar[str] = "text-classification"
    LABELLED: ClassVar[bool] = True
    SEVERAL: ClassVar[bool] = True
    GOLD_LOSS: ClassVar[str] = "binary_cross_entropy"
    OUTPUT: ClassVar[str] = "logits"
    AGREEMENT: ClassVar[str] = "same labels"
    DIVERGENCE: ClassVar[str] = "KL, nats"


def gold(labels: np.ndarray, teacher: np.ndarray) -> np.ndarray:  # noqa: ARG001 - other tasks ask the teacher
    """Return the sets of labels themselves, (rows,) int64; -1 where nothing is known."""
    return labels


def right(outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return which rows with gold are right, (rows with gold,) bool: exactly their labels have a positive logit.

    Args:
        outputs: (rows, labels) float.
        gold: (rows,) int64, each a set of labels, or -1.
    """
    known = gold >= 0
    found: np.ndarray = ((outputs[known] > 0) == members(gold[known], outputs.shape[1])).all(axis=1)
    return found


def agree(reference: np.ndarray, outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:  # noqa: ARG001 - needs none
    """Return which rows have the reference's set of labels, (rows,) bool.

    Args:
        reference: (rows, labels) float.
        outputs: (rows, labels) float.
        gold: not read.
    """
    same: np.ndarray = ((outputs > 0) == (reference > 0)).all(axis=1)
    return same


def divergence(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Return the mean over rows of the sum over labels of KL(reference || outputs), in nats; zero where all is equal.

    Of each label these are two distributions over two outcomes, that it holds and that it does not.

    Args:
        reference: (rows, labels) float, finite.
        outputs: (rows, labels) float, finite.
    """
    before, after = reference.astype(np.float64), outputs.astype(np.float64)
    total = 0.0
    for logits, others in ((before, after), (-before, -after)):  # that it holds, that it does not
        wanted = _log_sigmoid(logits)
        total += float((np.exp(wanted) * (wanted - _log_sigmoid(others))).sum(axis=1).mean())
    return max(total, 0.0)


def _log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the probabilities, without overflow at either end."""
    logarithms: np.ndarray = -np.logaddexp(0, -logits)
    return logarithms
