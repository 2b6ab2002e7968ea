"""Checks before the long training: each has caught a distillation that ran to its end and taught nothing.

* the teacher against itself gives loss 0: no sign is flipped, no rows are shuffled between the two sides;
* the terms of the loss are of like size: a term a thousand times smaller than another has no effect;
* one batch can be learned by heart: gradients reach the weights;
* the cached rows are the corpus' rows, the live teacher still says what the cache says, and the student's tokenizer
  gives the ids that it is trained on: the teacher's, unless it has a vocabulary of its own;
* vectors that always have length 1 are not to become longer ones.
"""

from copy import deepcopy
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.distill.objective import LOSSES, TeacherSignals
from edgedistill.distill.signals import prove_row_hashes, prove_token_ids
from edgedistill.errors import TrainingError
from edgedistill.recipe_sections import DistillOptions
from edgedistill.student_values import Tokens
from edgedistill.training.predict import outputs_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Check, Corpus, Signals

SELF_LOSS_LIMIT = 1e-6
TERM_RATIO_LIMIT = 1000.0
OVERFIT_STEPS = 300
OVERFIT_LIMIT = 0.5
OVERFIT_ROWS = 16
LIVE_ROWS = 16
LIVE_LIMIT = 1e-3
UNIT_SLACK = 1e-2


def check(
    student: Any, teacher: Any, tokenizer: Any, options: DistillOptions, corpus: Corpus, signals: Signals,
    tokens: Tokens,
) -> tuple[Check, ...]:  # fmt: skip
    """Run every check; return what was measured.

    Args:
        student: the untrained student; it is copied, not changed.
        teacher: the live teacher, to be asked about a few rows.
        tokenizer: the student's.
        signals: what the teacher read and said.
        tokens: what the student reads.

    Raises:
        TrainingError: a check fails; the text says which, with its number.
        StageError: rows or token ids do not match.
    """
    train, validation = SplitSignals(signals, "train", tokens), SplitSignals(signals, "validation", tokens)
    objective = TeacherSignals(options.losses, train, validation, signals)
    batch = np.linspace(0, len(train.rows) - 1, min(OVERFIT_ROWS, len(train.rows))).astype(int)
    _check_lengths(options, student, train, batch)
    hashes = sum(prove_row_hashes(signals, corpus, name) for name in signals.splits)
    texts = prove_token_ids(signals if tokens.as_teacher else tokens, corpus, "train", tokenizer)
    read_by = "that both models read as the same ids" if tokens.as_teacher else "that the student's tokenizer reads so"
    return (
        Check(
            name="row_hashes", value=hashes, limit="all", explanation="cached rows whose text hash is the corpus' own"
        ),
        Check(name="token_ids", value=texts, limit="all", explanation=f"texts {read_by}"),
        _live_teacher(teacher, SplitSignals(signals, "train"), batch[:LIVE_ROWS]),
        _teacher_against_itself(options, train, batch),
        _terms_of_like_size(objective, student, train, batch),
        _one_batch_overfits(objective, deepcopy(student), train, batch, options),
    )


def _check_lengths(options: DistillOptions, student: Any, train: SplitSignals, rows: np.ndarray) -> None:
    """Check that a student whose vectors all have length 1 is not to learn others.

    Raises:
        TrainingError: it is, and no training could bring it there.
    """
    losses = [loss.loss for loss in options.losses if getattr(loss, "LENGTHS", False)]
    if not losses:
        return
    ids, mask = train.rows.padded(rows)
    with torch.no_grad():
        said = student.eval()(torch.from_numpy(ids), torch.from_numpy(mask)).float().norm(dim=1).numpy()
    wanted = np.linalg.norm(train.targets(rows), axis=1)
    if np.allclose(said, 1, atol=UNIT_SLACK) and not np.allclose(wanted, 1, atol=UNIT_SLACK):
        raise TrainingError(
            f"pre-flight check lengths: the student's vectors have length 1, the teacher's {wanted.mean():.3g} on "
            f"average, and {losses[0]!r} compares lengths; write cosine in its place, or choose student.kind: layers"
        )


