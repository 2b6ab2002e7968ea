"""What a model of a large vocabulary says, in the words of a smaller one.

The student lacks some of the teacher's tokens, and spells them in pieces. So the teacher reads what the student reads,
under its own ids, and the probability that it gives to a token that the student lacks goes to the piece that the
student begins that token with. Nothing is scaled: what goes over is counted, and each distribution still sums to 1.
For the first piece that is what the teacher means; on the pieces after it the teacher is asked what follows half a
token, which it has seldom read, and its answer is taken as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from edgedistill.errors import StageError
from edgedistill.training.decoder_rows import DecoderRows
from edgedistill.training.positions import Answer

FAINTEST = 1e-30  # of a group's probability over the likeliest token's; below that float32 loses digits
AT_ONCE = 64  # positions; several arrays of (positions, whole vocabulary) are in memory


@dataclass(frozen=True)
class Folding:
    """Which tokens of a whole vocabulary are kept, and what the others become."""

    kept: np.ndarray  # (vocabulary,) int64; the whole vocabulary's id of each kept token
    first: np.ndarray  # (whole vocabulary,) int64; the kept token that each begins with, its own; -1: no token

    def __post_init__(self) -> None:
        if not np.array_equal(self.first[self.kept], np.arange(len(self.kept))):
            raise StageError("a kept token does not stand for itself; trim the vocabulary again")

    @property
    def whole(self) -> int:
        """Ids of the whole vocabulary."""
        return len(self.first)

    @cached_property
    def _order(self) -> np.ndarray:
        """Ids of the whole vocabulary, those together that become one token."""
        tokens = np.flatnonzero(self.first >= 0)
        found: np.ndarray = tokens[np.argsort(self.first[tokens], kind="stable")]
        return found

    @cached_property
    def _starts(self) -> np.ndarray:
        """Where in that order those of each kept token begin."""
        found: np.ndarray = np.searchsorted(self.first[self._order], np.arange(len(self.kept)))
        return found

    def ids(self, ids: Sequence[int] | np.ndarray) -> list[int]:
        """Return ids of kept tokens as the whole vocabulary has them."""
        found: list[int] = self.kept[np.asarray(ids, dtype=np.int64)].tolist()
        return found

    def logits(self, whole: np.ndarray) -> np.ndarray:
        """Return logits over the kept tokens, (positions, vocabulary) float32: log of each group's summed exp.

        Args:
            whole: logits over the whole vocabulary, (positions, at least that) float32.

        Raises:
            StageError: there are fewer.
        """
        if whole.shape[1] < self.whole:
            raise StageError(f"a model of {whole.shape[1]} tokens cannot speak for a vocabulary of {self.whole}")
        found = np.empty((len(whole), len(self.kept)), dtype=np.float32)
        for start in range(0, len(whole), AT_ONCE):
            ordered = whole[start : start + AT_ONCE].take(self._order, axis=1)
            tops, shares = _shares(ordered)
            sums = np.add.reduceat(shares, self._starts, axis=1)
            faint = (sums < FAINTEST).any(axis=1)
            sums[faint] = 1
            folded = tops + np.log(sums)
            folded[faint] = self._exactly(ordered[faint])
            found[start : start + AT_ONCE] = folded
        return found

    def moved(self, whole: np.ndarray) -> np.ndarray:
        """Return the probability that goes over from dropped tokens to kept ones, (positions,) float64."""
        dropped = np.flatnonzero(~np.isin(self._order, self.kept))
        found = np.empty(len(whole))
        for start in range(0, len(whole), AT_ONCE):
            _, shares = _shares(whole[start : start + AT_ONCE].take(self._order, axis=1))
            over = shares.take(dropped, axis=1).sum(axis=1, dtype=np.float64)
            found[start : start + AT_ONCE] = over / shares.sum(axis=1, dtype=np.float64)
        return found

    def _exactly(self, ordered: np.ndarray) -> np.ndarray:
        """Return what `logits` does, each group by its own top: a group may be less likely than float32 can hold."""
        sizes = np.diff([*self._starts, len(self._order)])
        tops = np.maximum.reduceat(ordered, self._starts, axis=1)
        shares = np.exp(ordered - np.repeat(tops, sizes, axis=1))
        found: np.ndarray = tops + np.log(np.add.reduceat(shares, self._starts, axis=1))
        return found

    def answer(self, answer: Answer) -> Answer:
        """Return what asks a model of the whole vocabulary as if it had the kept tokens alone."""
        return lambda ids: self.logits(np.asarray(answer(self.ids(ids))))


def _shares(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's top, (positions, 1), and exp of all its logits less that, float32."""
    tops = logits.max(axis=1, keepdims=True)
    return tops, np.exp(logits - tops)


def in_whole_ids(rows: DecoderRows, folding: Folding) -> DecoderRows:
    """Return the same rows under the whole vocabulary's ids."""
    ids = folding.kept[rows.tokens.ids].astype(np.int32)
    padding = int(folding.kept[rows.tokens.pad_id])
    tokens = replace(rows.tokens, ids=ids, pad_id=padding)
    return replace(rows, tokens=tokens, counted=replace(rows.counted, ids=ids))


def read_folding(kept: Path, first: Path) -> Folding:
    """Return what two .npy files say."""
    return Folding(np.load(kept), np.load(first))
