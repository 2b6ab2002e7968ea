"""What counts as the same text, and which of the same ones stays."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import every_row, index_of, pool_of, quiet

from edgedistill.corpus.candidates import PERMUTATIONS, RECALL, bands, grams
from edgedistill.corpus.duplicates import Index, Thinned, merge_exact, similarity, thin_near
from edgedistill.corpus.pool import Pool, normalised
from edgedistill.corpus.sources.conversations import as_text

TEXT = "the film was not good bad fine slow a plot of great actors with no idea and too many jokes"
WORDS = TEXT.split()


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
    return {(a, b) for a in keys for b in keys if a < b and similarity(grams(a), grams(b)) >= threshold}


def found_pairs(keys: list[str], threshold: float, make: type[Index] = Index) -> set[tuple[str, str]]:
    with pool_of((key, 0) for key in keys) as pool:
        index = index_of(pool, threshold, make)
        for key in range(len(keys)):
            index.keep(key)
        pairs = [(pool.key(a), pool.key(b)) for a in range(len(keys)) for b in index.near(a)]
    return {(a, b) for a, b in pairs if a < b}


def kept_of(pool: Pool, thinned: Thinned) -> list[tuple[str, int]]:
    """Return the texts and labels of the rows that stay."""
    return [(pool.texts[row], int(pool.labels[row])) for row in thinned.rows]


def thinned_of(rows: list[tuple[str, int]], threshold: float) -> tuple[list[tuple[str, int]], int]:
    """Return what stays of rows, and how many are near to others."""
    with pool_of(rows) as pool:
        thinned = thin_near(merge_exact(pool, every_row(pool)), pool, index_of(pool, threshold), quiet)
        return kept_of(pool, thinned), thinned.near_removed


@pytest.mark.parametrize("same", ["A  Fine\tFilm", "a fine film ", "Ａ fine ﬁlm", "A FINE FILM\n"])
def test_case_width_and_white_space_do_not_count(same: str) -> None:
    assert normalised(same) == "a fine film"


@pytest.mark.parametrize("other", ["a fine film!", "a fine filme", "afine film", "ä fine film"])
def test_everything_else_counts(other: str) -> None:
    assert normalised(other) != "a fine film"


def test_rows_share_a_key_where_their_normalised_texts_are_equal_and_keys_are_in_the_order_of_their_hash() -> None:
    rows = [(text, 0) for seed in range(20) for text in (*family(seed, 2), family(seed, 1)[0].upper(), " ")]
    with pool_of(rows) as pool:
        texts = [normalised(text) for text, _ in rows]
        assert [pool.key(number) for number in pool.keys] == texts
        assert [pool.key(number) for number in range(len(pool.row_of_key))] == _by_hash(texts)
        assert pool.key(pool.blank_key) == ""
    with pool_of(rows[:3]) as pool:
        assert pool.blank_key == -1


def _by_hash(texts: list[str]) -> list[str]:
    from hashlib import sha256

    return sorted(set(texts), key=lambda text: sha256(text.encode()).hexdigest())


@given(st.text(max_size=60), st.text(max_size=60))
def test_similarity_is_symmetric_and_one_for_equal_gram_sets_alone(first: str, second: str) -> None:
    one, other = grams(first), grams(second)
    assert similarity(one, other) == similarity(other, one)
    assert 0 <= similarity(one, other) <= 1
    assert (similarity(one, other) == 1) == (one == other)
    assert similarity(one, one) == 1


def test_similarity_counts_shared_5_grams() -> None:
    assert similarity(grams("abcdefg"), grams("abcdefx")) == 2 / 4  # abcde, bcdef shared; cdefg, cdefx not
    assert similarity(grams("abc"), grams("abd")) == 0


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
        def keep(self, key: int) -> None:
            if key % 2:
                super().keep(key)

    keys = sorted({normalised(text) for seed in range(60) for text in family(seed, 4)})
    assert found_pairs(keys, 0.8, Forgetful) < close_pairs(keys, 0.8)


def test_exact_duplicates_leave_one_row_and_contradictions_none() -> None:
    rows = [("Good", 1), ("good ", 1), ("good", -1), ("meh", 0), ("MEH", 1), ("bad", 0), ("  ", 0), ("\t", 1)]
    with pool_of(rows) as pool:
        merged = merge_exact(pool, every_row(pool))
        assert set(kept_of(pool, merged)) == {("Good", 1), ("bad", 0)}
    assert (merged.exact_removed, merged.conflicting_removed, merged.near_removed) == (2, 2, 0)
    assert merged.empty_removed == 2


def test_rows_of_another_source_are_left_out() -> None:
    with pool_of([("good", 0), ("Good", 1), ("bad", 0)]) as pool:
        merged = merge_exact(pool, np.array([1, 2]))
        assert set(kept_of(pool, merged)) == {("Good", 1), ("bad", 0)}
        assert merged.conflicting_removed == 0


def test_a_labelled_row_stays_before_an_unlabelled_one() -> None:
    assert [label for _, label in thinned_of([("aaa", -1), ("AAA", 0)], 0.8)[0]] == [0]
    texts = ["the quick brown fox jumps over it", "the quick brown fox jumps over it!"]
    for labels in ((0, -1), (-1, 0)):
        assert [label for _, label in thinned_of(list(zip(texts, labels, strict=True)), 0.8)[0]] == [0]


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_what_stays_does_not_depend_on_the_order_of_the_rows(order: random.Random) -> None:
    rows = [(text, seed % 2) for seed in range(6) for text in (*family(seed, 3), family(seed, 3)[0].upper())]
    first = thinned_of(rows, 0.8)
    order.shuffle(rows)
    assert thinned_of(rows, 0.8) == first


def test_no_two_rows_that_stay_are_near_and_every_row_that_goes_is_near_one_that_stays() -> None:
    texts = {normalised(text) for seed in range(40) for text in family(seed, 4)}
    stay, near_removed = thinned_of([(text, 0) for text in texts], 0.7)
    kept = [text for text, _ in stay]
    gone = texts - set(kept)
    assert near_removed == len(gone) > 0
    assert close_pairs(kept, 0.7) == set()
    assert all(any(similarity(grams(key), grams(other)) >= 0.7 for other in kept) for key in gone)


@pytest.mark.parametrize(("spoken", "kept"), [(True, 2), (False, 1)])
def test_what_the_system_says_makes_no_two_conversations_alike(spoken: bool, kept: int) -> None:
    """Twin: compared as they are kept, two that share nothing else are taken for one."""
    system = {"role": "system", "content": TEXT * 5}
    said = [[{"role": "user", "content": asked}, {"role": "assistant", "content": asked[::-1]}] for asked in WORDS[4:6]]
    with pool_of(((as_text([system, *turns]), 0) for turns in said), spoken=spoken) as pool:
        thinned = thin_near(merge_exact(pool, every_row(pool)), pool, index_of(pool, 0.8), quiet)
        assert len(thinned.rows) == kept
