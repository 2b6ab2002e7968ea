"""One label for each text."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from edgedistill.section import TaskOptions


class Options(TaskOptions):
    """What the classifier is to tell apart."""

    kind: Literal["text_classification"]
    labels: tuple[str, ...] | None = Field(
        None, min_length=2, description="In the order of the logits; left out, the teacher's or the data's, sorted."
    )
    max_length: int = Field(128, ge=4, le=8192, description="Tokens of the longest input; longer texts are cut.")

    METRIC: ClassVar[str] = "accuracy"
    PIPELINE_TAG: ClassVar[str] = "text-classification"


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which items are right, (rows,) bool: the largest logit stands at the gold label.

    Args:
        logits: (rows, classes) float.
        labels: (rows,) int, each an index of a class; rows without a label must be left out before.
    """
    right: np.ndarray = logits.argmax(axis=1) == labels
    return right
