"""Token ids of many texts, on disk and memory-mapped, and the batches that training draws from them."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

TEXTS_AT_ONCE = 4096
BATCHES_SORTED_TOGETHER = 50


@dataclass(frozen=True)
class TokenRows:
    """Ids of many rows, and which of these rows are meant."""

    ids: np.ndarray  # (tokens of all rows,) int32
    offsets: np.ndarray  # (all rows + 1,) int64; row i is ids[offsets[i]:offsets[i + 1]]
    pad_id: int  # stands where a row is shorter than its batch; some models find a text's end by it
    taken: np.ndarray | None = None  # (rows,) int64; these rows alone, in this order; None for all

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.taken is None else len(self.taken)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (rows,) int64."""
        lengths: np.ndarray = np.diff(self.offsets)
        return lengths if self.taken is None else lengths[self.taken]

    def take(self, rows: np.ndarray) -> "TokenRows":
        """Return these rows alone, in this order; their ids stay where they are."""
        return replace(self, taken=self._places(rows))

    def padded(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and mask of these rows, both (batch, tokens) int64, padded on the right.

        A float model never reads what stands under a mask of 0. One that rounds activations does: their range is
        taken over the whole batch, padding included, so such a model is to be asked one row at a time.
        """
        rows = self._places(np.asarray(rows))
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        ids = np.full((len(rows), int(lengths.max())), self.pad_id, dtype=np.int64)
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        for i, row in enumerate(rows):
            ids[i, : lengths[i]] = self.ids[self.offsets[row] : self.offsets[row + 1]]
        return ids, mask

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Return which of all rows are meant."""
        return rows if self.taken is None else self.taken[rows]


def tokenize(tokenizer: Any, texts: Iterable[str], max_length: int, ids_file: Path, offsets_file: Path) -> TokenRows:
    """Write the token ids of `texts` to the two .npy files, a few thousand texts at a time, and map them."""
    ends, remaining = array("q", [0]), iter(texts)
    with ids_file.open("wb") as out:
        _write_header(out, 0)
        while batch := list(islice(remaining, TEXTS_AT_ONCE)):
            encoded = tokenizer(batch, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
            for ids in encoded:
                out.write(np.asarray(ids, dtype=np.int32).tobytes())
                ends.append(ends[-1] + len(ids))
        out.seek(0)
        _write_header(out, ends[-1])
    np.save(offsets_file, np.frombuffer(ends, dtype=np.int64))
    return mapped(ids_file, offsets_file, tokenizer.pad_token_id)


def _write_header(out: BinaryIO, ids: int) -> None:
    """Write what stands before the ids in a .npy; it is as long for any number of them, so it can be written again."""
    np.lib.format.write_array_header_1_0(out, {"descr": "<i4", "fortran_order": False, "shape": (ids,)})


def mapped(ids_file: Path, offsets_file: Path, pad_id: int) -> TokenRows:
    """Return the rows of two .npy files without reading them into memory."""
    return TokenRows(np.load(ids_file, mmap_mode="r"), np.load(offsets_file, mmap_mode="r"), pad_id)


def shuffled_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return every row once, in batches of like length, in an order that (seed, epoch) alone decides.

    Args:
        lengths: (rows,) int; tokens of each row.

    Returns:
        Arrays of row numbers, each of `batch_size` rows but the last of a bucket.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    together = batch_size * BATCHES_SORTED_TOGETHER
    for start in range(0, len(order), together):
        bucket = order[start : start + together]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def ordered_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield every row once, short ones first, always the same way: for evaluation."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
