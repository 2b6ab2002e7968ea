"""Queries and documents: read from two files, kept whole, and known by the corpus that trains on neither."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_build import rows, write_rows

from edgedistill.corpus.read import read
from edgedistill.corpus.retrieval import rows_to_find
from edgedistill.corpus.sources import retrieval
from edgedistill.corpus.stage import collect
from edgedistill.errors import DataError
from edgedistill.recipe_sections import DataOptions
from edgedistill.values import Corpus

DOCUMENTS = [row["text"] for row in rows(30, seed=1)]
QUERIES = [(" ".join(reversed(DOCUMENTS[i].split()[1:])), f"d{i}") for i in (3, 3, 0, 29)]


def write_lines(file: Path, made: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")


def write_search(folder: Path, documents: list[str] = DOCUMENTS, queries: list[tuple[str, str]] = QUERIES) -> None:
    write_lines(folder / "documents.jsonl", [{"id": f"d{i}", "text": text} for i, text in enumerate(documents)])
    write_lines(folder / "queries.jsonl", [{"text": text, "id": name} for text, name in queries])


SEARCH = {"source": "retrieval", "queries": "queries.jsonl", "documents": "documents.jsonl"}


def collected(folder: Path, **more: Any) -> Corpus:
    train = {"source": "jsonl", "file": "train.jsonl", "label": None}
    data = DataOptions.model_validate({"train": train, "test": SEARCH, **more})
    (folder / "corpus").mkdir()
    corpus = collect(data, (), folder, folder / "corpus")
    corpus._folder = folder / "corpus"
    return corpus


def test_documents_come_first_and_queries_name_theirs(tmp_path: Path) -> None:
    write_search(tmp_path)
    table = retrieval.read(retrieval.Options(**SEARCH), tmp_path, tmp_path / "cache")
    assert table["text"].to_pylist() == [*DOCUMENTS, *(text for text, _ in QUERIES)]
    assert table["document"].to_pylist() == [True] * 30 + [False] * 4
    assert table["label"].to_pylist()[-4:] == ["d3", "d3", "d0", "d29"]


def test_the_hash_knows_both_files(tmp_path: Path) -> None:
    write_search(tmp_path)
    options = retrieval.Options(**SEARCH)
    first = retrieval.digest(options, tmp_path)
    write_search(tmp_path, queries=QUERIES[:3])
    second = retrieval.digest(options, tmp_path)
    write_search(tmp_path, documents=DOCUMENTS[:29], queries=QUERIES[:3])
    assert len({first, second, retrieval.digest(options, tmp_path)}) == 3


def test_a_corpus_keeps_them_whole_and_takes_their_texts_out_of_train(tmp_path: Path) -> None:
    write_search(tmp_path, documents=[*DOCUMENTS[:29], DOCUMENTS[0]])
    train = rows(200, seed=3)
    write_rows(
        tmp_path / "train.jsonl", [*train, {"text": QUERIES[0][0], "label": "x"}, {"text": DOCUMENTS[5], "label": "y"}]
    )
    corpus = collected(tmp_path)
    test, known = read(corpus, "test"), corpus.splits["test"]
    assert (known.rows, known.documents, known.labelled_rows, known.label_counts) == (34, 30, 4, {})
    assert test.texts == [*DOCUMENTS[:29], DOCUMENTS[0], *(text for text, _ in QUERIES)], "a text may stand twice"
    assert test.labels.tolist() == [-1] * 30 + [3, 3, 0, 29]
    others = [text for name in ("train", "validation", "calibration") for text in read(corpus, name).texts]
    assert not {QUERIES[0][0], DOCUMENTS[5]} & set(others)
    assert len(others) > 150
    assert corpus.labels == ()
    assert all(overlap.exact + overlap.near > 0 for overlap in corpus.overlaps)
    assert {overlap.removed_from for overlap in corpus.overlaps} <= {"train", "validation", "calibration"}
    assert corpus.splits["validation"].rows > 0, "rows without a label can measure here"


def test_without_a_search_texts_are_cut_from_train(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", rows(200, seed=3))
    corpus = collected(tmp_path, test=None)
    assert {name: split.documents for name, split in corpus.splits.items()} == dict.fromkeys(corpus.splits, 0)
    assert corpus.splits["test"].labelled_rows == 0 < corpus.splits["test"].rows


ROWS = np.array([True, True, False])
FAULTS = [
    ([0, 0, 0], ["a"], "1 ids stand at several documents, such as 'a'"),
    ([0, 1, 2], ["a", "b", "c"], "query 1 asks for 'c', and no document has that id"),
    ([0, 1, 1], ["a", None], "document 2 has no id"),
    ([0, 1, 2], ["a", "b", None], "query 1 has no id"),
]


@pytest.mark.parametrize(("codes", "names", "said"), FAULTS)
def test_ids_that_lead_nowhere_are_told(codes: list[int], names: list[str | None], said: str) -> None:
    with pytest.raises(DataError, match=f"data.test: {said}"):
        rows_to_find(np.array(codes), names, ROWS, "data.test")


def test_a_query_gets_its_documents_row() -> None:
    assert rows_to_find(np.array([1, 0, 0]), ["a", "b"], ROWS, "data.test").tolist() == [-1, -1, 1]


@pytest.mark.parametrize("documents", [1, 5])
def test_a_search_in_which_everything_is_found_is_refused(tmp_path: Path, documents: int) -> None:
    write_search(tmp_path, documents=DOCUMENTS[:documents], queries=[QUERIES[2]] * 8)
    write_rows(tmp_path / "train.jsonl", rows(200, seed=3))
    with pytest.raises(DataError, match=f"test has {documents} texts to search among, .* more than 5"):
        collected(tmp_path)


def test_texts_alone_that_are_too_few_to_search_among_are_refused(tmp_path: Path) -> None:
    write_search(tmp_path)
    write_rows(tmp_path / "train.jsonl", rows(200, seed=3))
    (tmp_path / "six.txt").write_text("".join(f"{row['text']}\n" for row in rows(6, seed=9)))
    with pytest.raises(DataError, match=r"challenge.six has 5 texts to search among"):
        collected(tmp_path, challenge={"six": {"source": "text", "file": "six.txt"}})


@pytest.mark.parametrize(("text", "row"), [("", 31), (" \u00a0\t", 31)])
def test_an_empty_text_is_told_with_its_row(tmp_path: Path, text: str, row: int) -> None:
    write_search(tmp_path, documents=[*DOCUMENTS, text])
    with pytest.raises(DataError, match=rf"documents.jsonl: row {row} has an empty text"):
        retrieval.read(retrieval.Options(**SEARCH), tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        (["d0"], r"queries.jsonl: column 'id' holds \['d0'\]; an id is a text or a whole number"),
        (0.5, "queries.jsonl: column 'id' holds 0.5; an id is a text or a whole number"),
    ],
)
def test_an_id_of_another_kind_is_called_an_id(tmp_path: Path, identity: Any, said: str) -> None:
    write_search(tmp_path)
    write_lines(tmp_path / "queries.jsonl", [{"text": "some words", "id": identity}])
    with pytest.raises(DataError, match=said):
        retrieval.read(retrieval.Options(**SEARCH), tmp_path, tmp_path / "cache")


def test_a_missing_column_of_ids_is_called_by_its_own_key(tmp_path: Path) -> None:
    write_search(tmp_path)
    options = retrieval.Options(**SEARCH, id="key")
    with pytest.raises(DataError, match=r"no column 'key'; its columns: .*; name the right one as 'id'$"):
        retrieval.read(options, tmp_path, tmp_path / "cache")
