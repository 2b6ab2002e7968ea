"""A model's logits and metric on the held-out splits, written where benchmark and report find them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgedistill.statistics import accuracy
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Evaluation, Signals


def evaluate(
    answer: Callable[[str], np.ndarray],
    signals: Signals,
    splits: tuple[str, ...],
    folder: Path,
    name: str = "evaluation",
) -> Evaluation:
    """Write `<name>/<split>.npy` below `folder` for each split, and measure accuracy on its labelled rows.

    Args:
        answer: split name -> logits, (rows, classes) float32.
        signals: hold the gold labels; -1 rows are not measured.
        splits: names of the held-out splits.
        folder: of the stage; the files' names are relative to it.
        name: of the subfolder.
    """
    (folder / name).mkdir(exist_ok=True)
    files, metrics = {}, {}
    for split in splits:
        logits, labels = answer(split), SplitSignals(signals, split).labels
        files[split] = f"{name}/{split}.npy"
        np.save(folder / files[split], logits)
        known = labels >= 0
        if known.any():
            metrics[split] = accuracy(logits[known].argmax(axis=1) == labels[known])
    return Evaluation(logits=files, metrics=metrics)
