"""Reading one split of a finished corpus."""

from dataclasses import dataclass

import numpy as np

from edgedistill.values import Corpus


@dataclass(frozen=True)
class Rows:
    """A split in memory; three columns of the same length, in the order of its file."""

    texts: list[str]
    labels: np.ndarray  # (rows,) int64; an index into the corpus' labels, -1 where there is none
    row_hashes: list[str]  # 16 hex digits of the SHA-256 of each text


def read(corpus: Corpus, split: str) -> Rows:
    """Return the rows of a split; `corpus.splits` has the names."""
    import pyarrow.parquet as pq

    table = pq.read_table(corpus.path(corpus.splits[split].file))
    labels = table["label"].to_numpy().astype(np.int64, copy=False)
    return Rows(table["text"].to_pylist(), labels, table["row_hash"].to_pylist())
