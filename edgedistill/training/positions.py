"""What a language model says at each counted position of a split: computed row by row, over the whole vocabulary.

It takes a function from ids to logits, so that a model in PyTorch and a file in its runtime are measured by the same
lines. Logits are float32; what is summed over the vocabulary is float64.

Source: Kullback, Leibler 1951, "On Information and Sufficiency"; per-position KL of language models as llama.cpp's
`llama-perplexity --kl-divergence` has it, https://github.com/ggml-org/llama.cpp/tree/master/tools/perplexity
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgedistill.decoder_values import POSITION
from edgedistill.errors import StageError
from edgedistill.resumable import resumable
from edgedistill.training.counted_rows import CountedRow, CountedRows

AT_ONCE = 64  # positions; several arrays of (positions, vocabulary) float64 are in memory
LOWEST_FLOAT16 = float(np.finfo(np.float16).min)

Answer = Callable[[Sequence[int]], np.ndarray]
"""Ids of a row -> logits after each, (tokens, at least the vocabulary) float32."""


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return log softmax over the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def divergence(reference: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """Return KL(reference || model) at each position, in nats; zero exactly where both are the same.

    Args:
        reference: (positions, vocabulary) log-probabilities.
        log_probs: (positions, vocabulary) of the model.
    """
    found: np.ndarray = np.maximum((np.exp(reference) * (reference - log_probs)).sum(axis=-1), 0)
    return found


def positions_of(
    answer: Answer,
    rows: CountedRows,
    vocabulary: int,
    *,
    teacher: np.ndarray | None = None,
    student: np.ndarray | None = None,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return what a model says at every position, (positions,) of POSITION.

    Args:
        answer: the model.
        rows: the split.
        vocabulary: ids that the tokenizer knows; further logits are left out, as no text has their tokens.
        teacher: (positions, vocabulary) float16 log-probabilities; without it kl_teacher is NaN.
        student: those of the float student; without it kl_student is NaN.
        advance: told the positions of each row that is done.

    Raises:
        StageError: the model gives too few logits or one that is no number, or a reference is of other positions.
    """
    _check_references(rows, vocabulary, teacher, student)
    found = np.empty(rows.positions, dtype=POSITION)
    for row in rows:
        of_row = [None if said is None else said[row.positions] for said in (teacher, student)]
        found[row.positions] = _row(_logits(answer, row, vocabulary), row.tokens, *of_row)
        if advance is not None:
            advance(len(row.tokens))
    return found


def write_reference(
    answer: Answer,
    rows: CountedRows,
    vocabulary: int,
    file: Path,
    positions_file: Path,
    progress: Path,
    what: str,
    *,
    teacher: np.ndarray | None = None,
) -> np.ndarray:
    """Write what a model says at every position, for others to be held against; return its positions, memory-mapped.

    Each row is asked once. A killed recording goes on at the rows it had reached.

    Args:
        answer: the model.
        rows: the split.
        vocabulary: ids that the tokenizer knows.
        file: gets (positions, vocabulary) float16 log-probabilities, .npy.
        positions_file: gets (positions,) of POSITION, .npy.
        progress: folder that remembers how many rows are done.
        what: said beside the progress bar.
        teacher: reference of the teacher where the model is a student.
    """
    _check_references(rows, vocabulary, teacher)
    if not positions_file.exists():
        file.unlink(missing_ok=True)  # both begin anew
        np.save(positions_file, np.zeros(rows.positions, dtype=POSITION))
    found: np.memmap = np.lib.format.open_memmap(positions_file, mode="r+")
    filled = np.flatnonzero(np.diff(rows.starts))
    batches = [np.arange(*rows.starts[number : number + 2]) for number in filled]
    row_at = {int(batch[0]): int(number) for batch, number in zip(batches, filled, strict=True)}

    def ask(batch: np.ndarray) -> np.ndarray:
        row = rows.row(row_at[int(batch[0])])
        logits = _logits(answer, row, vocabulary)
        found[row.positions] = _row(logits, row.tokens, None if teacher is None else teacher[row.positions], None)
        found.flush()
        blocks = [log_probabilities(logits[i : i + AT_ONCE]) for i in range(0, len(logits), AT_ONCE)]
        return np.concatenate([np.maximum(block, LOWEST_FLOAT16).astype(np.float16) for block in blocks])

    shape = (rows.positions, vocabulary)
    resumable(file, shape, batches, ask, progress, what, "positions", dtype=np.float16)
    return found


def _check_references(rows: CountedRows, vocabulary: int, *references: np.ndarray | None) -> None:
    wanted = (rows.positions, vocabulary)
    for reference in references:
        if reference is not None and reference.shape != wanted:
            raise StageError(
                f"a reference of {reference.shape} cannot judge {wanted[0]} positions over {wanted[1]} tokens; "
                "teacher, student and split must be of one run"
            )


def _logits(answer: Answer, row: CountedRow, vocabulary: int) -> np.ndarray:
    """Return the logits that say the row's counted tokens, (positions, vocabulary) float32."""
    said = np.asarray(answer(row.ids))
    if said.shape[0] != len(row.ids) or said.shape[1] < vocabulary:
        raise StageError(
            f"a model gave logits of shape {said.shape} for {len(row.ids)} tokens of a vocabulary of {vocabulary}"
        )
    logits: np.ndarray = said[row.places, :vocabulary].astype(np.float32, copy=False)
    if not np.isfinite(logits).all():
        raise StageError(f"a model's logits are not finite on the row that begins with ids {row.ids[:8]}")
    return logits


def _row(logits: np.ndarray, tokens: np.ndarray, teacher: np.ndarray | None, student: np.ndarray | None) -> np.ndarray:
    found = np.empty(len(tokens), dtype=POSITION)
    for start in range(0, len(tokens), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        here, every = logits[some], np.arange(len(tokens[some]))
        log_probs = log_probabilities(here)
        found["log_prob"][some] = log_probs[every, tokens[some]]
        tops = here.argmax(axis=1)
        others = here.copy()
        others[every, tops] = -np.inf
        found["top"][some] = tops
        found["margin"][some] = here[every, tops] - others.max(axis=1)
        for name, reference in (("kl_teacher", teacher), ("kl_student", student)):
            # float16 rounds each log-probability; scaled to sum to 1 again, only the error's square is left
            found[name][some] = (
                np.nan if reference is None else divergence(log_probabilities(reference[some]), log_probs)
            )
    return found
