"""Every row is drawn once in each epoch, beside rows of its length, in an order that only (seed, epoch) decide."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_artifact import MAX_TOKENS, WORDS, texts, write_tokenizer
from tiny_training import token_rows

from edgedistill.models.load import load_tokenizer
from edgedistill.training import rows as module
from edgedistill.training.predict import outputs_of
from edgedistill.training.rows import TokenRows, ordered_batches, shuffled_batches, tokenize

Draw = Callable[[np.ndarray, int, int, int], list[np.ndarray]]


def faults(draw: Draw, lengths: np.ndarray, size: int) -> list[str]:
    """Return what is wrong with a way of drawing batches, where all rows fit into one bucket."""
    batches = draw(lengths, size, 3, 1)
    drawn = np.concatenate(batches) if batches else np.zeros(0)
    found = []
    if sorted(drawn.tolist()) != list(range(len(lengths))):
        found.append("every row is drawn once")
    if sorted(len(batch) for batch in batches)[1:] != [size] * (len(batches) - 1):
        found.append("every batch but one is full")
    spans = sorted((int(lengths[batch].min()), int(lengths[batch].max())) for batch in batches)
    if any(low < high for (_, high), (low, _) in pairwise(spans)):
        found.append("rows of like length are together")
    if not all(np.array_equal(a, b) for a, b in zip(batches, draw(lengths, size, 3, 1), strict=True)):
        found.append("seed and epoch decide")
    return found


@given(lengths=st.lists(st.integers(1, 60), max_size=200), size=st.integers(4, 16))
def test_an_epoch_is_every_row_once_in_batches_of_like_length(lengths: list[int], size: int) -> None:
    assert faults(shuffled_batches, np.array(lengths, dtype=np.int64), size) == []


def _plain(lengths: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    return [order[i : i + size] for i in range(0, len(order), size)]


def _without_the_rest(lengths: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    return [batch for batch in shuffled_batches(lengths, size, seed, epoch) if len(batch) == size]


def _by_the_clock(lengths: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    return shuffled_batches(lengths, size, int(np.random.default_rng().integers(1 << 30)), epoch)


@pytest.mark.parametrize("draw", [_plain, _without_the_rest, _by_the_clock])
def test_other_ways_of_drawing_are_rejected(draw: Draw) -> None:
    assert faults(draw, np.random.default_rng(0).integers(1, 60, 101), 8)


def test_many_buckets_hold_every_row_once_and_waste_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 2500)
    batches = shuffled_batches(lengths, 8, 0, 0)
    assert sorted(np.concatenate(batches)) == list(range(2500))
    padded, plain = (
        sum(len(batch) * lengths[batch].max() for batch in drawn) for drawn in (batches, _plain(lengths, 8, 0, 0))
    )
    assert padded < 1.1 * lengths.sum()
    assert plain > 1.5 * lengths.sum()


@pytest.mark.parametrize("other", [(1, 0), (0, 1)])
def test_another_seed_or_epoch_is_another_order(other: tuple[int, int]) -> None:
    lengths = np.full(64, 5)
    first, second = shuffled_batches(lengths, 8, 0, 0), shuffled_batches(lengths, 8, *other)
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}


def test_the_number_of_batches_is_the_same_in_every_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1003)
    assert len({len(shuffled_batches(lengths, 8, 0, epoch)) for epoch in range(5)}) == 1


def test_evaluation_reads_short_texts_first_and_always_alike() -> None:
    lengths = np.random.default_rng(0).integers(1, 20, 77)
    batches = list(ordered_batches(lengths, 8))
    drawn = np.concatenate(batches)
    assert sorted(drawn) == list(range(77))
    assert (np.diff(lengths[drawn]) >= 0).all()
    assert all(np.array_equal(a, b) for a, b in zip(batches, ordered_batches(lengths, 8), strict=True))


def test_padding_stands_right_of_the_ids_under_a_mask_of_zero() -> None:
    rows = token_rows([3, 1, 6])
    ids, mask = rows.padded([1, 2])
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape == (2, 6)
    assert mask.tolist() == [[1, 0, 0, 0, 0, 0], [1] * 6]
    assert ids[mask == 1].tolist() == rows.ids[3:10].tolist()
    assert len(rows) == 3
    assert rows.lengths.tolist() == [3, 1, 6]


def padding(padded: Callable[[TokenRows, list[int]], tuple[np.ndarray, np.ndarray]], pad_id: int) -> set[int]:
    """Return the ids that stand right of the rows' own."""
    rows = token_rows([3, 1, 6])
    ids, mask = padded(TokenRows(rows.ids, rows.offsets, pad_id), [0, 1, 2])
    return set(ids[mask == 0].tolist())