def _passed(name: str, value: float, limit: float, explanation: str, cure: str) -> Check:
    if not value <= limit:
        raise TrainingError(f"pre-flight check {name}: {explanation} is {value:.3g}, must be at most {limit:g}; {cure}")
    return Check(name=name, value=value, limit=f"at most {limit:g}", explanation=explanation)


def _live_teacher(teacher: Any, train: SplitSignals, rows: np.ndarray) -> Check:
    """The cache holds what this teacher says now, row by row."""
    live = outputs_of(teacher, train.rows.take(rows), next(teacher.parameters()).device)
    difference = float(np.abs(live - train.outputs[rows]).max() / max(1.0, np.abs(live).max()))
    return _passed(
        "live_teacher", difference, LIVE_LIMIT,
        "largest difference between live and cached teacher outputs, over the largest of these where that is above 1",
        "the cache belongs to another teacher: delete the signals folder of this run",
    )  # fmt: skip


def _teacher_against_itself(options: DistillOptions, train: SplitSignals, rows: np.ndarray) -> Check:
    """Every divergence of the teacher from itself is zero."""
    targets = torch.from_numpy(train.targets(rows))
    labels = torch.from_numpy(np.asarray(train.labels[rows]))
    worst = 0.0
    for term in options.losses:
        module = registry.load(LOSSES, term.loss)
        if module.Options.DIVERGENCE:
            worst = max(worst, abs(float(module.loss(term, targets, targets, labels))))
    return _passed(
        "teacher_against_itself", worst, SELF_LOSS_LIMIT, "the loss of what the teacher says against itself",
        "the loss is not a divergence",
    )  # fmt: skip


def _terms_of_like_size(objective: TeacherSignals, student: Any, train: SplitSignals, rows: np.ndarray) -> Check:
    """No weighted term is drowned by another, be it at the student's logits or at those that know nothing.

    A student that starts out as good as the teacher has a small term too, and is not to be refused for it.
    """
    ids, mask = train.rows.padded(rows)
    student.eval()
    with torch.no_grad():
        said = student(torch.from_numpy(ids), torch.from_numpy(mask)).float()
    asked = [objective.terms(logits, rows) for logits in (said, torch.zeros_like(said))]
    terms = {name: max(abs(float(given[name])) for given in asked) for name in asked[0]}
    sizes = [size for size in terms.values() if size != 0.0]
    ratio = max(sizes) / min(sizes) if sizes else float("inf")
    return _passed(
        "loss_terms", ratio, TERM_RATIO_LIMIT, "the largest weighted loss term over the smallest",
        f"change their weights: {', '.join(f'{name} {size:.3g}' for name, size in terms.items())}",
    )  # fmt: skip


def _one_batch_overfits(
    objective: TeacherSignals, student: Any, train: SplitSignals, rows: np.ndarray, options: DistillOptions
) -> Check:
    """A few steps on one batch bring the loss halfway to the teacher's own, or the student is there already.

    Stops as soon as it has been seen; a small student with a small learning rate needs most of the steps.
    """
    torch.manual_seed(options.seed)
    student.eval()  # no dropout: this is about gradients, not about regularisation
    optimizer = torch.optim.AdamW(student.parameters(), lr=max(options.learning_rate, 1e-3))
    ids, mask = (torch.from_numpy(array) for array in train.rows.padded(rows))
    floor = float(objective.loss(torch.from_numpy(train.targets(rows)), rows))
    start, remaining = 0.0, 1.0
    for _ in range(OVERFIT_STEPS):
        loss = objective.loss(student(ids, mask).float(), rows)
        above = float(loss.detach()) - floor
        start = start or max(above, SELF_LOSS_LIMIT)
        remaining = max(above / start, 0.0)
        if remaining <= OVERFIT_LIMIT or not loss.requires_grad:
            break
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    return _passed(
        "one_batch_overfits", remaining, OVERFIT_LIMIT,
        f"the share of one batch's loss, above the teacher's own, that up to {OVERFIT_STEPS} steps leave over",
        "gradients do not reach the student, or the learning rate is far off",
    )  # fmt: skip
