"""Intervals: how far a number that was measured on some items, or in some calls, can be from the truth.

Right and wrong answers are 0/1, so a bootstrap need not draw rows: how often each outcome is drawn follows a binomial
(one model) or multinomial (two models on the same items: both right, one right, none) distribution exactly. Drawing
those counts gives the row bootstrap's distribution at a cost that does not grow with the rows.

Where every item has the same outcome a bootstrap interval would have no width, however few the items are. There the
interval holds what could hide among so many items: an outcome of which n items showed none has, with 95 % confidence,
a share of at most 1 - 0.05^(1/n), about 3/n (the rule of three).

Source: Efron, Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile interval); Hanley,
Lippman-Hand 1983, "If Nothing Goes Wrong, Is Everything All Right?", JAMA 249(13) (rule of three); for latencies,
David, Nagaraja 2003, "Order Statistics", section 7.1.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from edgedistill.values import Metric

RESAMPLES = 10_000
SEED = 20_240_229
LATENCY_CONFIDENCE = 0.99
DRAWN_AT_ONCE = 2_000_000  # rows, over several resamples


def accuracy(correct: np.ndarray) -> Metric:
    """Return the share of True, with its 95 % interval.

    Args:
        correct: (rows,) bool, at least one row.
    """
    n = len(correct)
    share = float(correct.mean())
    found = _metric(share, np.random.default_rng(SEED).binomial(n, share, RESAMPLES) / n, n, unseen(n))
    return found.model_copy(update={"low": max(found.low, 0.0), "high": min(found.high, 1.0)})


def difference(correct_a: np.ndarray, correct_b: np.ndarray) -> Metric:
    """Return accuracy of a minus accuracy of b on the same items; zero exactly when both are right equally often.

    Args:
        correct_a: (rows,) bool.
        correct_b: (rows,) bool; row i is the same item as in `correct_a`.
    """
    return mean_difference([(correct_a, correct_b)])


def exact_difference(correct_a: np.ndarray, correct_b: np.ndarray) -> Metric:
    """As `difference`, with an interval that holds however few items differ: zero is in it unless chance is unlikely.

    A bootstrap hardly ever draws what few items showed: where a is right on four items more, and b on none, it takes
    that for certain. Here the share that a wins of the items that differ has an exact interval, given their number.

    Source: Clopper, Pearson 1934, "The Use of Confidence or Fiducial Limits", Biometrika 26(4); Fagerland, Lydersen,
    Laake 2013, "The McNemar test for binary matched-pairs data", BMC Medical Research Methodology 13:91 (exact
    conditional test).
    """
    from scipy.stats import binomtest

    n, won, lost = len(correct_a), int((correct_a & ~correct_b).sum()), int((correct_b & ~correct_a).sum())
    if won + lost == 0:
        return Metric(value=0.0, low=-unseen(n), high=unseen(n), n=n)
    share = binomtest(won, won + lost).proportion_ci(confidence_level=0.95, method="exact")
    low, high = ((2 * end - 1) * (won + lost) / n for end in (share.low, share.high))
    return Metric(value=(won - lost) / n, low=float(low), high=float(high), n=n)


def mean_difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Metric:
    """Return the mean over splits of the paired differences, with one joint interval.

    Items are drawn anew within each split, so that a large split has no more weight than a small one.

    Args:
        pairs: for each split, what `difference` takes.
    """
    random = np.random.default_rng(SEED)
    value = float(np.mean([a.mean() - b.mean() for a, b in pairs]))
    drawn = [_resampled(a, b, random) for a, b in pairs]  # (resamples, 4) each
    differences = [(counts[:, 1] - counts[:, 2]) / counts[0].sum() for counts in drawn]
    hidden = float(np.mean([unseen(len(a)) for a, _ in pairs]))
    return _metric(value, np.mean(differences, axis=0), sum(len(a) for a, _ in pairs), hidden)


def retained(correct_student: np.ndarray, correct_teacher: np.ndarray) -> Metric | None:
    """Return the student's accuracy over the teacher's on the same items; 1 exactly when they are equal.

    None where the teacher is right so rarely that a resample can hold no right answer: such a ratio has no interval.

    Args:
        correct_student: (rows,) bool.
        correct_teacher: (rows,) bool; row i is the same item.
    """
    counts = _resampled(correct_student, correct_teacher, np.random.default_rng(SEED))
    teacher_right = counts[:, 2] + counts[:, 3]
    if not teacher_right.all():
        return None
    value = float(correct_student.sum() / correct_teacher.sum())
    hidden = value * unseen(len(correct_student))
    return _metric(value, (counts[:, 1] + counts[:, 3]) / teacher_right, len(correct_student), hidden)


def mean_over_rows(sums: np.ndarray, counts: np.ndarray, hidden: float = 0.0) -> Metric:
    """Return the mean over the positions of all rows; its interval is over rows, which are drawn whole.

    Positions of one row are alike, so drawing them one by one would make the interval too narrow. The same rows are
    drawn whatever the sums are: two models' means are drawn together, and `sums` of one minus those of the other give
    the paired interval of their difference.

    Args:
        sums: (rows,) float; of each row's positions.
        counts: (rows,) int; positions of each row, at least one in all.
        hidden: half of the interval where all resamples are the same.
    """
    n = int(counts.sum())
    drawn = np.concatenate([sums[rows].sum(axis=1) / counts[rows].sum(axis=1) for rows in _rows_drawn(counts)])
    return _metric(float(sums.sum() / n), drawn, n, hidden)


def retained_over_rows(sums: np.ndarray, others: np.ndarray, counts: np.ndarray) -> Metric | None:
    """Return the sum over all rows of one model over another's; its interval is over rows, which are drawn whole.

    1 exactly when every row has the same of both. None where a resample can hold none of the other's.

    Args:
        sums: (rows,) float; right answers of each row's positions.
        others: (rows,) float; the other model's.
        counts: (rows,) int; positions of each row, at least one in all.
    """
    drawn = np.concatenate(
        [np.stack([each[rows].sum(axis=1) for each in (sums, others)]) for rows in _rows_drawn(counts)], axis=1
    )
    if not drawn[1].all():
        return None
    value = float(sums.sum() / others.sum())
    hidden = value * unseen(int((counts > 0).sum()))
    return _metric(value, drawn[0] / drawn[1], int(counts.sum()), hidden)


def _rows_drawn(counts: np.ndarray) -> Iterator[np.ndarray]:
    """Yield RESAMPLES draws of as many rows as have positions, some draws at a time: (draws, rows) int."""
    random, filled = np.random.default_rng(SEED), np.flatnonzero(counts)
    at_once = max(1, DRAWN_AT_ONCE // len(filled))
    for start in range(0, RESAMPLES, at_once):
        yield filled[random.integers(0, len(filled), size=(min(at_once, RESAMPLES - start), len(filled)))]


def percentile_supported(percent: float, count: int) -> bool:
    """Whether `count` calls can carry this percentile: it lies below the second slowest call with 99 % confidence.

    Otherwise one outlier would decide it. Needs 64 calls for a p90, 130 for a p95, 662 for a p99.
    """
    beyond = 1 - percent / 100
    return bool(_binomial_cdf(count, beyond)[min(1, count)] <= 1 - LATENCY_CONFIDENCE)


def percentile_interval(samples: np.ndarray, percent: float) -> tuple[float, float]:
    """Return the two order statistics between which a percentile lies with 99 % confidence, whatever the distribution.

    Where the sample is too small for a bound its smallest or largest value stands in: ask `percentile_supported` first.

    Args:
        samples: (calls,) float.
        percent: between 0 and 100.
    """
    ordered = np.sort(samples)
    cdf = _binomial_cdf(len(ordered), percent / 100)  # cdf[k]: at most k samples lie below the percentile
    tail = (1 - LATENCY_CONFIDENCE) / 2
    low = int(np.searchsorted(cdf, tail, side="right")) - 1
    high = int(np.searchsorted(cdf, 1 - tail, side="left"))
    return float(ordered[max(low, 0)]), float(ordered[min(high, len(ordered) - 1)])


def unseen(n: int) -> float:
    """Return the largest share, at 95 % confidence, of an outcome that none of `n` items showed."""
    return float(1 - 0.05 ** (1 / n))


def _metric(value: float, resampled: np.ndarray, n: int, hidden: float) -> Metric:
    """Return the percentile interval; where it has no width, `hidden` to either side."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    if low == high:
        low, high = value - hidden, value + hidden
    return Metric(value=value, low=float(low), high=float(high), n=n)


def _resampled(correct_a: np.ndarray, correct_b: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return how often each outcome is drawn, (resamples, 4) int: none right, only a, only b, both."""
    if correct_a.shape != correct_b.shape:
        raise ValueError(f"paired answers need the same items, not {len(correct_a)} and {len(correct_b)}")
    outcomes = np.bincount(correct_a.astype(np.int64) + 2 * correct_b.astype(np.int64), minlength=4)
    return random.multinomial(len(correct_a), outcomes / len(correct_a), RESAMPLES)


def _binomial_cdf(n: int, p: float) -> np.ndarray:
    """Return P(X <= k) for k = 0..n of a binomial (n, p), 0 < p < 1; (n + 1,) float64."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    log_pmf = log_factorial[n] - log_factorial - log_factorial[::-1] + k * np.log(p) + (n - k) * np.log1p(-p)
    return np.cumsum(np.exp(log_pmf))
