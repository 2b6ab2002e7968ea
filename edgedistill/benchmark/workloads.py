"""The inputs that are timed: short and long texts of the test split, one at a time and eight at a time."""

from dataclasses import dataclass

import numpy as np

BANDS = {"short": (25, 50), "long": (90, 99)}  # percentiles of the split's lengths in tokens
BATCHES = (1, 8)
TEXTS = 32
PAUSE_S = 0.02  # long enough for clock rate and caches to be lost, as between two calls of an app


@dataclass(frozen=True)
class Workload:
    """Rows of the test split, in batches; the batches of one workload are alike in length."""

    name: str
    batch: int
    batches: tuple[tuple[int, ...], ...]
    pause_s: float = 0.0  # idle before each call


def choose(lengths: np.ndarray) -> tuple[Workload, ...]:
    """Return every workload; the same lengths give the same rows.

    Args:
        lengths: (rows,) int; tokens of each text of the test split, at least one row.
    """
    order = np.argsort(lengths, kind="stable")
    back_to_back = [
        Workload(f"batch_{batch}_{name}", batch, _batches(_band(order, *percentiles), batch))
        for batch in BATCHES
        for name, percentiles in BANDS.items()
    ]
    first, *others = back_to_back
    return first, Workload("batch_1_spaced", first.batch, first.batches, PAUSE_S), *others


def _band(order: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return up to TEXTS different rows, evenly spread between two percentiles of length."""
    first = len(order) * low // 100
    last = max(first, len(order) * high // 100 - 1)
    places = np.linspace(first, last, min(TEXTS, last - first + 1)).round().astype(int)
    rows: np.ndarray = order[places]
    return rows


def _batches(rows: np.ndarray, batch: int) -> tuple[tuple[int, ...], ...]:
    """Return the rows in batches of `batch`; where there are too few for one, rows come again."""
    count = max(1, len(rows) // batch)
    return tuple(tuple(np.resize(rows[i::count], batch).tolist()) for i in range(count))
