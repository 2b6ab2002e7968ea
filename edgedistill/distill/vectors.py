"""What is checked and measured of sentence vectors alone: that they differ, and what is left of them when cut short."""

from pathlib import Path

import numpy as np

from edgedistill.errors import TrainingError
from edgedistill.statistics import accuracy
from edgedistill.tasks._task import task_of
from edgedistill.tasks.sentence_embedding import unit
from edgedistill.training.signals import SplitSignals, turned
from edgedistill.values import Check, Evaluation, Metric, Signals, Truncation

SPREAD_LIMIT = 0.2  # above the teacher's own, or half of the way to 1: of a collapsed student all cosines are near 1


def mean_cosine(vectors: np.ndarray) -> float:
    """Return the mean cosine of all pairs of different rows of (rows, width), at least two rows."""
    units = unit(vectors).astype(np.float64)
    rows, total = len(units), units.sum(axis=0)  # total @ total is the sum over all pairs, each row with itself too
    return float((total @ total - (units * units).sum()) / (rows * (rows - 1)))


def check_spread(outputs: np.ndarray, held_out: SplitSignals) -> Check:
    """Check that the student's vectors have not collapsed into one direction.

    Args:
        outputs: (rows, width); the student's vectors of the held-out rows.

    Raises:
        TrainingError: two texts are as alike, on average, as only a collapsed student makes them.
    """
    given, teacher = mean_cosine(outputs), mean_cosine(np.asarray(held_out.outputs))
    limit = min(teacher + SPREAD_LIMIT, (1 + teacher) / 2)
    explanation = "mean cosine of the student's vectors of two validation texts"
    if given > limit:
        raise TrainingError(
            f"the vectors have collapsed: the {explanation} is {given:.3g}, the teacher's {teacher:.3g}; "
            "lower learning_rate, or give more and more various texts"
        )
    return Check(name="spread", value=given, limit=f"at most {limit:.3g}", explanation=explanation)


def truncated(
    evaluation: Evaluation, signals: Signals, splits: tuple[str, ...], folder: Path
) -> tuple[Truncation, ...]:
    """Return what the student's vectors are worth when they are cut, beside the teacher's, the longest first.

    Args:
        evaluation: of the student; its files lie below `folder`.
    """
    found = []
    for length in reversed(signals.truncations):
        student: dict[str, Metric] = {}
        teacher: dict[str, Metric] = {}
        for split in splits:
            held_out, task = SplitSignals(signals, split), task_of(signals.task)
            gold, outputs = np.asarray(held_out.labels), np.load(folder / evaluation.outputs[split])
            assert held_out.projection is not None, "shorter vectors are made of turned ones"
            whole = turned(np.asarray(held_out.outputs), held_out.projection)
            student[split] = accuracy(task.right(outputs[:, :length], gold))
            teacher[split] = accuracy(task.right(whole[:, :length], gold))
        found.append(Truncation(length=length, student=student, teacher=teacher))
    return tuple(found)
