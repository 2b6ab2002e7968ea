"""What counts as the same text, and which of the same ones stays."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.corpus.duplicates import (
    PERMUTATIONS,
    RECALL,
    Index,
    Row,
    bands,
    grams,
    merge_exact,
    normalised,
    signatures,
    similarity,
    thin_near,
)

TEXT = "the film was not good bad fine slow a plot of great actors with no idea and too many jokes"
WORDS = TEXT.split()


def quiet(_count: int) -> None:
    return None


def family(seed: int, size: int) -> list[str]:
    """Return one random sentence and variants of it that differ in a word or two."""
    rng = random.Random(seed)
    words = rng.choices(WORDS, k=rng.randint(3, 25))
    variants = [" ".join(words)]
    for _ in range(size - 1):
        changed = list(words)
        changed[rng.randrange(len(words))] = rng.choice(["odd", "x", "remarkable"])
        variants.append(" ".join(changed))
    return variants


def close_pairs(keys: list[str], threshold: float) -> set[tuple[str, str]]:
    return {(a, b) for a in keys for b in keys if a < b and similarity(a, b) >= threshold}


def found_pairs(keys: list[str], threshold: float, make: Callable[..., Index] = Index) -> set[tuple[str, str]]:
    index = make(threshold, signatures(keys, quiet))
    for key in keys:
        index.keep(key)
    return {(a, b) for a in keys for b in index.near(a) if a < b}


@pytest.mark.parametrize("same", ["A  Fine\tFilm", "a fine film ", "Ａ fine ﬁlm", "A FINE FILM\n"])
def test_case_width_and_white_space_do_not_count(same: str) -> None:
    assert normalised(same) == "a fine film"


@pytest.mark.parametrize("other", ["a fine film!", "a fine filme", "afine film", "ä fine film"])
def test_everything_else_counts(other: str) -> None:
    assert normalised(other) != "a fine film"


@given(st.text(max_size=60), st.text(max_size=60))
def test_similarity_is_symmetric_and_one_for_equal_gram_sets_alone(first: str, second: str) -> None:
    assert similarity(first, second) == similarity(second, first)
    assert 0 <= similarity(first, second) <= 1
    assert (similarity(first, second) == 1) == (grams(first) == grams(second))
    assert similarity(first, first) == 1


def test_similarity_counts_shared_5_grams() -> None:
    assert similarity("abcdefg", "abcdefx") == 2 / 4  # abcde, bcdef shared; cdefg, cdefx not
    assert similarity("abc", "abd") == 0


@given(st.floats(0.5, 1, exclude_min=True))
def test_bands_fit_the_signature_and_find_what_lies_at_the_threshold(threshold: float) -> None:
    number, rows = bands(threshold)
    assert number * rows <= PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** number >= RECALL


@pytest.mark.parametrize("threshold", [0.55, 0.8, 1.0])
def test_the_index_finds_what_comparing_every_pair_finds(threshold: float) -> None:
    keys = sorted({normalised(text) for seed in range(60) for text in family(seed, 4)})
    assert found_pairs(keys, threshold) == close_pairs(keys, threshold)


def test_that_comparison_notices_an_index_that_misses_pairs() -> None:
    class Forgetful(Index):
        def keep(self, key: str) -> None:
            if len(key) % 2:
                super().keep(key)

    keys = sorted({normalised(text) for seed in range(60) for text in family(seed, 4)})
    assert found_pairs(keys, 0.8, Forgetful) < close_pairs(keys, 0.8)


def test_exact_duplicates_leave_one_row_and_contradictions_none() -> None:
    rows = [
        Row.of("Good", 1),
        Row.of("good ", 1),
        Row.of("good", -1),
        Row.of("meh", 0),
        Row.of("MEH", 1),
        Row.of("bad", 0),
    ]
    merged = merge_exact(rows)
    assert {(row.text, row.label) for row in merged.rows} == {("Good", 1), ("bad", 0)}
    assert (merged.exact_removed, merged.conflicting_removed, merged.near_removed) == (2, 2, 0)


def test_a_labelled_row_stays_before_an_unlabelled_one() -> None:
    assert [row.label for row in merge_exact([Row.of("aaa", -1), Row.of("AAA", 0)]).rows] == [0]
    texts = ["the quick brown fox jumps over it", "the quick brown fox jumps over it!"]
    for labels in ((0, -1), (-1, 0)):
        rows = [Row.of(text, label) for text, label in zip(texts, labels, strict=True)]
        index = Index(0.8, signatures((row.key for row in rows), quiet))
        assert [row.label for row in thin_near(merge_exact(rows), index, quiet).rows] == [0]


@given(st.randoms(use_true_random=False))
def test_what_stays_does_not_depend_on_the_order_of_the_rows(order: random.Random) -> None:
    rows = [Row.of(text, seed % 2) for seed in range(6) for text in (*family(seed, 3), family(seed, 3)[0].upper())]
    signed = signatures((row.key for row in rows), quiet)
    first = thin_near(merge_exact(rows), Index(0.8, signed), quiet)
    order.shuffle(rows)
    assert thin_near(merge_exact(rows), Index(0.8, signed), quiet) == first


def test_no_two_rows_that_stay_are_near_and_every_row_that_goes_is_near_one_that_stays() -> None:
    rows = merge_exact(Row.of(text, 0) for seed in range(40) for text in family(seed, 4))
    thinned = thin_near(rows, Index(0.7, signatures((row.key for row in rows.rows), quiet)), quiet)
    kept = [row.key for row in thinned.rows]
    gone = {row.key for row in rows.rows} - set(kept)
    assert thinned.near_removed == len(gone) > 0
    assert close_pairs(kept, 0.7) == set()
    assert all(any(similarity(key, other) >= 0.7 for other in kept) for key in gone)
