"""The rows of all sources, by number: texts on disk, all else in arrays of a few bytes a row."""

import unicodedata
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from edgedistill.corpus.sources.conversations import what_is_said
from edgedistill.corpus.texts import Texts

RANK_BYTES = 16


@dataclass(frozen=True)
class Pool:
    """Texts, labels, and which texts are the same.

    A text's *key* is the text as it is compared; of a conversation, what user and assistant say. Keys are numbered in
    the order of their SHA-256, which no file decides: the same rows in another order give the same corpus.
    """

    texts: Texts
    spoken: bool  # whether the texts are conversations
    labels: np.ndarray  # (rows,) int32, or int64 where each is a set of labels; -1 where there is none
    keys: np.ndarray  # (rows,) int32; number of the row's key
    row_of_key: np.ndarray  # (keys,) int64; a row that has the key
    blank_key: int  # of white space alone; -1 where no text is

    @classmethod
    def of(cls, texts: Texts, labels: np.ndarray, *, spoken: bool = False) -> "Pool":
        """Number the keys of all texts."""
        ranks, blank_row = bytearray(), -1
        for row in range(len(texts)):
            key = _key(texts[row], spoken)
            # Half of a SHA-256 tells a billion keys apart and sorts them as the whole does.
            ranks += sha256(key.encode("utf-8")).digest()[:RANK_BYTES]
            blank_row = row if not key else blank_row
        high, low = np.frombuffer(ranks, ">u8").reshape(-1, 2).T.astype(np.uint64)
        order = np.lexsort((low, high))
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
        keys = np.empty(len(order), dtype=np.int32)
        keys[order] = np.cumsum(first) - 1
        return cls(texts, spoken, labels, keys, order[first], int(keys[blank_row]) if blank_row >= 0 else -1)

    def key(self, number: int) -> str:
        """Return a key by its number."""
        return _key(self.texts[self.row_of_key[number]], self.spoken)


def _key(text: str, spoken: bool) -> str:
    return normalised(what_is_said(text) if spoken else text)


def normalised(text: str) -> str:
    """Return the text as it is compared; texts that differ in case, width or white space alone become equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
