"""More texts to learn from: training texts again, some of their words replaced by words near to them.

Each word is replaced with a given probability by one of its nearest words in the teacher's own token table. What comes
out is no good prose, and its label is not that of the text it came from ("good" may become "bad"); so the new rows are
unlabelled, and the teacher reads them and says what they are. TinyBERT takes its candidates from BERT's guesses for a
masked word and from GloVe; a token table knows no context, and costs neither a run of the teacher nor a download.

A new text depends on (seed, text, number of the copy) and on nothing else. It is dropped where it equals a held-out
text, after the corpus' normalisation, or a training text, itself or another copy included. Near duplicates are not
looked for: of a training text every copy is one.

Source: Jiao et al. 2020, "TinyBERT", arXiv:1909.10351, algorithm 1.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.corpus.pool import normalised
from edgedistill.distill.neighbours import Neighbours, as_cased
from edgedistill.errors import DataError
from edgedistill.files import linked, sha256_of, sha256_of_text
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.progress import bar
from edgedistill.recipe_sections import AugmentOptions
from edgedistill.values import Augmentation, Corpus, Split, Teacher

ROWS_AT_ONCE = 4096
WORD = re.compile(r"(?<![\w'’])[^\W\d_]{2,}(?![\w'’])")  # letters alone: no part of don't, of 4th or of snake_case
UNLABELLED = -1


@dataclass
class _Counts:
    """What became of the texts, and of their words."""

    rows: int = 0
    equal_to_held_out: int = 0
    equal_to_train: int = 0
    words: int = 0
    replaced: int = 0


class KnownTexts:
    """Which texts were seen, as 64 bits of a hash each: a million take 8 MB."""

    def __init__(self) -> None:
        self._keys = np.empty(0, dtype=np.uint64)  # sorted

    def add(self, keys: np.ndarray) -> None:
        """Remember texts."""
        added = np.unique(keys[~self.have(keys)])
        self._keys = np.insert(self._keys, np.searchsorted(self._keys, added), added)

    def have(self, keys: np.ndarray) -> np.ndarray:
        """Return which texts are known, (texts,) bool."""
        if not len(self._keys):
            return np.zeros(len(keys), dtype=bool)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        known: np.ndarray = self._keys[places] == keys
        return known


def augment(options: AugmentOptions, *, teacher: Teacher, corpus: Corpus, folder: Path) -> Corpus:
    """Return the corpus with further unlabelled training rows behind its own; all other splits are the same files.

    Raises:
        DataError: no new text came out.
    """
    import pyarrow.parquet as pq

    checkpoint = teacher.path(teacher.checkpoint)
    table = load_model(checkpoint).token_table.weight.detach().numpy()
    neighbours = Neighbours(load_tokenizer(checkpoint), table, options.neighbours)
    held_out, train, counts = KnownTexts(), KnownTexts(), _Counts()
    for name in corpus.splits.keys() - {"train"}:
        for batch in _batches(corpus, name):
            held_out.add(keys_of(batch["text"].to_pylist()))
    split = corpus.splits["train"]
    with (
        pq.ParquetWriter(folder / split.file, pq.read_schema(corpus.path(split.file))) as writer,
        bar("replacing words", split.rows * options.copies, "texts") as advance,
    ):
        for batch in _batches(corpus, "train"):
            writer.write_batch(batch)
            train.add(keys_of(batch["text"].to_pylist()))
        for batch in _batches(corpus, "train"):
            texts, hashes = batch["text"].to_pylist(), batch["row_hash"].to_pylist()
            made = [
                one for row in zip(texts, hashes, strict=True) for one in _copies(*row, options, neighbours, counts)
            ]
            writer.write_table(_table(_new(made, held_out, train, counts), writer.schema))
            advance(len(made))
    if not counts.rows:
        raise DataError(
            f"not one of {split.rows * options.copies} texts became another: {counts.words} words of train are among "
            f"the {len(neighbours)} whole words of the teacher's vocabulary; leave out distill.augment"
        )
    return _described(options, corpus, counts, len(neighbours), folder)


def keys_of(texts: Sequence[str]) -> np.ndarray:
    """Return a key for each text, (texts,) uint64, equal for texts that are the same after normalisation."""
    return np.array([int(sha256_of_text(normalised(text))[:16], 16) for text in texts], dtype=np.uint64)


def replaced(
    text: str, neighbours: Neighbours, probability: float, random: np.random.Generator
) -> tuple[str, int, int]:
    """Return the text with some of its words replaced, how many words could have been, and how many were.

    Args:
        probability: that a word is replaced, each for itself.
        random: two numbers are drawn for each word, replaced or not.
    """
    words = [(word, near) for word in WORD.finditer(text) if (near := neighbours.of(word[0]))]
    drawn = random.random((len(words), 2))
    parts, end, count = [], 0, 0
    for (word, near), (chance, choice) in zip(words, drawn, strict=True):
        if chance < probability:
            parts += [text[end : word.start()], as_cased(near[int(choice * len(near))], word[0])]
            end, count = word.end(), count + 1
    return "".join([*parts, text[end:]]), len(words), count


def _copies(
    text: str, row_hash: str, options: AugmentOptions, neighbours: Neighbours, counts: _Counts
) -> Iterator[str]:
    for copy in range(options.copies):
        random = np.random.default_rng([options.seed, int(row_hash, 16), copy])
        made, words, changed = replaced(text, neighbours, options.probability, random)
        counts.words, counts.replaced = counts.words + words, counts.replaced + changed
        yield made


def _new(made: list[str], held_out: KnownTexts, train: KnownTexts, counts: _Counts) -> list[str]:
    """Return the texts that are new, each once, and remember them."""
    keys = keys_of(made)
    first = np.zeros(len(made), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    measured = held_out.have(keys)
    new = first & ~measured & ~train.have(keys)
    train.add(keys[new])
    counts.rows += int(new.sum())
    counts.equal_to_held_out += int(measured.sum())
    counts.equal_to_train += int((~measured & ~new).sum())
    return [text for text, kept in zip(made, new, strict=True) if kept]


def _table(texts: list[str], schema: Any) -> Any:
    import pyarrow as pa

    hashes = [sha256_of_text(text)[:16] for text in texts]
    return pa.table({"text": texts, "label": [UNLABELLED] * len(texts), "row_hash": hashes}, schema=schema)


def _batches(corpus: Corpus, name: str) -> Iterator[Any]:
    """Yield a split some thousand rows at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(corpus.path(corpus.splits[name].file)) as opened:
        yield from opened.iter_batches(ROWS_AT_ONCE)


def _described(options: AugmentOptions, corpus: Corpus, counts: _Counts, vocabulary: int, folder: Path) -> Corpus:
    """Return what lies in the folder, once the other splits lie there too."""
    for name, split in corpus.splits.items():
        if name != "train":
            linked(corpus.path(split.file), folder / split.file)
    train = corpus.splits["train"]
    grown = {"rows": train.rows + counts.rows, "sha256": sha256_of(folder / train.file)}
    splits: dict[str, Split] = {**corpus.splits, "train": train.model_copy(update=grown)}
    told = Augmentation(
        copies=options.copies,
        probability=options.probability,
        neighbours=options.neighbours,
        seed=options.seed,
        vocabulary=vocabulary,
        made_from=train.rows,
        rows=counts.rows,
        equal_to_held_out=counts.equal_to_held_out,
        equal_to_train=counts.equal_to_train,
        words=counts.words,
        words_replaced=counts.replaced,
    )
    return corpus.model_copy(update={"splits": splits, "augmentation": told})
