"""What it costs a teacher to read in the tokens that its student keeps: the same bytes, once so and once in its own.

Losses of different tokens are compared by the byte. Both readings of a row begin and end where both have the end of a
token, so that they are of the very same bytes; the teacher's own begins no earlier than the other.

Source: Gao et al. 2020, "The Pile", arXiv:2101.00027, section 3.1 (bits per byte).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgedistill.decoder_values import OwnReading
from edgedistill.models.decoder_vocabulary import written_of
from edgedistill.models.tokenizer_json import of_bytes, token_ids
from edgedistill.statistics import mean_over_rows
from edgedistill.tasks.text_generation import Options
from edgedistill.training.decoder_rows import DecoderRows, conversation_row, rows_of_texts
from edgedistill.training.folding import Folding
from edgedistill.training.positions import AT_ONCE, Answer, log_probabilities

BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
UNCUT = 2**31  # tokens


@dataclass(frozen=True)
class Reading:
    """A row in some tokens: which of them count, and the byte of its text at which each ends."""

    ids: np.ndarray  # (tokens,) int64, of the whole vocabulary
    counts: np.ndarray  # (tokens,) bool
    ends: np.ndarray  # (tokens,) int64

    def between(self, first: int, last: int) -> np.ndarray:
        """Return the counted tokens after one byte and up to another, (tokens,) bool."""
        found: np.ndarray = self.counts & (self.ends > first) & (self.ends <= last)
        return found


@dataclass(frozen=True)
class WholeTeacher:
    """A teacher as it is, with all of its tokens."""

    answer: Answer
    tokenizer: Any
    kept: Any  # the tokenizer of the kept tokens
    folding: Folding  # its tokens and the kept ones
    options: Options

    def readings(self, texts: Iterable[str], rows: DecoderRows, log_probs: np.ndarray) -> OwnReading:
        """Return how much it loses on a split in kept tokens and in its own.

        Args:
            texts: that the rows are cut from.
            rows: of kept tokens.
            log_probs: (positions,) what it said of them.
        """
        losses, bytes_of, tokens = [], [], np.zeros(2, dtype=np.int64)
        for number, (ours, own) in enumerate(self._pairs(texts, rows)):
            common = np.intersect1d(ours.ends, own.ends)
            if not len(common):
                continue
            chosen, counted = (one.between(common[0], common[-1]) for one in (ours, own))
            if not chosen.any() or not counted.any():
                continue
            row = rows.counted.row(number)
            said = -log_probs[row.positions][chosen[row.places + 1]].sum(dtype=np.float64)
            losses.append([said, self._loss(own.ids, np.flatnonzero(counted))])
            bytes_of.append(int(np.diff([0, *ours.ends])[chosen].sum()))
            tokens += [chosen.sum(), counted.sum()]
        sums, counts = np.array(losses).reshape(-1, 2), np.array(bytes_of)
        return OwnReading(
            bytes=int(counts.sum()),
            tokens=int(tokens[0]),
            whole_tokens=int(tokens[1]),
            loss=mean_over_rows(sums[:, 0], counts),
            whole_loss=mean_over_rows(sums[:, 1], counts),
            difference=mean_over_rows(sums[:, 0] - sums[:, 1], counts),
        )

    def _loss(self, ids: np.ndarray, places: np.ndarray) -> float:
        """Return the loss of the tokens at these places of a row, in nats."""
        logits = np.asarray(self.answer(ids.tolist()))[:, : self.folding.whole]
        found = 0.0
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            found -= float(log_probabilities(logits[some - 1])[np.arange(len(some)), ids[some]].sum())
        return found

    def _pairs(self, given: Iterable[str], rows: DecoderRows) -> Iterator[tuple[Reading, Reading]]:
        """Yield each row in kept tokens and in the teacher's own."""
        lengths = byte_lengths(self.tokenizer)
        texts, at = enumerate(given), -1
        own = Reading(*(np.empty(0, dtype=np.int64),) * 3)
        windows: Iterator[tuple[int, np.ndarray]] = iter(())
        for number, belongs in enumerate(np.asarray(rows.texts).tolist()):
            if belongs != at:
                text = next(text for at, text in texts if at == belongs)
                at, own, windows = belongs, self._own(text, lengths), self._windows(text, lengths)
            span = slice(*rows.tokens.offsets[number : number + 2])
            read = np.asarray(rows.tokens.ids[span])
            begins = next(before for before, window in windows if np.array_equal(window, read))
            ids = self.folding.kept[read]
            ours = Reading(ids, np.asarray(rows.counted.counts[span]), begins + np.cumsum(lengths[ids]))
            within = (own.ends - lengths[own.ids] >= begins) & (own.ends <= ours.ends[-1])
            counts = own.counts[within].copy()
            counts[:1] = False  # nothing stands before it
            yield ours, Reading(own.ids[within], counts, own.ends[within])

    def _windows(self, text: str, lengths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield every row that a text is cut into, and the bytes of the text before it."""
        before = 0
        for _, row in rows_of_texts(
            self.kept, [text], self.options.max_length, conversations=self.options.conversations
        ):
            ids = np.asarray(row.ids)
            yield before, ids
            before += int(lengths[self.folding.kept[ids]].sum())

    def _own(self, text: str, lengths: np.ndarray) -> Reading:
        """Return a whole text in the teacher's own tokens."""
        if self.options.conversations:
            row = conversation_row(self.tokenizer, text, UNCUT)
            ids, counts = ([], []) if row is None else (row.ids, row.counts)
        else:
            ids = self.tokenizer(text, verbose=False)["input_ids"]
            counts = [True] * len(ids)
        read = np.asarray(ids, dtype=np.int64)
        return Reading(read, np.asarray(counts, dtype=bool), np.cumsum(lengths[read]))


def byte_lengths(tokenizer: Any) -> np.ndarray:
    """Return how many bytes of text each token of a BPE tokenizer stands for, (ids,) int64; 0 where there is none.

    A special token stands for its name.
    """
    written = written_of(tokenizer)
    ids = token_ids(written)
    added = {token["content"] for token in written["added_tokens"]}
    bytewise = of_bytes(written)
    found = np.zeros(max(ids.values()) + 1, dtype=np.int64)
    for token, i in ids.items():
        if token in added:
            found[i] = len(token.encode())
        elif bytewise:
            found[i] = len(token)  # a character for each byte
        else:
            found[i] = 1 if BYTE.fullmatch(token) else len(token.replace("\u2581", " ").encode())
    return found
