"""One label for each text."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from edgedistill.section import TaskOptions


class Options(TaskOptions):
    """What the classifier is to tell apart."""

    kind: Literal["text_classification"]
    labels: tuple[str, ...] | None = Field(
        None,
        examples=[["negative", "positive"]],
        description="In the order of the logits; left out, the teacher's or the data's, sorted.",
    )
    max_length: int = Field(128, ge=4, le=8192, description="Tokens of the longest input; longer texts are cut.")

    @field_validator("labels")
    @classmethod
    def _are_told_apart(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is None:
            return None
        if len(labels) < 2:
            raise ValueError(f"has {len(labels)} label(s); a classifier tells at least two apart")
        if not all(label.strip() for label in labels):
            raise ValueError("holds an empty label, which in data means a missing one; give it a name")
        broken = [label for label in labels if not label.isprintable()]
        if broken:
            raise ValueError(f"holds {broken[0]!r}, which does not fit on one line; give it another name")
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"names {', '.join(map(repr, twice))} more than once; name each label once")
        return labels

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
