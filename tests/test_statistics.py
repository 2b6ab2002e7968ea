import time
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest  # type: ignore[import-untyped]

from edgedistill.statistics import (
    accuracy,
    difference,
    exact_difference,
    mean_difference,
    mean_over_rows,
    percentile_interval,
    percentile_supported,
    retained,
    unseen,
)


def paired(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return two models that mostly agree: right on 80 % of the items, apart on about 8 % of them."""
    random = np.random.default_rng(seed)
    teacher = random.random(n) < 0.8
    flipped = random.random(n) < 0.08
    return teacher ^ flipped, teacher


def row_bootstrap(a: np.ndarray, b: np.ndarray, *, together: bool) -> tuple[float, float]:
    """Return the interval of mean(a) - mean(b) by drawing rows, of both models the same ones where `together`."""
    random = np.random.default_rng(1)
    rows = random.integers(0, len(a), size=(4000, len(a)))
    rows_of_b = rows if together else random.integers(0, len(a), size=rows.shape)
    low, high = np.percentile(a[rows].mean(axis=1) - b[rows_of_b].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize(("percent", "calls"), [(90, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_so_many_calls_that_one_outlier_cannot_decide_it(percent: int, calls: int) -> None:
    def at_most_one_beyond(n: int) -> float:
        beyond = (100 - percent) / 100
        return sum(comb(n, k) * beyond**k * (1 - beyond) ** (n - k) for k in (0, 1))

    assert at_most_one_beyond(calls) <= 0.01 < at_most_one_beyond(calls - 1)
    assert percentile_supported(percent, calls)
    assert not percentile_supported(percent, calls - 1)
    assert not percentile_supported(percent, 1)


@pytest.mark.parametrize(("percent", "calls"), [(50, 30), (90, 64), (90, 500), (99, 662)])
def test_the_percentile_interval_holds_the_truth_in_99_of_100_samples(percent: int, calls: int) -> None:
    random = np.random.default_rng(0)
    truth = -np.log1p(-percent / 100)
    found = [percentile_interval(random.exponential(size=calls), percent) for _ in range(1500)]
    covered = np.mean([low <= truth <= high for low, high in found])
    too_narrow = np.mean([low * 1.2 <= truth <= high * 0.8 for low, high in found])
    assert covered >= 0.985
    assert too_narrow < 0.985, "an interval a fifth narrower at each end must not pass this test"


def test_the_percentile_interval_of_a_small_sample_ends_at_its_extremes() -> None:
    assert percentile_interval(np.array([3.0, 1.0, 2.0]), 90) == (1.0, 3.0)


def test_paired_interval_is_that_of_drawing_rows_and_not_that_of_drawing_apart() -> None:
    student, teacher = paired(1500)
    found = difference(student, teacher)
    low, high = row_bootstrap(student, teacher, together=True)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.0015)
    apart_low, apart_high = row_bootstrap(student, teacher, together=False)
    assert apart_high - apart_low > 1.3 * (found.high - found.low)


def test_retained_interval_is_that_of_drawing_rows() -> None:
    student, teacher = paired(1500)
    rows = np.random.default_rng(1).integers(0, 1500, size=(4000, 1500))
    low, high = np.percentile(student[rows].mean(axis=1) / teacher[rows].mean(axis=1), [2.5, 97.5])
    found = retained(student, teacher)
    assert found is not None
    assert found.value == pytest.approx(student.mean() / teacher.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.0015)


def test_accuracy_interval_is_that_of_drawing_rows() -> None:
    student, _ = paired(1500)
    rows = np.random.default_rng(1).integers(0, 1500, size=(4000, 1500))
    low, high = np.percentile(student[rows].mean(axis=1), [2.5, 97.5])
    found = accuracy(student)
    assert (found.value, found.n) == (pytest.approx(student.mean()), 1500)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.0015)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_a_model_differs_from_itself_by_nothing_and_differences_turn_round(rows: list[tuple[bool, bool]]) -> None:
    a, b = np.array(rows, dtype=bool).T
    itself, there, back = difference(a, a), difference(a, b), difference(b, a)
    assert itself.value == 0
    assert itself.high == -itself.low == pytest.approx(unseen(len(rows)))
    assert there.value == pytest.approx(-back.value)
    assert there.low - 1e-9 <= there.value <= there.high + 1e-9
    assert 0 <= accuracy(a).low <= accuracy(a).high <= 1
    whole = retained(a, a)
    assert whole is None or (whole.value, whole.high - 1) == (1, pytest.approx(unseen(len(rows))))


@pytest.mark.parametrize("n", [8, 56, 1000])
def test_items_that_all_agree_leave_room_for_what_they_could_not_show(n: int) -> None:
    right = np.ones(n, dtype=bool)
    assert 1 - accuracy(right).low == pytest.approx(unseen(n))
    assert (1 - unseen(n)) ** n == pytest.approx(0.05)  # so rare an outcome stays unseen in one of twenty such samples
    assert accuracy(right).high == 1
    assert unseen(n) == pytest.approx(3 / n, rel=0.2)
    kept = retained(right, right)
    assert kept is not None
    assert kept.low < 1 - 2 / n


def test_a_teacher_that_is_hardly_ever_right_has_no_ratio() -> None:
    right = np.zeros(50, dtype=bool)
    assert retained(~right, right) is None
    right[0] = True
    assert retained(~right, right) is None, "a third of the resamples hold no right answer"


def test_the_mean_of_splits_weighs_each_split_alike_and_has_one_interval() -> None:
    small, large = paired(200, seed=1), paired(5000, seed=2)
    apart = [difference(*small), difference(*large)]
    together = mean_difference([small, large])
    assert together.value == pytest.approx((apart[0].value + apart[1].value) / 2)
    assert together.n == 5200
    widths = [metric.high - metric.low for metric in apart]
    expected = np.hypot(*widths) / 2  # of two independent means
    assert together.high - together.low == pytest.approx(expected, rel=0.08)
    assert mean_difference([small]) == apart[0]


def test_paired_answers_need_the_same_items() -> None:
    with pytest.raises(ValueError, match="same items, not 3 and 4"):
        difference(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


def test_a_hundred_thousand_rows_take_less_than_a_second() -> None:
    pairs = [paired(100_000, seed) for seed in range(4)]
    start = time.perf_counter()
    mean_difference(pairs)
    retained(*pairs[0])
    accuracy(pairs[0][0])
    assert time.perf_counter() - start < 1


def test_a_mean_over_rows_holds_the_truth_where_positions_of_a_row_are_alike() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 30, size=60)
    own, alike = [], []
    for _ in range(150):
        values = random.normal(size=60)[:, None] + 0.1 * random.normal(size=(60, 30))  # rows differ, positions do not
        sums = np.array([row[:count].sum() for row, count in zip(values, counts, strict=True)])
        found = mean_over_rows(sums, counts)
        assert found.value == pytest.approx(sums.sum() / counts.sum())
        assert found.n == counts.sum()
        own.append(found.low <= 0 <= found.high)
        spread = np.concatenate([row[:count] for row, count in zip(values, counts, strict=True)]).std() * 1.96
        alike.append(abs(found.value) <= spread / np.sqrt(counts.sum()))
    assert np.mean(own) > 0.88
    assert np.mean(alike) < 0.6, "positions drawn one by one promise far too much"


def test_a_mean_over_rows_is_the_bootstrap_of_rows() -> None:
    random = np.random.default_rng(3)
    counts, sums = random.integers(1, 9, size=40), random.normal(size=40)
    rows = random.integers(0, 40, size=(20_000, 40))
    low, high = np.percentile(sums[rows].sum(axis=1) / counts[rows].sum(axis=1), [2.5, 97.5])
    found = mean_over_rows(sums, counts)
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)
    with_empty = mean_over_rows(np.append(sums, 0), np.append(counts, 0))
    assert with_empty.model_copy(update={"n": found.n}) == found, "a row without positions is not drawn"


def test_means_of_two_models_are_drawn_with_the_same_rows() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(1, 30, size=1500)  # more than is drawn at once
    sums = random.normal(size=1500) * counts
    shifted = mean_over_rows(sums + 0.5 * counts, counts)
    found = mean_over_rows(sums, counts)
    assert (shifted.low - found.low, shifted.high - found.high) == (pytest.approx(0.5), pytest.approx(0.5))
    assert mean_over_rows(0 * sums, counts, hidden=0.25).low == -0.25


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_an_exact_difference_leaves_zero_out_where_mcnemars_exact_test_does(outcomes: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(side) for side in zip(*outcomes, strict=True))
    found, other = exact_difference(a, b), exact_difference(b, a)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.low <= found.value <= found.high
    assert (found.low, found.high) == pytest.approx((-other.high, -other.low))
    differ = int((a != b).sum())
    likely = 1.0 if not differ else binomtest(int((a & ~b).sum()), differ).pvalue
    assert (found.low > 0 or found.high < 0) == (likely < 0.05)


def test_four_to_none_is_chance_for_the_exact_one_alone() -> None:
    a, b = np.arange(79) < 40, np.arange(79) < 36
    assert difference(a, b).low > 0 > exact_difference(a, b).low
    assert exact_difference(np.arange(79) < 42, b).low > 0, "six to none is not"
