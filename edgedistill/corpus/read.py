"""Reading one split of a finished corpus: whole, or piece by piece where it may be large."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.values import Corpus

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Rows:
    """A split in memory; three columns of the same length, in the order of its file."""

    texts: list[str]
    labels: np.ndarray  # (rows,) int64; an index into the corpus' labels or a set of them, -1 where there is none
    row_hashes: list[str]  # 16 hex digits of the SHA-256 of each text


def read(corpus: Corpus, split: str) -> Rows:
    """Return the rows of a split; `corpus.splits` has the names. Of train, take a column or batches instead."""
    import pyarrow.parquet as pq

    table = pq.read_table(corpus.path(corpus.splits[split].file))
    labels = table["label"].to_numpy().astype(np.int64, copy=False)
    return Rows(table["text"].to_pylist(), labels, table["row_hash"].to_pylist())


def labels_of(corpus: Corpus, split: str) -> np.ndarray:
    """Return the labels of a split, (rows,) int64; -1 where there is none."""
    parts = [batch["label"].to_numpy() for batch in batches(corpus, split, "label")]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def texts_of(corpus: Corpus, split: str, *, labelled: bool = False) -> Iterator[str]:
    """Yield the texts of a split, or those alone that have a label, without ever holding them all."""
    for batch in batches(corpus, split, "text", "label"):
        wanted = batch["label"].to_numpy() >= 0
        texts = batch["text"].to_pylist()
        yield from (text for text, known in zip(texts, wanted, strict=True) if known or not labelled)


def row_hashes_of(corpus: Corpus, split: str) -> np.ndarray:
    """Return the row hashes of a split, (rows,) S16."""
    parts = [np.array(batch["row_hash"].to_pylist(), dtype="S16") for batch in batches(corpus, split, "row_hash")]
    return np.concatenate([np.empty(0, dtype="S16"), *parts])


def prompts_of(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Yield each prompt that the teacher is to answer, with its row hash, in the order of their file."""
    import pyarrow.parquet as pq

    if corpus.prompts is not None:
        with pq.ParquetFile(corpus.path(corpus.prompts.file)) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=["text", "row_hash"]):
                yield from zip(batch["text"].to_pylist(), batch["row_hash"].to_pylist(), strict=True)


def batches(corpus: Corpus, split: str, *columns: str) -> Iterator["pa.RecordBatch"]:
    """Yield some columns of a split, a few thousand rows at a time, in the order of its file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(corpus.path(corpus.splits[split].file)) as file:
        yield from file.iter_batches(ROWS_AT_ONCE, columns=list(columns))
