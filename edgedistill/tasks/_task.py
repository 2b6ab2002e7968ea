"""Task: what a file of this folder offers to every stage. Outputs are what a model says of texts, row by row."""

from typing import Any, Protocol, cast

import numpy as np

from edgedistill import registry

TASKS = "edgedistill.tasks"


class Task(Protocol):
    """A module of tasks/; all arrays of one call are of the same rows of one split."""

    Options: Any  # METRIC, PIPELINE_TAG, OUTPUT, AGREEMENT, DIVERGENCE: its words; LABELLED, SEVERAL, GOLD_LOSS

    def gold(self, labels: np.ndarray, teacher: np.ndarray) -> np.ndarray:
        """Return what is right for each row of a held-out split, (rows,) int64, -1 where nothing is known.

        Args:
            labels: (rows,) int64; as the corpus has them.
            teacher: (rows, width) float32; the teacher's outputs.
        """

    def right(self, outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
        """Return which measured rows a model gets right, (rows with gold,) bool."""

    def agree(self, reference: np.ndarray, outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
        """Return for which rows a model says what the reference says, (rows,) bool, or of the measured ones alone."""

    def divergence(self, reference: np.ndarray, outputs: np.ndarray) -> float:
        """Return how far outputs are from the reference's on average; 0 where they say the same."""


def task_of(kind: str) -> Task:
    """Return the module of a task."""
    return cast("Task", registry.load(TASKS, kind))
