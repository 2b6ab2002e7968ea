"""Checks before a decoder is trained: each catches a distillation that would run to its end and teach nothing."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch

from edgedistill.corpus.read import texts_of
from edgedistill.decoder_values import DecoderSignals
from edgedistill.errors import StageError, TrainingError
from edgedistill.recipe_sections import DistillOptions
from edgedistill.training.decoder_rows import DecoderRows, rows_of_texts
from edgedistill.training.following import Following
from edgedistill.values import Check, Corpus

ROWS = 4
STEPS = 40
LEFT_OVER = 0.7
TEXTS = 64


def check(
    student: Any, tokenizer: Any, task: Any, options: DistillOptions, corpus: Corpus, signals: DecoderSignals,
    objective: Following, rows: DecoderRows,
) -> tuple[Check, ...]:  # fmt: skip
    """Run every check; return what was measured.

    Args:
        student: untrained; it is copied, not changed.
        tokenizer: the student's.
        rows: of train.

    Raises:
        TrainingError: one fails; the text says which, with its number.
        StageError: token ids differ, or the teacher's vocabulary is not the student's.
    """
    if student.vocab_size < signals.vocabulary:
        raise StageError(
            f"the student has {student.vocab_size} rows for {signals.vocabulary} token ids; it is of another vocabulary"
        )
    return (
        _token_ids(tokenizer, task, corpus, rows),
        _learns(deepcopy(student), objective, rows, options),
    )


def _token_ids(tokenizer: Any, task: Any, corpus: Corpus, rows: DecoderRows) -> Check:
    """The student's tokenizer gives the ids that the teacher read: a loss compares the same token on both sides."""
    read = {int(text): place for place, text in reversed(list(enumerate(rows.texts)))}  # the first row of each text
    compared = 0
    for number, text in enumerate(texts_of(corpus, "train")):
        if compared == TEXTS or number not in read:
            continue
        windows = rows_of_texts(tokenizer, [text], task.max_length, conversations=task.conversations)
        begin, end = rows.tokens.offsets[read[number] : read[number] + 2]
        if rows.tokens.ids[begin:end].tolist() not in [row.ids for _, row in windows]:
            raise StageError(f"teacher and student read row {number} of train as different token ids")
        compared += 1
    return Check(
        name="token_ids", value=compared, limit="all", explanation="texts that both models read as the same ids"
    )


def _learns(student: Any, objective: Following, rows: DecoderRows, options: DistillOptions) -> Check:
    """A few steps on a few rows bring their loss down: gradients reach the weights, and have the right sign."""
    torch.manual_seed(options.seed)
    batch = np.argsort(rows.tokens.lengths, kind="stable")[:ROWS]  # short ones, as this is about gradients alone
    ids, mask = (torch.from_numpy(array) for array in rows.tokens.padded(batch))
    optimizer = torch.optim.AdamW(student.parameters(), lr=max(options.learning_rate, 1e-3))
    student.eval()
    start, remaining = 0.0, 1.0
    for _ in range(STEPS):
        loss = objective.loss(student(ids, mask, **objective.asked(batch)), batch)
        start = start or max(float(loss.detach()), 1e-6)
        remaining = float(loss.detach()) / start
        if remaining <= LEFT_OVER:
            break
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    explanation = f"the share of {len(batch)} rows' loss that up to {STEPS} steps leave over"
    if not remaining <= LEFT_OVER:
        raise TrainingError(
            f"pre-flight check few_rows_overfit: {explanation} is {remaining:.3g}, must be at most {LEFT_OVER:g}; "
            "gradients do not reach the student, or the learning rate is far off"
        )
    return Check(name="few_rows_overfit", value=remaining, limit=f"at most {LEFT_OVER:g}", explanation=explanation)
