"""An array that is computed batch by batch on disk, and goes on where an earlier try was stopped."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.files import write_atomic
from edgedistill.progress import bar

BATCHES_BETWEEN_MARKS = 32


def resumable(
    file: Path,
    shape: tuple[int, int],
    batches: Sequence[np.ndarray],
    compute: Callable[[np.ndarray], np.ndarray],
    progress: Path,
    what: str,
    unit: str,
    dtype: type[np.floating[Any]] = np.float32,
) -> np.ndarray:
    """Return `file`, a .npy, memory-mapped, with every batch computed.

    A batch counts as done only after its rows are on disk, so a row is never half written. Where the batches are the
    same each time, a resumed file is bit-identical to an undisturbed one.

    Args:
        shape: (rows, columns).
        batches: row numbers, each row in one batch.
        compute: row numbers -> their values, (batch, columns).
        progress: folder that remembers how many batches are done.
        what: said beside the progress bar.
        unit: of a row, beside the bar.
        dtype: of what is stored.
    """
    counter = progress / f"{file.stem}.batches_done"
    done = int(counter.read_text()) if counter.exists() and file.exists() else 0
    if not done:  # written out in full: in a file with holes, a full disk would be a bus error and not an exception
        np.save(file, np.zeros(shape, dtype=dtype))
    values = np.lib.format.open_memmap(file, mode="r+")
    with bar(what, shape[0], unit, done=sum(map(len, batches[:done]))) as advance:
        for i, batch in enumerate(batches[done:], start=done + 1):
            values[batch] = compute(batch)
            advance(len(batch))
            if i % BATCHES_BETWEEN_MARKS == 0 or i == len(batches):
                values.flush()
                write_atomic(counter, str(i))
    return values
