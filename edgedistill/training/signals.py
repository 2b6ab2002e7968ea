"""The teacher's cached outputs on one split, mapped into memory."""

import numpy as np

from edgedistill.errors import StageError
from edgedistill.student_values import Tokens
from edgedistill.training.rows import TokenRows, mapped
from edgedistill.values import Signals


def rows_of(reader: Signals | Tokens, name: str) -> TokenRows:
    """Return one split's token ids, as the teacher or as the student reads them."""
    split = reader.splits[name]
    return mapped(reader.path(split.token_ids), reader.path(split.offsets), reader.pad_token_id)


class SplitSignals:
    """What a model reads and what the teacher said, row by row; `distill/signals.py` recorded it."""

    def __init__(self, signals: Signals, name: str, tokens: Tokens | None = None) -> None:
        """Map one split.

        Args:
            tokens: the rows as the student reads them; without, they are as the teacher read them.

        Raises:
            StageError: the student's rows are not as many as the teacher's.
        """
        split = signals.splits[name]
        self.rows: TokenRows = rows_of(signals if tokens is None else tokens, name)
        if len(self.rows) != split.rows:
            raise StageError(f"the student reads {len(self.rows)} rows of {name}, and the teacher read {split.rows}")
        self.row_hashes: np.ndarray = np.load(signals.path(split.row_hashes), mmap_mode="r")  # (rows,) S16
        self.labels: np.ndarray = np.load(signals.path(split.labels), mmap_mode="r")  # (rows,) int64, -1 without gold
        self.outputs: np.ndarray = np.load(signals.path(split.outputs), mmap_mode="r")  # (rows, width) float32
        self.projection = projection_of(signals)

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """Return what the student is to say of these rows, (rows, width) float32: the teacher's words, turned."""
        said = np.asarray(self.outputs[rows])
        return said if self.projection is None else turned(said, self.projection)


def projection_of(signals: Signals) -> np.ndarray | None:
    """Return how the teacher's vectors are turned for the student, (teacher's width, width); None: not at all."""
    return None if signals.projection is None else np.load(signals.path(signals.projection))


def turned(vectors: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Return vectors along other directions, each as long as it was: fewer directions make none shorter."""
    short: np.ndarray = vectors @ projection
    lengths = [np.linalg.norm(each, axis=1, keepdims=True) for each in (vectors, short)]
    scaled: np.ndarray = short * (lengths[0] / np.where(lengths[1] == 0, 1, lengths[1]))
    return scaled
