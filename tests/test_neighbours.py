"""Near words are whole words of the vocabulary, of the same casing, in the order of their cosines."""

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from edgedistill.distill import neighbours as module
from edgedistill.distill.neighbours import Neighbours, as_cased

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
NO_WORDS = ["a", "b", "##ing", "##ly", "4th", "1999", ",", ".", "don't"]
LOWER = ["good", "bad", "great", "film", "movie", "plot", "ing", "über", "кино"]
TITLE, UPPER, MIXED = ["Good", "Film", "Paris"], ["GOOD", "NASA", "USA"], ["iPhone"]


def wrapped(tokenizer: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def word_piece(words: list[str], *, cased: bool) -> Any:
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return wrapped(tokenizer)


def byte_level(words: list[str]) -> Any:
    """A vocabulary of GPT-2's kind: a word that follows another begins with a marked space."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces, merges = list(letters), []
    for word in words:
        piece = word[0]
        for letter in word[1:]:
            if piece + letter not in pieces:
                pieces.append(piece + letter)
                merges.append((piece, letter))
            piece += letter
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate([*SPECIAL, *pieces])}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return wrapped(tokenizer)


def table_for(tokenizer: Any, seed: int = 0) -> np.ndarray:
    table: np.ndarray = np.random.default_rng(seed).normal(size=(len(tokenizer), 12)).astype(np.float32)
    return table


CASED = word_piece([*SPECIAL, *NO_WORDS, *LOWER, *TITLE, *UPPER, *MIXED], cased=True)
UNCASED = word_piece([*SPECIAL, *NO_WORDS, *LOWER], cased=False)


def by_cosine(word: str, among: list[str], tokenizer: Any, table: np.ndarray) -> list[str]:
    """Return the other words by their cosine to one, in float64."""
    vectors = {one: table[tokenizer.convert_tokens_to_ids(one)].astype(np.float64) for one in among}

    def cosine(one: str) -> float:
        norms = np.linalg.norm(vectors[word]) * np.linalg.norm(vectors[one])
        return float(vectors[word] @ vectors[one] / norms)

    return sorted((one for one in among if one != word), key=cosine, reverse=True)


@pytest.mark.parametrize("block", [1, 4, 256])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_they_are_the_nearest_by_cosine_of_the_same_casing(
    most: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    table = table_for(CASED)
    near = Neighbours(CASED, table, most)
    for words in (LOWER, TITLE, UPPER):
        for word in words:
            assert near.of(word) == by_cosine(word, words, CASED, table)[:most]
    assert len(near) == len([*LOWER, *TITLE, *UPPER])


def test_a_long_vector_is_not_nearer_for_its_length() -> None:
    table = table_for(CASED)
    before = Neighbours(CASED, table, 3).of("good")
    table[CASED.convert_tokens_to_ids("plot")] *= 100
    assert Neighbours(CASED, table, 3).of("good") == before


@pytest.mark.parametrize("word", [*NO_WORDS, *MIXED, *SPECIAL, "filming", "goodly", "unknown", ""])
def test_what_is_no_whole_word_has_none_and_is_none(word: str) -> None:
    near = Neighbours(CASED, table_for(CASED), 100)
    assert near.of(word) == []
    assert not any(word in near.of(other) for other in [*LOWER, *TITLE, *UPPER])


def test_a_vocabulary_without_casing_reads_every_casing_as_one() -> None:
    near = Neighbours(UNCASED, table_for(UNCASED), 3)
    assert near.of("film") == near.of("Film") == near.of("FILM") != []
    assert Neighbours(CASED, table_for(CASED), 3).of("FILM") == [], "no piece of that vocabulary"


def test_only_pieces_that_begin_a_word_are_words() -> None:
    tokenizer = byte_level(["Ġgood", "Ġbad", "Ġfilm", "Ġpl", "good", "ing", "plot"])
    near = Neighbours(tokenizer, table_for(tokenizer), 100)
    assert near.of("good")
    assert set(near.of("good")) <= {"bad", "film", "fil", "go", "goo", "ba", "fi", "pl"}, "beginnings of pieces too"
    assert near.of("ing") == near.of("plot") == [], "never seen after a space"


def test_the_only_word_of_its_casing_has_no_neighbour() -> None:
    tokenizer = word_piece([*SPECIAL, "a", "good", "bad", "Paris"], cased=True)
    near = Neighbours(tokenizer, table_for(tokenizer), 5)
    assert (near.of("good"), near.of("Paris"), len(near)) == (["bad"], [], 2)


def test_rows_of_the_table_that_are_no_token_are_never_near() -> None:
    table = table_for(UNCASED)
    padded = np.concatenate([table, table])
    assert Neighbours(UNCASED, padded, 3).of("film") == Neighbours(UNCASED, table, 3).of("film")


@pytest.mark.parametrize(
    ("word", "like", "wanted"),
    [("movie", "Film", "Movie"), ("movie", "FILM", "MOVIE"), ("movie", "film", "movie"), ("movie", "iPhone", "movie")],
)
def test_a_word_takes_the_casing_of_another(word: str, like: str, wanted: str) -> None:
    assert as_cased(word, like) == wanted
