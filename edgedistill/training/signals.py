"""The teacher's cached outputs on one split, mapped into memory."""

import numpy as np

from edgedistill.training.rows import TokenRows, mapped
from edgedistill.values import Signals


class SplitSignals:
    """What the teacher read and said, row by row; `distill/signals.py` recorded it."""

    def __init__(self, signals: Signals, name: str) -> None:
        split = signals.splits[name]
        files = signals.path(split.token_ids), signals.path(split.offsets)
        self.rows: TokenRows = mapped(*files, signals.pad_token_id)
        self.row_hashes: np.ndarray = np.load(signals.path(split.row_hashes), mmap_mode="r")  # (rows,) S16
        self.labels: np.ndarray = np.load(signals.path(split.labels), mmap_mode="r")  # (rows,) int64, -1 without gold
        self.logits: np.ndarray = np.load(signals.path(split.logits), mmap_mode="r")  # (rows, classes) float32
