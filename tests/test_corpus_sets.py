"""Several labels for one row: from lists and separated texts to sets, and what is refused."""

import csv as csv_lines
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_corpus import every_row, pool_of
from tiny_distill import sealed

from edgedistill.corpus.duplicates import merge_exact
from edgedistill.corpus.labels import found_labels, sets
from edgedistill.corpus.read import read
from edgedistill.corpus.sources import csv, hub, jsonl, parquet
from edgedistill.corpus.stage import collect
from edgedistill.errors import DataError
from edgedistill.recipe_sections import DataOptions
from edgedistill.tasks._labels import MOST_AT_ONCE, as_sets, members
from edgedistill.values import Corpus

NAMES = ("joy", "love", "rage")
Row = tuple[str, Any]


def texts_with(kinds: Sequence[Any], count: int = 240) -> list[Row]:
    """Return different texts, and one of the kinds of label after the other."""
    random = np.random.default_rng(0)
    words = [f"word{i}" for i in range(400)]
    return [(" ".join(random.choice(words, size=12)), kinds[i % len(kinds)]) for i in range(count)]


SOME = [["joy"], [], ["love", "joy"], ["rage"], ["joy", "joy", "rage"], None]


def write(file: Path, rows: Sequence[Row]) -> None:
    file.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows), encoding="utf-8")


def collected(folder: Path, rows: Sequence[Row], labels: tuple[str, ...] | None = None, **more: Any) -> Corpus:
    write(folder / "train.jsonl", rows)
    data = DataOptions.model_validate({"train": {"source": "jsonl", "file": "train.jsonl"}, **more})
    (folder / "out").mkdir(exist_ok=True)
    return sealed(folder / "out", collect(data, labels, folder, folder / "out", several=True))


@pytest.mark.parametrize("labels", [None, NAMES])
def test_every_row_keeps_its_labels(labels: tuple[str, ...] | None, tmp_path: Path) -> None:
    given = texts_with(SOME)
    corpus = collected(tmp_path, given, labels)
    assert corpus.labels == NAMES
    wanted = {text: -1 if held is None else sum(1 << NAMES.index(name) for name in set(held)) for text, held in given}
    seen = {}
    for name, split in corpus.splits.items():
        rows = read(corpus, name)
        assert rows.labels.dtype == np.int64
        seen |= dict(zip(rows.texts, rows.labels.tolist(), strict=True))
        known = rows.labels[rows.labels >= 0]
        assert split.labelled_rows == len(known)
        assert list(split.label_counts.values()) == members(known, 3).sum(axis=0).tolist()
        assert list(split.label_counts) == list(NAMES)
        if name in ("test", "validation"):
            assert (rows.labels >= 0).all(), "of what nothing is known, nothing can be measured"
    assert seen == wanted


def test_numbers_are_indices_where_the_recipe_names_the_labels(tmp_path: Path) -> None:
    given = texts_with([[0, 2], [1], [], ["joy"]])
    corpus = collected(tmp_path, [(text, [str(one) for one in held]) for text, held in given], NAMES)
    assert set(read(corpus, "train").labels.tolist()) == {5, 2, 0, 1}


def names_of(table: pa.Table) -> list[Any]:
    found: list[Any] = table["label"].to_pylist()
    return found


def test_lists_are_read_from_jsonl_and_parquet_and_texts_are_cut_in_csv(tmp_path: Path) -> None:
    kinds: list[Any] = [["a", "b"], [], ["b"]]
    write(tmp_path / "rows.jsonl", [("x", None), *[("y", kind) for kind in kinds]])
    options = jsonl.Options(source="jsonl", file="rows.jsonl")
    assert names_of(jsonl.read(options, tmp_path, tmp_path / "c1")) == [None, *kinds]
    pq.write_table(pa.table({"text": ["x"] * 3, "label": [[1, 2], [], [2]]}), tmp_path / "rows.parquet")
    whole = parquet.Options(source="parquet", file="rows.parquet")
    assert names_of(parquet.read(whole, tmp_path, tmp_path / "c2")) == [["1", "2"], [], ["2"]]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as out:
        csv_lines.writer(out).writerows([("text", "label"), ("x", "a; b"), ("y", ""), ("z", "b;"), ("w", "c d")])
    cut = csv.Options(source="csv", file="rows.csv", separator=";")
    assert names_of(csv.read(cut, tmp_path, tmp_path / "c3")) == [["a", "b"], [], ["b"], ["c d"]]


