"""Rows of token ids, with the tokens that a language model is to say, and where its logits say them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from edgedistill.errors import StageError


@dataclass(frozen=True)
class CountedRow:
    """One row, as a model reads it."""

    ids: list[int]
    places: np.ndarray  # (positions,) int64; logits[places] say the counted tokens, each one token before
    tokens: np.ndarray  # (positions,) int64; these tokens
    positions: slice  # their numbers, through all rows


@dataclass(frozen=True)
class CountedRows:
    """All rows of a split."""

    ids: np.ndarray  # (tokens of all rows,) int32
    offsets: np.ndarray  # (rows + 1,) int64; row i is ids[offsets[i]:offsets[i + 1]]
    counts: np.ndarray  # (tokens of all rows,) bool; whether the token is one that the model is to say

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.ids) or self.offsets[-1] != len(self.ids):
            raise StageError(
                f"{len(self.ids)} tokens, {len(self.counts)} marks of what counts and rows that end at "
                f"{self.offsets[-1]} are not of one split; record the signals again"
            )
        beginnings = self.offsets[:-1][np.diff(self.offsets) > 0]
        if self.counts[beginnings].any():
            raise StageError("a row's first token counts, but nothing before it can say it; mark it as not counting")

    @cached_property
    def starts(self) -> np.ndarray:
        """(rows + 1,) int64; the positions of row i are starts[i] to starts[i + 1]."""
        before: np.ndarray = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])[self.offsets]
        return before

    @property
    def positions(self) -> int:
        """Tokens that count."""
        return int(self.starts[-1])

    @property
    def tokens(self) -> np.ndarray:
        """(positions,) int32; the tokens that count."""
        return np.asarray(self.ids[self.counts])

    def row(self, number: int) -> CountedRow:
        """Return one row."""
        span = slice(self.offsets[number], self.offsets[number + 1])
        ids = np.asarray(self.ids[span], dtype=np.int64)
        said = np.flatnonzero(self.counts[span])
        return CountedRow(ids.tolist(), said - 1, ids[said], slice(*self.starts[number : number + 2].tolist()))

    def __iter__(self) -> Iterator[CountedRow]:
        """Yield the rows that have a position."""
        yield from (self.row(number) for number in np.flatnonzero(np.diff(self.starts)).tolist())


def mapped(ids_file: Path, offsets_file: Path, counts_file: Path) -> CountedRows:
    """Return the rows of three .npy files without reading them into memory."""
    return CountedRows(*(np.load(file, mmap_mode="r") for file in (ids_file, offsets_file, counts_file)))
