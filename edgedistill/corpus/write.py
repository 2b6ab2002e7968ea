"""Writing one split of a corpus."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.corpus.duplicates import Thinned
from edgedistill.corpus.pool import Pool
from edgedistill.files import sha256_of, sha256_of_text
from edgedistill.values import Split

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_GROUP = 1 << 16  # of the parquet file: what a reader must hold at once


def write(
    pool: Pool,
    rows: np.ndarray,
    thinned: Thinned,
    labels: tuple[str, ...],
    split: str,
    folder: Path,
    *,
    several: bool = False,
) -> Split:
    """Write rows of the pool, in this order, as the split's parquet file: whole or not at all.

    Args:
        pool: holds the rows.
        rows: (rows,) int64; their numbers.
        thinned: what was removed from the source that they come from.
        labels: class names.
        split: its name, and the file's.
        folder: where the file goes.
        several: whether a row's number is a set of labels.
    """
    import pyarrow.parquet as pq

    file = PurePosixPath(f"{split}.parquet")
    draft = folder / f"{file}.draft"
    groups = _groups(pool, rows)
    first = next(groups)
    with draft.open("wb") as out:
        with pq.ParquetWriter(out, first.schema) as writer:
            writer.write_table(first)
            for group in groups:
                writer.write_table(group)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(folder / file)
    known = pool.labels[rows] >= 0
    gold = pool.labels[rows][known]
    if several:
        counts = [int(((gold >> index) & 1).sum()) for index in range(len(labels))]
    else:
        counts = np.bincount(gold, minlength=len(labels)).tolist() if labels else []
    return Split(
        file=file,
        rows=len(rows),
        labelled_rows=int(known.sum()),
        documents=0 if labels or not known.any() else int((~known).sum()),
        label_counts=dict(zip(labels, counts, strict=True)),
        exact_duplicates_removed=thinned.exact_removed,
        near_duplicates_removed=thinned.near_removed,
        conflicting_rows_removed=thinned.conflicting_removed,
        empty_rows_removed=thinned.empty_removed,
        sha256=sha256_of(folder / file),
    )


def _groups(pool: Pool, rows: np.ndarray) -> Iterator["pa.Table"]:
    """Yield the rows as tables with columns text, label, row_hash."""
    import pyarrow as pa

    for start in range(0, len(rows), ROWS_PER_GROUP):
        group = rows[start : start + ROWS_PER_GROUP]
        texts = [pool.texts[row] for row in group]
        columns = {
            "text": pa.array(texts, pa.string()),
            "label": pa.array(pool.labels[group], pa.int64()),
            "row_hash": pa.array([sha256_of_text(text)[:16] for text in texts], pa.string()),
        }
        yield pa.table(columns)
