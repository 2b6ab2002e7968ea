"""Texts that are the same, or nearly the same.

Two texts are compared after NFKC, casefolding and collapsing white space. They are *exact* duplicates when nothing
differs after that, and *near* duplicates when the Jaccard similarity of their sets of character 5-grams reaches the
recipe's threshold. Candidates come from `candidates.py`; every one is then compared exactly, so nothing is removed on
an estimate.

Which of several duplicates stays is decided by a hash of the text, not by its place in a file: the same rows in
another order give the same corpus.

Cost: about 0.3 ms and 200 bytes per text of 100 characters, linear in the rows as long as few texts share most of
their 5-grams; thousands of fillings of one template that stay just below the threshold are compared pair by pair.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgedistill.corpus.candidates import AT_ONCE, Buckets, grams
from edgedistill.corpus.pool import Pool

SLACK = 0.25  # four standard deviations or more of a signature's estimate; spares most exact comparisons


@dataclass(frozen=True)
class Thinned:
    """Rows of which no two are duplicates, in the order of their keys, and how many others there were."""

    rows: np.ndarray  # (rows,) int64; numbers of the pool's rows
    exact_removed: int = 0
    near_removed: int = 0
    conflicting_removed: int = 0
    empty_removed: int = 0


def similarity(first: set[str], second: set[str]) -> float:
    """Return the Jaccard similarity of two sets of 5-grams; 1 for equal sets, 0 for disjoint ones."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


def merge_exact(pool: Pool, rows: np.ndarray) -> Thinned:
    """Keep one row of each text; none where its labels contradict each other, and none of white space alone.

    A labelled row is kept before an unlabelled one, and then the one whose text comes first in code point order.
    """
    rows = rows[np.argsort(pool.keys[rows], kind="stable")]
    keys, labels = pool.keys[rows], pool.labels[rows]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sizes = np.diff(starts, append=len(rows))
    most = np.maximum.reduceat(labels, starts)
    least = np.minimum.reduceat(np.where(labels < 0, np.iinfo(labels.dtype).max, labels), starts)
    blank = keys[starts] == pool.blank_key
    conflicting = (most >= 0) & (least != most) & ~blank
    kept = ~conflicting & ~blank
    chosen = rows[starts]
    for group in np.flatnonzero(kept & (sizes > 1)):
        same = rows[starts[group] : starts[group] + sizes[group]]
        chosen[group] = min(same[pool.labels[same] == most[group]], key=pool.texts.__getitem__)
    return Thinned(
        chosen[kept],
        exact_removed=int((sizes[kept] - 1).sum()),
        conflicting_removed=int(sizes[conflicting].sum()),
        empty_removed=int(sizes[blank].sum()),
    )


class Index:
    """The keys that were kept so far, and which of them are nearly a given one."""

    def __init__(self, threshold: float, signatures: np.ndarray, buckets: Buckets, key: Callable[[int], str]) -> None:
        """Begin without any.

        Args:
            threshold: Jaccard similarity from which two texts are near.
            signatures: (keys, PERMUTATIONS) uint32.
            buckets: of these signatures, for this threshold.
            key: number -> normalised text.
        """
        self._threshold, self._signatures, self._buckets, self._key = threshold, signatures, buckets, key
        self._kept = np.empty(buckets.starts[-1], dtype=np.int32)  # each bucket's kept keys, from its start on
        self._ends = buckets.starts[:-1].copy()

    def near(self, key: int) -> list[int]:
        """Return the kept keys whose similarity to `key` reaches the threshold, sorted."""
        candidates = self._candidates(key)
        if not len(candidates):
            return []
        own = grams(self._key(key))
        return [
            other
            for other in self._likely(key, candidates)
            if similarity(own, grams(self._key(other))) >= self._threshold
        ]

    def keep(self, key: int) -> None:
        """Keep one more."""
        shared = self._shared(key)
        self._kept[self._ends[shared]] = key
        self._ends[shared] += 1

    def _shared(self, key: int) -> np.ndarray:
        """Return the buckets that this key shares with any other, kept or not."""
        of = self._buckets.of[key]
        shared: np.ndarray = of[of >= 0]
        return shared

    def _candidates(self, key: int) -> np.ndarray:
        """Return the kept keys that share a bucket with this one, sorted."""
        starts, ends = self._buckets.starts, self._ends
        found = [self._kept[starts[bucket] : ends[bucket]] for bucket in self._shared(key)]
        return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.int32)

    def _likely(self, key: int, candidates: np.ndarray) -> Iterator[int]:
        """Yield the candidates whose signature does not rule out that they are near."""
        signature = self._signatures[key]
        for start in range(0, len(candidates), AT_ONCE):
            some = candidates[start : start + AT_ONCE]
            estimate = (self._signatures[some] == signature).mean(axis=1)
            yield from some[estimate >= self._threshold - SLACK].tolist()


def thin_near(thinned: Thinned, pool: Pool, index: Index, advance: Callable[[int], None]) -> Thinned:
    """Drop each row that is nearly the same as one kept before it, labelled rows first, then in the order of keys."""
    rows = thinned.rows
    kept = np.zeros(len(rows), dtype=bool)
    for place in np.argsort(pool.labels[rows] < 0, kind="stable"):
        advance(1)
        key = pool.keys[rows[place]]
        if not index.near(key):
            index.keep(key)
            kept[place] = True
    return replace(thinned, rows=rows[kept], near_removed=int((~kept).sum()))
