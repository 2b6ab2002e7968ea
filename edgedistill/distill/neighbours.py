"""Which words stand near each other in a teacher's own token table.

A word here is a piece of the vocabulary that is a whole word by itself: at least two letters, nothing but letters, and
read back as this one piece where it stands after another word. So pieces inside words, special tokens, digits and
punctuation are left out, whatever the kind of tokenizer. Near is the cosine of two rows of the table; a word's
neighbours have its own casing, where the vocabulary knows casing at all.

Nearest are forms of the same word, words of like meaning, and often the opposite: good, great and bad stand together.
"""

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

BLOCK = 256  # words that are held against all others at once; fixed, so that no other text decides a bit
FEWEST_LETTERS = 2
DISTINCT_WORDS_KEPT = 100_000


class Neighbours:
    """The nearest words of every word of a vocabulary, found as they are asked for."""

    def __init__(self, tokenizer: Any, table: np.ndarray, most: int) -> None:
        """Read the vocabulary.

        Args:
            tokenizer: the teacher's.
            table: (vocab, hidden) float; the row of each token id.
            most: neighbours of each word; fewer where the vocabulary has fewer words of its casing.
        """
        self._tokenizer = tokenizer
        self._before = self._ids("a")
        words = self._whole_words(len(table))
        self._of_casing = {
            casing: _Nearest([word for word in words if _casing(word) == casing], words, table, most)
            for casing in ("lower", "title", "upper")
        }
        self._words = {words[word]: word for nearest in self._of_casing.values() for word in nearest.words}
        self._piece = lru_cache(DISTINCT_WORDS_KEPT)(self._piece_uncached)

    def __len__(self) -> int:
        """Return how many words have neighbours."""
        return sum(len(nearest.words) for nearest in self._of_casing.values() if len(nearest.words) > 1)

    def of(self, word: str) -> list[str]:
        """Return the words of the vocabulary nearest to `word`, nearest first; none where it is no word here."""
        piece = self._piece(word)
        return [] if piece is None else self._of_casing[_casing(piece)].of(piece)

    def _piece_uncached(self, word: str) -> str | None:
        """Return the word of the vocabulary that the tokenizer reads `word` as; None where it is none or several."""
        ids = self._ids(f"a {word}")
        if len(ids) != len(self._before) + 1 or ids[:-1] != self._before:
            return None
        return self._words.get(ids[-1])

    def _whole_words(self, rows: int) -> dict[str, int]:
        special = set(self._tokenizer.all_special_ids)
        ids = sorted(index for index in self._tokenizer.get_vocab().values() if index < rows and index not in special)
        said = [text.strip() for text in self._tokenizer.batch_decode([[index] for index in ids])]
        likely = [
            (i, text) for i, text in zip(ids, said, strict=True) if text.isalpha() and len(text) >= FEWEST_LETTERS
        ]
        read = self._tokenizer([f"a {text}" for _, text in likely], add_special_tokens=False)["input_ids"]
        return {
            text: index
            for (index, text), found in zip(likely, read, strict=True)
            if found == [*self._before, index] and _casing(text)
        }

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


class _Nearest:
    """Words of one casing, and which of them are nearest to each, found block by block."""

    def __init__(self, words: list[str], ids: dict[str, int], table: np.ndarray, most: int) -> None:
        self.words, self._most = words, min(most, len(words) - 1)
        self._place = {word: place for place, word in enumerate(words)}
        self._unit = normalize(table[[ids[word] for word in words]].astype(np.float32)) if words else table[:0]
        self._blocks: dict[int, np.ndarray] = {}

    def of(self, word: str) -> list[str]:
        """Return the nearest other words, nearest first."""
        if self._most < 1:
            return []
        block, place = divmod(self._place[word], BLOCK)
        if block not in self._blocks:
            self._blocks[block] = self._found(block * BLOCK)
        others = (self.words[other] for other in self._blocks[block][place])
        return [other for other in others if other != word][: self._most]

    def _found(self, first: int) -> np.ndarray:
        """Return the places of the words nearest to each of a block, itself most often first, (words, most + 1)."""
        places: np.ndarray = self._search.kneighbors(self._unit[first : first + BLOCK], return_distance=False)
        return places

    @cached_property
    def _search(self) -> Any:
        return NearestNeighbors(n_neighbors=self._most + 1, algorithm="brute").fit(self._unit)  # as cosines rank them


def as_cased(word: str, like: str) -> str:
    """Return a word in another one's casing; as it is where that one's is mixed."""
    casing = _casing(like)
    return {"title": word.capitalize(), "upper": word.upper()}.get(casing, word)


def _casing(word: str) -> str:
    """Return lower (also for a script without casing), title or upper; empty for anything else."""
    forms = {"lower": word.lower(), "title": word.capitalize(), "upper": word.upper()}
    return next((name for name, form in forms.items() if form == word), "")
