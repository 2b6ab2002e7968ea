"""One label for each text."""

from typing import ClassVar, Literal

import numpy as np

from edgedistill.section import TaskOptions
from edgedistill.tasks._labels import Labels


class Options(TaskOptions):
    """What the classifier is to tell apart."""

    kind: Literal["text_classification"]
    labels: Labels = None

    METRIC: ClassVar[str] = "accuracy"
    PIPELINE_TAG: ClassVar[str] = "text-classification"
    LABELLED: ClassVar[bool] = True
    GOLD_LOSS: ClassVar[str] = "cross_entropy"
    OUTPUT: ClassVar[str] = "logits"
    AGREEMENT: ClassVar[str] = "same top class"
    DIVERGENCE: ClassVar[str] = "KL, nats"


def gold(labels: np.ndarray, teacher: np.ndarray) -> np.ndarray:  # noqa: ARG001 - other tasks ask the teacher
    """Return the labels themselves, (rows,) int64; -1 where there is none."""
    return labels


def right(outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return which rows with a gold label are right, (rows with gold,) bool: the largest logit stands at the label.

    Args:
        outputs: (rows, classes) float.
        gold: (rows,) int, each an index of a class, or -1.
    """
    known = gold >= 0
    found: np.ndarray = outputs[known].argmax(axis=1) == gold[known]
    return found


def agree(reference: np.ndarray, outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:  # noqa: ARG001 - needs none
    """Return which rows have the reference's top class, (rows,) bool.

    Args:
        reference: (rows, classes) float.
        outputs: (rows, classes) float.
        gold: not read.
    """
    same: np.ndarray = outputs.argmax(axis=1) == reference.argmax(axis=1)
    return same


def divergence(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Return the mean of KL(reference || outputs) over rows, in nats; zero exactly where all probabilities are equal.

    Args:
        reference: (rows, classes) float, finite.
        outputs: (rows, classes) float, finite.
    """
    before, after = _log_softmax(reference), _log_softmax(outputs)
    return max(float((np.exp(before) * (before - after)).sum(axis=1).mean()), 0.0)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the logarithms of the classes' probabilities, (rows, classes) float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logarithms: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
