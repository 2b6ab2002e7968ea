"""A split that is read piece by piece is the split, and so is one that was written piece by piece."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_corpus import every_row, pool_of

from edgedistill.corpus import read as module
from edgedistill.corpus import write as write_module
from edgedistill.corpus.duplicates import Thinned
from edgedistill.corpus.read import labels_of, read, row_hashes_of, texts_of
from edgedistill.corpus.texts import Texts
from edgedistill.corpus.write import write
from edgedistill.files import sha256_of_text
from edgedistill.values import Corpus, Split

TEXTS = ["a fine film", "", "Größe, 東京 🎬", "two\nlines", *(f"text {i}" for i in range(40))]
LABELS = [i % 3 - 1 for i in range(len(TEXTS))]


def written(folder: Path) -> Split:
    folder.mkdir(exist_ok=True)
    with pool_of(zip(TEXTS, LABELS, strict=True)) as pool:
        return write(pool, every_row(pool), Thinned(every_row(pool)), ("bad", "good"), "train", folder)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    split = written(tmp_path)
    made = Corpus(labels=("bad", "good"), splits={"train": split}, overlaps=(), near_duplicate_rule="none", sources={})
    (tmp_path / "result.json").write_text(made.model_dump_json(), encoding="utf-8")
    return Corpus.load(tmp_path)


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_pieces_are_the_whole(at_once: int, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", at_once)
    whole = read(corpus, "train")
    assert list(texts_of(corpus, "train")) == whole.texts == TEXTS
    assert labels_of(corpus, "train").tolist() == whole.labels.tolist() == LABELS
    assert labels_of(corpus, "train").dtype == np.int64
    assert row_hashes_of(corpus, "train").astype(str).tolist() == whole.row_hashes
    labelled = [text for text, label in zip(TEXTS, LABELS, strict=True) if label >= 0]
    assert list(texts_of(corpus, "train", labelled=True)) == labelled


def test_no_more_is_read_than_is_asked_for(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    iter_batches = pq.ParquetFile.iter_batches

    def watched(file: pq.ParquetFile, rows: int, columns: list[str]) -> Iterator[object]:
        for batch in iter_batches(file, rows, columns=columns):
            asked.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 5)
    assert next(texts_of(corpus, "train")) == TEXTS[0]
    assert asked == [5]


@pytest.mark.parametrize("rows_per_group", [1, 16, 1 << 16])
def test_a_split_holds_the_rows_in_groups(rows_per_group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_module, "ROWS_PER_GROUP", rows_per_group)
    split = written(tmp_path / "groups")
    assert (split.rows, split.labelled_rows) == (len(TEXTS), sum(label >= 0 for label in LABELS))
    assert split.label_counts == {"bad": LABELS.count(0), "good": LABELS.count(1)}
    with pq.ParquetFile(tmp_path / "groups" / split.file) as file:
        assert file.num_row_groups == -(-len(TEXTS) // rows_per_group)
        hashes = [sha256_of_text(text)[:16] for text in TEXTS]
        assert file.read().to_pydict() == {"text": TEXTS, "label": LABELS, "row_hash": hashes}
    assert [path.name for path in (tmp_path / "groups").iterdir()] == ["train.parquet"], "no draft is left"


def test_texts_come_back_by_number_while_others_are_added(tmp_path: Path) -> None:
    with Texts(tmp_path / "texts") as texts:
        for number, text in enumerate(TEXTS):
            texts.append(text)
            assert (len(texts), texts[number], texts[number // 2]) == (number + 1, text, TEXTS[number // 2])
        assert list(texts) == TEXTS
        for number in (-1, len(TEXTS)):
            with pytest.raises(IndexError):
                texts[number]