@pytest.mark.parametrize("pad_id", [0, 1, 39])
def test_padding_is_the_tokenizers_own(pad_id: int, tmp_path: Path) -> None:
    assert padding(TokenRows.padded, pad_id) == {pad_id}
    assert padding(lambda rows, asked: TokenRows(rows.ids, rows.offsets, 7).padded(asked), pad_id) == {7}
    rows = token_rows([3, 1])
    assert TokenRows(rows.ids, rows.offsets, pad_id).take(np.array([1])).pad_id == pad_id
    write_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.pad_token = WORDS[pad_id]
    read = tokenize(tokenizer, texts(3), 12, tmp_path / "ids.npy", tmp_path / "offsets.npy")
    assert read.pad_id == tokenizer.get_vocab()[WORDS[pad_id]] != 0


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_ids_on_disk_are_what_the_tokenizer_gives_each_text(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", at_once)
    write_tokenizer(tmp_path)
    tokenizer, asked = load_tokenizer(tmp_path), ["", *texts(20)]
    rows = tokenize(tokenizer, asked, 12, tmp_path / "ids.npy", tmp_path / "offsets.npy")
    parts = [part.tolist() for part in np.split(rows.ids, rows.offsets[1:-1])]
    assert parts == [tokenizer(text, truncation=True, max_length=12)["input_ids"] for text in asked]
    assert max(rows.lengths) == 12 < MAX_TOKENS
    assert isinstance(rows.ids, np.memmap)


def test_ids_written_piece_by_piece_are_the_file_that_numpy_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", 3)
    write_tokenizer(tmp_path)
    rows = tokenize(load_tokenizer(tmp_path), iter(texts(20)), 12, tmp_path / "ids.npy", tmp_path / "offsets.npy")
    for name, array in (("ids", rows.ids), ("offsets", rows.offsets)):
        np.save(tmp_path / "whole.npy", np.array(array))
        assert (tmp_path / f"{name}.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_rows_that_are_taken_keep_their_ids_and_copy_none() -> None:
    rows = token_rows([3, 1, 6, 2])
    taken = rows.take(np.array([2, 0, 3]))
    assert len(taken) == 3
    assert taken.lengths.tolist() == [6, 3, 2]
    for ours, theirs in zip(taken.padded([1, 0]), rows.padded([0, 2]), strict=True):
        assert np.array_equal(ours, theirs)
    again = taken.take(np.array([2, 0]))
    for ours, theirs in zip(again.padded([0, 1]), rows.padded([3, 2]), strict=True):
        assert np.array_equal(ours, theirs)
    assert again.ids is rows.ids


def test_no_texts_are_no_rows(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    rows = tokenize(load_tokenizer(tmp_path), [], 12, tmp_path / "ids.npy", tmp_path / "offsets.npy")
    assert len(rows) == 0


def test_logits_stand_in_the_order_of_the_rows() -> None:
    from tiny_training import model

    rows, learner = token_rows([9, 2, 30, 4, 4, 17, 1] * 20), model()
    alone = [
        outputs_of(learner, TokenRows(rows.ids[start:stop], np.array([0, stop - start]), 0))[0]
        for start, stop in pairwise(rows.offsets)
    ]
    logits = outputs_of(learner.train(), rows)
    assert logits.dtype == np.float32
    assert np.allclose(logits, alone, atol=1e-6)
    assert np.ptp(logits, axis=0).min() > 0.05, "rows that are all alike would prove nothing"
    assert not learner.training
