"""The corpus stage: disjoint splits, whatever the files hold."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_corpus import every_row, pool_of

from edgedistill.corpus import split as split_module
from edgedistill.corpus import stage
from edgedistill.corpus.candidates import grams
from edgedistill.corpus.duplicates import Index, similarity
from edgedistill.corpus.pool import normalised
from edgedistill.corpus.read import Rows, read
from edgedistill.corpus.stage import collect, digests
from edgedistill.errors import DataError
from edgedistill.files import sha256_of, sha256_of_text
from edgedistill.recipe_sections import DataOptions, SplitOptions
from edgedistill.values import Corpus, Overlap

WORDS = [f"{a}{b}" for a in ("mo", "ti", "ka", "su", "re", "lo", "ni") for b in ("va", "den", "rik", "sol", "mip")]
LABELS = ("bad", "good")
Pair = tuple[str, Any]


def sentences(count: int, seed: int = 0) -> list[Pair]:
    """Return random texts that are far from each other, labelled in turn."""
    rng = random.Random(seed)
    return [(" ".join(rng.choices(WORDS, k=12)), LABELS[i % 2]) for i in range(count)]


def nearly(text: str) -> str:
    """Return a text that differs in its last word alone."""
    return f"{text.rpartition(' ')[0]} zz"


class Files:
    """Data files in a folder, and the corpus that is made of them."""

    def __init__(self, folder: Path) -> None:
        self.base = folder
        self.out = folder / "stage"
        self.out.mkdir()

    def write(self, name: str, rows: Iterable[Pair]) -> dict[str, str]:
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (self.base / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return {"source": "jsonl", "file": f"{name}.jsonl"}

    def data(self, given: dict[str, Iterable[Pair]], **more: Any) -> DataOptions:
        named: dict[str, Any] = {"challenge": {}, **more}
        for role, rows in given.items():
            top, _, name = role.partition(".")
            (named[top] if name else named)[name or top] = self.write(role, rows)
        return DataOptions.model_validate(named)

    def collect(self, given: dict[str, Iterable[Pair]], labels: tuple[str, ...] | None = None, **more: Any) -> Corpus:
        made = collect(self.data(given, **more), labels, self.base, self.out)
        (self.out / "result.json").write_text(made.model_dump_json(), encoding="utf-8")
        return Corpus.load(self.out)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def rows_of(corpus: Corpus) -> dict[str, Rows]:
    return {name: read(corpus, name) for name in corpus.splits}


def straddling(corpus: Corpus, threshold: float) -> list[tuple[str, str]]:
    """Return the pairs of splits that share a text, found by comparing every text with every other."""
    keys = [(name, grams(normalised(text))) for name, rows in rows_of(corpus).items() for text in rows.texts]
    return [(a, b) for i, (a, x) in enumerate(keys) for b, y in keys[:i] if a != b and similarity(x, y) >= threshold]


def tangled() -> dict[str, list[Pair]]:
    """Return files that share texts with each other in every way."""
    rows = sentences(160)
    copies = [(text.upper(), label) for text, label in rows[:12]] + [
        (nearly(text), label) for text, label in rows[6:24]
    ]
    return {
        "train": rows + copies,
        "unlabelled": [(text, None) for text, _ in rows[20:40]] + [(text, None) for text, _ in sentences(30, seed=1)],
        "test": rows[30:50] + sentences(20, seed=2),
        "validation": [(nearly(text), label) for text, label in rows[40:60]] + sentences(20, seed=3),
        "challenge.news": rows[55:65] + rows[30:35] + sentences(20, seed=4),
        "challenge.mail": [(nearly(text), label) for text, label in rows[60:70]] + sentences(20, seed=5),
    }


def test_no_text_serves_two_purposes(files: Files) -> None:
    corpus = files.collect(tangled())
    assert straddling(corpus, 0.8) == []
    assert len(corpus.overlaps) > 5


def test_that_check_notices_an_audit_that_looks_for_equal_texts_alone(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(Index):
        def near(self, key: int) -> list[int]:
            return []

    monkeypatch.setattr(stage, "Index", Blind)
    assert straddling(files.collect(tangled()), 0.8) != []


def test_every_row_is_accounted_for(files: Files) -> None:
    given = tangled()
    corpus = files.collect(given)
    removed = sum(
        part.exact_duplicates_removed + part.near_duplicates_removed + part.conflicting_rows_removed
        for part in corpus.splits.values()
    )
    overlapping = sum(overlap.exact + overlap.near for overlap in corpus.overlaps)
    assert sum(part.rows for part in corpus.splits.values()) + removed + overlapping == sum(map(len, given.values()))


def test_what_is_written_is_what_the_value_says(files: Files) -> None:
    corpus = files.collect(tangled())
    for name, rows in rows_of(corpus).items():
        part = corpus.splits[name]
        assert part.rows == len(rows.texts) == len(rows.labels) == len(rows.row_hashes)
        assert rows.labels.dtype == np.int64
        assert rows.row_hashes == [sha256_of_text(text)[:16] for text in rows.texts]
        assert part.labelled_rows == sum(part.label_counts.values()) == int((rows.labels >= 0).sum())
        assert part.label_counts == {label: int((rows.labels == i).sum()) for i, label in enumerate(corpus.labels)}
        assert part.sha256 == sha256_of(corpus.path(part.file))
    assert sorted(path.suffix for path in files.out.rglob("*") if path.is_file()) == [".json", *[".parquet"] * 6]


def test_the_order_of_the_rows_changes_no_byte(files: Files) -> None:
    given = tangled()
    first = files.collect(given)
    for rows in given.values():
        random.Random(7).shuffle(rows)
    second = files.collect(given)
    assert first.splits == second.splits
    assert first.overlaps == second.overlaps


def test_what_matters_more_keeps_the_shared_text(files: Files) -> None:
    rows, far = sentences(40), {"test": 2, "challenge.mail": 3, "validation": 4, "calibration": 5, "unlabelled": 6}
    own: dict[str, list[Pair]] = {role: sentences(10, seed) for role, seed in far.items()}
    given = {"train": rows, **own}
    for number, role in enumerate(("test", "challenge.mail", "validation", "calibration", "unlabelled")):
        given[role] = own[role] + rows[:1] + [(nearly(rows[number + 1][0]), rows[number + 1][1])]
    corpus = files.collect(given)
    others = ("challenge.mail", "validation", "calibration", "train", "unlabelled")
    shared = {o.removed_from: (o.exact, o.near) for o in corpus.overlaps if o.kept_in == "test"}
    assert shared == {name: (1, 1 if name == "train" else 0) for name in others}
    assert Overlap(kept_in="train", removed_from="unlabelled", exact=0, near=1) in corpus.overlaps
    assert [o.kept_in for o in corpus.overlaps if o.removed_from == "train"] == [
        "test",
        "challenge.mail",
        "validation",
        "calibration",
    ]


def test_shares_are_cut_by_the_text_alone() -> None:
    shares = SplitOptions(validation=0.2, calibration=0.1, test=0.25)
    with pool_of((text, LABELS.index(label)) for text, label in sentences(4000)) as pool:
        rows = every_row(pool)
        whole = split_module.cut(pool, rows, (), shares, labelled=True)
        half = split_module.cut(pool, rows[:2000], (), shares, labelled=True)
        salted = split_module.cut(pool, rows, (), shares.model_copy(update={"salt": "other"}), labelled=True)
    for name in ("validation", "calibration", "test"):
        assert len(whole[name]) / 4000 == pytest.approx(getattr(shares, name), abs=0.03)
    assert all(set(part) < set(whole[name]) for name, part in half.items())
    assert len(set(salted["test"]) & set(whole["test"])) / len(whole["test"]) == pytest.approx(0.25, abs=0.06)


def test_a_given_file_is_not_cut_again(files: Files) -> None:
    corpus = files.collect({"train": sentences(200), "test": sentences(30, 1)})
    assert corpus.splits["test"].rows == 30
    assert set(corpus.splits) == {"train", "test", "validation", "calibration"}
    assert sum(corpus.splits[name].rows for name in ("train", "validation", "calibration")) == 200


def test_unlabelled_texts_join_train_without_a_label(files: Files) -> None:
    corpus = files.collect(
        {"train": sentences(200), "unlabelled": [(text, "noise") for text, _ in sentences(25, 1)] * 2}
    )
    train = corpus.splits["train"]
    assert train.rows - train.labelled_rows == 25
    assert train.exact_duplicates_removed == 25
    assert "unlabelled" not in corpus.splits
    assert {text for text, _ in sentences(25, 1)} < set(read(corpus, "train").texts)


def test_a_row_without_a_label_is_never_cut_to_where_something_is_measured(files: Files) -> None:
    half = [(text, label if i % 4 > 1 else None) for i, (text, label) in enumerate(sentences(400))]
    corpus = files.collect({"train": half})
    for name in ("test", "validation"):
        assert corpus.splits[name].labelled_rows == corpus.splits[name].rows > 0
    assert corpus.splits["train"].labelled_rows < corpus.splits["train"].rows


def test_a_teacher_may_give_all_labels_of_train(files: Files) -> None:
    bare = [(text, None) for text, _ in sentences(100)]
    corpus = files.collect({"train": bare, "test": sentences(20, 1), "validation": sentences(20, 2)})
    assert corpus.labels == LABELS
    assert corpus.splits["train"].labelled_rows == 0
    assert corpus.splits["calibration"].rows > 0


def test_found_labels_are_sorted_with_numbers_as_numbers(files: Files) -> None:
    def relabelled(names: list[Any]) -> list[Pair]:
        return [(text, names[i % len(names)]) for i, (text, _) in enumerate(sentences(200))]

    assert files.collect({"train": relabelled([10, 9, -1])}).labels == ("-1", "9", "10")
    assert files.collect({"train": relabelled(["star 10", "star 9"])}).labels == ("star 9", "star 10")


def test_given_labels_keep_their_order_and_may_be_numbered(files: Files) -> None:
    rows = sentences(200)
    expected = {text: 1 - LABELS.index(label) for text, label in rows}
    named = rows_of(files.collect({"train": rows}, labels=("good", "bad")))
    numbered = files.collect({"train": [(text, expected[text]) for text, _ in rows]}, labels=("good", "bad"))
    for corpus_rows in (named, rows_of(numbered)):
        found = {t: int(n) for part in corpus_rows.values() for t, n in zip(part.texts, part.labels, strict=True)}
        assert found == expected


def test_a_number_that_is_a_label_is_that_label(files: Files) -> None:
    rows = [(text, i % 2) for i, (text, _) in enumerate(sentences(200))]
    corpus = files.collect({"train": rows}, labels=("1", "0"))
    found = {t: int(n) for part in rows_of(corpus).values() for t, n in zip(part.texts, part.labels, strict=True)}
    assert found == {text: 1 - label for text, label in rows}


def test_digests_name_every_source_and_follow_its_bytes(files: Files) -> None:
    data = files.data({"train": sentences(20), "test": sentences(9, 1), "challenge.mail": sentences(9, 2)})
    before = digests(data, files.base)
    assert set(before) == {"train", "test", "challenge.mail"}
    files.write("test", sentences(10, 1))
    after = digests(data, files.base)
    assert {role for role in before if before[role] != after[role]} == {"test"}
    (files.base / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"test\.jsonl does not exist"):
        digests(data, files.base)


def bare(rows: list[Pair]) -> list[Pair]:
    return [(text, None) for text, _ in rows]


@pytest.mark.parametrize(
    ("given", "labels", "error"),
    [
        ({"train": [*sentences(99), ("x", "meh")]}, LABELS,
         "row 100 of train has the label 'meh', which is not among 'bad', 'good'"),
        ({"train": sentences(99), "challenge.mail": [("x", "meh")]}, None,
         "row 1 of challenge.mail has the label 'meh'"),
        ({"train": sentences(99), "test": [("x", 1)]}, None, "row 1 of test has the label '1'"),
        ({"train": sentences(99), "test": [*sentences(9, 1), ("x", None)]}, None,
         "test has 1 rows without a label .the first is row 10.; quality is measured"),
        ({"train": bare(sentences(99))}, LABELS,
         "train has no labels, so test and validation cannot be cut from it .*data.test and data.validation"),
        ({"train": bare(sentences(99)), "test": sentences(9, 1)}, LABELS, "so validation cannot be cut from it"),
        ({"train": bare(sentences(99))}, None, "the data has no labels; a classifier needs"),
        ({"train": sentences(99)[::2]}, None, "only the label 'bad'"),
        ({"train": sentences(99)[::2]}, LABELS, "train has only the label 'bad'; it needs rows of at least two"),
        ({"train": sentences(99), "test": sentences(40, 1)[::2]}, None, "test has only the label 'bad'"),
        ({"train": sentences(30), "test": sentences(9, 1)}, None,
         "validation has [0-7] rows left and needs 8; .*; give more"),
        ({"train": sentences(300), "calibration": sentences(9)[:1], "test": sentences(300)[:100]}, None,
         "calibration has 0 rows left and needs 1; .* elsewhere too were taken out: 1 in test; give"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used_is_told_with_its_cure(
    files: Files, given: dict[str, list[Pair]], labels: tuple[str, ...] | None, error: str
) -> None:
    with pytest.raises(DataError, match=error):
        files.collect(given, labels)


def test_the_rule_says_what_was_done(files: Files) -> None:
    rule = files.collect({"train": sentences(200)}, near_duplicate_similarity=0.9).near_duplicate_rule
    assert "character 5-gram sets of at least 0.9" in rule
    assert "verified exactly" in rule


def test_the_order_of_importance_covers_every_role() -> None:
    roles = ["train", "unlabelled", "challenge.b", "challenge.a", "calibration", "test", "validation"]
    expected = ["test", "challenge.a", "challenge.b", "validation", "calibration", "train", "unlabelled"]
    assert split_module.by_importance(roles) == expected
