"""What a model says of the held-out splits, and its metric, written where benchmark and report find them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgedistill.statistics import accuracy
from edgedistill.tasks._task import task_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Evaluation, Signals


def evaluate(
    answer: Callable[[str], np.ndarray],
    signals: Signals,
    splits: tuple[str, ...],
    folder: Path,
    name: str = "evaluation",
) -> Evaluation:
    """Write `<name>/<split>.npy` below `folder` for each split, and measure its rows that have gold.

    Args:
        answer: split name -> outputs, (rows, width) float32.
        signals: hold the gold, and name the task.
        splits: names of the held-out splits.
        folder: of the stage; the files' names are relative to it.
        name: of the subfolder.
    """
    (folder / name).mkdir(exist_ok=True)
    files, metrics, task = {}, {}, task_of(signals.task)
    for split in splits:
        outputs, gold = answer(split), SplitSignals(signals, split).labels
        files[split] = f"{name}/{split}.npy"
        np.save(folder / files[split], outputs)
        if (gold >= 0).any():
            metrics[split] = accuracy(task.right(outputs, gold))
    return Evaluation(outputs=files, metrics=metrics)
