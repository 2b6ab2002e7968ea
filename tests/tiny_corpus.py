"""Rows in a pool, without any file that they come from; and their index."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgedistill.corpus.candidates import buckets, sign
from edgedistill.corpus.duplicates import Index
from edgedistill.corpus.pool import Pool
from edgedistill.corpus.texts import Texts


def quiet(_count: int) -> None:
    return None


@contextmanager
def pool_of(rows: Iterable[tuple[str, int]], kind: type = np.int32, *, spoken: bool = False) -> Iterator[Pool]:
    """Yield a pool of texts and label indices, or sets of labels, which are np.int64."""
    with tempfile.TemporaryDirectory() as folder, Texts(Path(folder) / "texts") as texts:
        labels = []
        for text, label in rows:
            texts.append(text)
            labels.append(label)
        yield Pool.of(texts, np.array(labels, dtype=kind), spoken=spoken)


def every_row(pool: Pool) -> np.ndarray:
    return np.arange(len(pool.labels))


def signed(pool: Pool) -> np.ndarray:
    """Return the signatures of all keys."""
    with tempfile.TemporaryDirectory() as folder:
        keys = map(pool.key, range(len(pool.row_of_key)))
        return np.array(sign(keys, Path(folder) / "signatures", quiet))


def index_of(pool: Pool, threshold: float, make: type[Index] = Index) -> Index:
    """Return an empty index of the pool's keys."""
    signatures = signed(pool)
    return make(threshold, signatures, buckets(signatures, threshold), pool.key)