def test_lists_of_indices_become_the_names_that_the_table_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = datasets.Sequence(datasets.ClassLabel(names=["calm", "joy"]))
    features = datasets.Features({"text": datasets.Value("string"), "label": several})
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [[0, 1], [1], []]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **settings: rows)
    table = hub.read(hub.Options(source="hub", dataset="org/moods", revision="1"), tmp_path, tmp_path)
    assert names_of(table) == [["calm", "joy"], ["joy"], []]


@pytest.mark.parametrize(
    ("kinds", "more", "error"),
    [
        ([["a", None], ["b"]], {}, r"holds \['a', None\] with a missing label in it; a label is a text"),
        ([[["a"]], [["b"]]], {}, r"holds \['a'\]; a label is a text or a whole number"),
        (
            [["a"], ["b"]],
            {"separator": "|"},
            r"row 1: 'label' holds \['a'\], which is no text to cut at separator '\|'",
        ),
    ],
)
def test_what_is_no_list_of_labels_is_told(kinds: Any, more: dict[str, str], error: str, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [("x", kind) for kind in kinds])
    with pytest.raises(DataError, match=error):
        jsonl.read(jsonl.Options(source="jsonl", file="rows.jsonl", **more), tmp_path, tmp_path / "cache")


def test_a_list_is_no_label_where_a_row_has_one(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", texts_with([["a", "b"], ["b"]]))
    data = DataOptions.model_validate({"train": {"source": "jsonl", "file": "train.jsonl"}})
    with pytest.raises(
        DataError, match=r"data.train: the label column holds \['a', 'b'\]; a label is a text or a whole"
    ):
        collect(data, None, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("kinds", "labels", "error"),
    [
        (["a", "b"], None, "data.train: the label column holds 'a', not a list of labels; write lists, .*separator"),
        ([["joy"], ["fear", "joy"]], NAMES, "row 2 of train has the label 'fear', which is not among 'joy', 'love'"),
        ([["joy"]], None, "only the label 'joy'; a classifier needs"),
        ([[]], None, "the data has no labels"),
        ([["joy", "rage"]], NAMES, r"every row of train has the same labels \('joy', 'rage'\); it needs at least two"),
        ([[], None], NAMES, r"every row of train has the same labels \(none\); it needs at least two sets"),
        (
            [[str(i), str(i + 1)] for i in range(MOST_AT_ONCE)],
            None,
            "there are 63 labels, and a row's are chosen among",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_told_with_their_cure(
    kinds: Any, labels: tuple[str, ...] | None, error: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=error):
        collected(tmp_path, texts_with(kinds), labels)


def test_the_most_labels_that_fit_are_kept_apart(tmp_path: Path) -> None:
    kinds = [[f"l{i:02}", f"l{(i + 1) % MOST_AT_ONCE:02}"] for i in range(MOST_AT_ONCE)]
    corpus = collected(tmp_path, texts_with(kinds, 400))
    labels = read(corpus, "train").labels
    assert len(corpus.labels) == MOST_AT_ONCE
    assert (labels > 0).all()
    assert (members(labels, MOST_AT_ONCE).sum(axis=1) == 2).all()


def test_the_same_text_with_another_set_of_labels_contradicts_itself() -> None:
    held = {"a": [3, 3], "b": [3, 1], "c": [0, 4], "d": [-1, 0], "e": [1 << 61, -1], "f": [1 << 61, 1]}
    with pool_of([(text, label) for text, labels in held.items() for label in labels], np.int64) as pool:
        merged = merge_exact(pool, every_row(pool))
        kept = {pool.texts[row]: int(pool.labels[row]) for row in merged.rows}
    assert kept == {"a": 3, "d": 0, "e": 1 << 61}
    assert (merged.conflicting_removed, merged.exact_removed) == (6, 3)


def test_labels_are_found_one_by_one() -> None:
    assert found_labels({"train": [("b 10", "a"), None, (), ("b 9",)]}) == ("a", "b 9", "b 10")
    assert found_labels({"train": [None, ()], "test": [("y",)], "validation": [("x", "y")]}) == ("x", "y")
    codes = np.array([0, 2, 1, 0])
    found = sets(codes, [("b", "a"), None, ()], ("a", "b"), "train", numbers_are_indices=False)
    assert found.tolist() == [3, 0, -1, 3] == [int(as_sets(np.array([[1, 1]], dtype=bool))[0]), 0, -1, 3]
