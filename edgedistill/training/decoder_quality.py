"""What a language model's positions add up to; intervals are over rows, which are drawn whole."""

from typing import NamedTuple

import numpy as np

from edgedistill.decoder_values import DecoderQuality
from edgedistill.statistics import accuracy, mean_over_rows, retained, retained_over_rows, unseen
from edgedistill.values import Metric

FLIPS_KEPT = 20


class Flip(NamedTuple):
    """A position where a model's likeliest token is another one than a reference's."""

    position: int  # through all rows
    row: int
    token: int  # that the reference has for the likeliest
    instead: int  # the model's
    reference_margin: float  # logits between the reference's likeliest two: near 0 it was a tie, and little is lost
    margin: float  # the same of the model


def summary(
    positions: np.ndarray,
    starts: np.ndarray,
    *,
    tokens: np.ndarray,
    teacher: np.ndarray | None = None,
    student: np.ndarray | None = None,
    whole: bool = False,
) -> DecoderQuality:
    """Return a model's quality on one split.

    Greedy decoding gives a row's gold answer exactly where, after the gold tokens before it, each of its tokens is the
    likeliest one: as long as all before are right, both have read the same. So no answer need be generated.

    Args:
        positions: (positions,) of POSITION.
        starts: (rows + 1,) int64; the positions of row i are starts[i] to starts[i + 1].
        tokens: (positions,) int; those that really follow.
        teacher: the teacher's positions; None for the teacher itself.
        student: the float student's positions; None where there is none, or for itself.
        whole: a row's positions are answers, which are judged whole.
    """
    loss = _mean(-positions["log_prob"].astype(np.float64), starts)
    kl_teacher, kl_teacher_p99 = _divergence(positions["kl_teacher"], starts, teacher)
    kl_student, kl_student_p99 = _divergence(positions["kl_student"], starts, student)
    return DecoderQuality(
        perplexity=loss.model_copy(update={end: float(np.exp(getattr(loss, end))) for end in ("value", "low", "high")}),
        accuracy=_share(positions["top"] == tokens, starts),
        kl_teacher=kl_teacher,
        kl_teacher_p99=kl_teacher_p99,
        agreement_teacher=None if teacher is None else _share(positions["top"] == teacher["top"], starts),
        kl_student=kl_student,
        kl_student_p99=kl_student_p99,
        agreement_student=None if student is None else _share(positions["top"] == student["top"], starts),
        retained=None if teacher is None else _retained(positions, teacher, starts, tokens, whole),
        exact_match=accuracy(exact(positions, starts, tokens)) if whole else None,
    )


def exact(positions: np.ndarray, starts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return whether every token of a row is the likeliest one, of the rows that have a position: (rows,) bool."""
    counts = np.diff(starts)
    found: np.ndarray = (_sums(positions["top"] == tokens, starts) == counts)[counts > 0]
    return found


def loss_difference(positions: np.ndarray, others: np.ndarray, starts: np.ndarray) -> Metric:
    """Return a model's mean loss minus another's, in nats a position; paired, on the same rows.

    Its exp is the ratio of their perplexities.
    """
    return _mean(others["log_prob"].astype(np.float64) - positions["log_prob"], starts)


def accuracy_difference(positions: np.ndarray, others: np.ndarray, starts: np.ndarray, tokens: np.ndarray) -> Metric:
    """Return how much more often a model's likeliest token is right than another's; paired, on the same rows."""
    right, others_right = (each["top"] == tokens for each in (positions, others))
    return _mean(right.astype(np.float64) - others_right, starts, _unseen_in(starts))


def flips(positions: np.ndarray, reference: np.ndarray, starts: np.ndarray, most: int = FLIPS_KEPT) -> list[Flip]:
    """Return where a model's likeliest token is not the reference's: those first where the reference was surest.

    Args:
        positions: (positions,) of POSITION, of the model.
        reference: those of the reference.
        starts: (rows + 1,) int64.
        most: how many.
    """
    flipped = np.flatnonzero(positions["top"] != reference["top"])
    worst = flipped[np.argsort(-reference["margin"][flipped], kind="stable")][:most]
    rows = np.searchsorted(starts, worst, side="right") - 1
    return [
        Flip(
            int(at), int(row), int(reference["top"][at]), int(positions["top"][at]),
            float(reference["margin"][at]), float(positions["margin"][at]),
        )
        for at, row in zip(worst, rows, strict=True)
    ]  # fmt: skip


def _divergence(kl: np.ndarray, starts: np.ndarray, reference: np.ndarray | None) -> tuple[Metric | None, float | None]:
    if reference is None:
        return None, None
    return _mean(kl.astype(np.float64), starts), float(np.percentile(kl, 99))


def _retained(
    positions: np.ndarray, teacher: np.ndarray, starts: np.ndarray, tokens: np.ndarray, whole: bool
) -> Metric | None:
    """Return how many of the teacher's right answers, or tokens, a model has, more or fewer, on the same rows."""
    if whole:
        return retained(exact(positions, starts, tokens), exact(teacher, starts, tokens))
    right, right_teacher = (_sums(each["top"] == tokens, starts) for each in (positions, teacher))
    return retained_over_rows(right, right_teacher, np.diff(starts))


def _mean(values: np.ndarray, starts: np.ndarray, hidden: float = 0.0) -> Metric:
    """Return the mean of one number for each position."""
    return mean_over_rows(_sums(values, starts), np.diff(starts), hidden)


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return each row's sum of one number for each position, (rows,) float64."""
    found: np.ndarray = np.diff(np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])[starts])
    return found


def _share(right: np.ndarray, starts: np.ndarray) -> Metric:
    found = _mean(right.astype(np.float64), starts, _unseen_in(starts))
    return found.model_copy(update={"low": max(found.low, 0.0), "high": min(found.high, 1.0)})


def _unseen_in(starts: np.ndarray) -> float:
    """Return what could hide among these rows, if none shows it."""
    return unseen(int((np.diff(starts) > 0).sum()))
