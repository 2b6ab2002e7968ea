"""Labels as a recipe names them, and sets of them as whole numbers: bit i of a set is label i, and -1 is no set."""

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

MOST_AT_ONCE = 62
"""Labels that a set can be made of: it is stored as a signed number of 64 bits."""


def _told_apart(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
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


Labels = Annotated[
    tuple[str, ...] | None,
    AfterValidator(_told_apart),
    Field(
        examples=[["negative", "positive"]],
        description="In the order of the logits; left out, the teacher's or the data's, sorted.",
    ),
]


def members(sets: np.ndarray, labels: int) -> np.ndarray:
    """Return which labels are in each set, (rows, labels) bool.

    Args:
        sets: (rows,) int64, none of them -1.
        labels: how many there are.
    """
    found: np.ndarray = (sets[:, None] >> np.arange(labels)) & 1 == 1
    return found


def as_sets(held: np.ndarray) -> np.ndarray:
    """Return each row's set, (rows,) int64, from which labels it has, (rows, labels) bool."""
    found: np.ndarray = held @ (np.int64(1) << np.arange(held.shape[1]))
    return found
