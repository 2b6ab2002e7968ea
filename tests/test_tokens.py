"""The corpus as the student reads it: the teacher's ids where nothing was changed, else proven ids of its own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_artifact import LABELS, WORDS, write_tokenizer
from tiny_distill import DISTILL, make_tokens, sealed
from tiny_models import write_model

from edgedistill import registry
from edgedistill.corpus.read import read
from edgedistill.distill.controls import control
from edgedistill.distill.signals import prove_token_ids
from edgedistill.distill.stage import distill, start_of
from edgedistill.distill.tokens import prove_kept
from edgedistill.errors import ModelError, StageError
from edgedistill.files import sha256_of
from edgedistill.models.config_json import read_config
from edgedistill.models.factorised import rank_of
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.student_values import Tokens
from edgedistill.training.predict import outputs_of
from edgedistill.training.rows import TokenRows
from edgedistill.training.signals import SplitSignals, rows_of
from edgedistill.values import Controls, Corpus, Signals, Student, Teacher


def of_kind(kind: str, **options: Any) -> Any:
    own: dict[str, Any] = {"static": {"dimensions": 16, "hidden_size": 8}, "layers": {"layers": 1}}
    return registry.load("edgedistill.models.students", kind).Options(kind=kind, **own.get(kind, {}), **options)


def own_start(folder: Path, words: tuple[str, ...] = WORDS[::-1], **changes: Any) -> Any:
    """Write a checkpoint whose tokenizer gives the same words other ids; return the options of a student from it."""
    write_model(folder / "small", layers=1, headed=False, vocab_size=len(words) + 4, **changes)
    write_tokenizer(folder / "small")
    file = folder / "small" / "tokenizer.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    said["model"]["vocab"] = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words))}
    file.write_text(json.dumps(said), encoding="utf-8")
    (folder / "small" / "LICENSE").write_text("do as you like", encoding="utf-8")
    return of_kind("pretrained", model={"path": str(folder / "small")}, licence="BSD-3-Clause")


@pytest.fixture
def given(teacher: Teacher, corpus: Corpus, signals: Signals) -> dict[str, Any]:
    return {"teacher": teacher, "corpus": corpus, "signals": signals}


def test_a_student_that_reads_as_the_teacher_gets_the_teachers_very_ids(
    tokens: Tokens, signals: Signals, teacher: Teacher, corpus: Corpus
) -> None:
    assert tokens.as_teacher
    for name, split in tokens.splits.items():
        for part in ("token_ids", "offsets"):
            assert sha256_of(tokens.path(getattr(split, part))) == sha256_of(
                signals.path(getattr(signals.splits[name], part))
            )
        assert split.rows == split.identical_rows == split.proven_rows == corpus.splits[name].rows
        assert split.tokens_per_text == split.whole_tokens_per_text == split.teacher_tokens_per_text
    assert tokens.tokenizer_sha256 == signals.tokenizer_sha256
    assert tokens.pad_token_id == signals.pad_token_id
    assert tokens.vocabulary == tokens.whole_vocabulary == read_config(teacher.path(teacher.checkpoint))["vocab_size"]
    assert tokens.seen_in_train == len(np.unique(rows_of(signals, "train").ids))


@pytest.mark.parametrize("options", [{"min_count": 1}, {"min_count": 60}, {"size": 20}])
def test_dropped_tokens_change_only_the_texts_that_have_them(
    options: dict[str, int], given: dict[str, Any], tmp_path: Path
) -> None:
    found = make_tokens(tmp_path, **given, student=of_kind("static", vocabulary=options))
    signals: Signals = given["signals"]
    assert found.kept is not None
    kept = np.load(found.path(found.kept))
    assert len(kept) == found.vocabulary < found.whole_vocabulary
    tokenizer = load_tokenizer(found.path(found.tokenizer))
    assert len(tokenizer) == len(kept)
    counts = np.bincount(rows_of(signals, "train").ids, minlength=found.whole_vocabulary)
    assert (counts[kept[5:]] >= options.get("min_count", 1)).all()
    for name, split in found.splits.items():
        before, after = rows_of(signals, name), rows_of(found, name)
        unknown = 0
        for i in range(len(before)):
            old, new = (rows.ids[rows.offsets[i] : rows.offsets[i + 1]] for rows in (before, after))
            assert len(old) == len(new), "a tokenizer of words alone reads a dropped word as one unknown token"
            assert ((kept[new] == old) | (new == tokenizer.unk_token_id)).all()
            unknown += (new == tokenizer.unk_token_id).sum()
        assert split.unknown_share == pytest.approx(unknown / len(after.ids))
        assert split.proven_rows <= split.identical_rows <= split.rows
    assert found.splits["train"].proven_rows == found.splits["train"].rows or options != {"min_count": 1}


def test_counts_come_from_the_training_texts_alone(given: dict[str, Any], tmp_path: Path) -> None:
    found = make_tokens(tmp_path, **given, student=of_kind("static", vocabulary={"min_count": 1}))
    assert found.kept is not None
    seen = set(rows_of(given["signals"], "train").ids.tolist())
    assert seen <= set(np.load(found.path(found.kept)).tolist()) <= seen | {0, 1, 2, 3, 8}


def rows(*texts: list[int]) -> TokenRows:
    return TokenRows(np.concatenate(texts).astype(np.int32), np.cumsum([0, *map(len, texts)]), 0)


KEPT = np.array([0, 1, 5, 7])


@pytest.mark.parametrize(
    ("before", "after", "identical", "proven"),
    [
        ([5, 7], [2, 3], 1, 1),
        ([5, 6, 7], [2, 3, 3], 0, 0),  # has a dropped token
        ([5, 1], [2, 2], 0, 0),  # an unknown word may be found in pieces
        ([5, 1], [2, 1], 1, 0),
        ([5, 7, 5, 7], [2, 3, 2, 1], 0, 0),  # was cut
    ],
)
def test_what_is_proven_and_what_is_only_counted(
    before: list[int], after: list[int], identical: int, proven: int
) -> None:
    told = prove_kept(rows([7], before), rows([3], after), KEPT, 1, 4, ["one", "other"])
    assert told == (1 + identical, 1 + proven)


@pytest.mark.parametrize("after", [[3, 2], [2], [2, 3, 3], [5, 7]])
def test_a_text_that_should_be_read_as_before_and_is_not_stops_the_build(after: list[int]) -> None:
    with pytest.raises(StageError, match=r"trimmed tokenizer reads 'other', which needs only kept tokens, as .*: \["):
        prove_kept(rows([7], [5, 7]), rows([3], after), KEPT, 1, 4, ["one", "other"])


def test_a_students_own_tokenizer_reads_every_text(given: dict[str, Any], tmp_path: Path) -> None:
    options = own_start(tmp_path)
    found = make_tokens(tmp_path / "tokens", **given, student=options)
    assert found.start is not None
    assert not found.as_teacher
    assert found.kept is None
    assert (found.start.licence, found.start.source) == ("BSD-3-Clause", str(tmp_path / "small"))
    assert (found.path(found.start.checkpoint) / "LICENSE").exists()
    tokenizer = load_tokenizer(found.path(found.tokenizer))
    assert tokenizer.model_max_length == 32
    texts, own = read(given["corpus"], "test").texts, rows_of(found, "test")
    for i in range(len(texts)):
        assert own.ids[own.offsets[i] : own.offsets[i + 1]].tolist() == tokenizer(texts[i])["input_ids"]
    assert not np.array_equal(own.ids, rows_of(given["signals"], "test").ids)
    assert prove_token_ids(found, given["corpus"], "train", tokenizer) > 100
    with pytest.raises(StageError, match="the student and its tokenizer read row 0 of train as different"):
        prove_token_ids(found, given["corpus"], "train", load_tokenizer(start_of(_as_teacher(found), *_ways(given))))


def _as_teacher(found: Tokens) -> Tokens:
    return found.model_copy(update={"start": None})


def _ways(given: dict[str, Any]) -> tuple[Path, Path]:
    teacher: Teacher = given["teacher"]
    return teacher.path(teacher.checkpoint), Path("nowhere")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_position_embeddings": 31}, r"task\.max_length: 32 tokens are more than the 31 that the student"),
        ({"vocab_size": 50}, r"student\.model: the tokenizer has \d+ ids, the model's table 50 rows"),
    ],
)
def test_a_checkpoint_that_cannot_read_the_texts_is_told(
    changes: dict[str, int], said: str, given: dict[str, Any], tmp_path: Path
) -> None:
    options = own_start(tmp_path)
    write_model(tmp_path / "small", layers=1, headed=False, **changes)
    with pytest.raises(ModelError, match=said):
        make_tokens(tmp_path / "tokens", **given, student=options)


def test_rows_that_are_not_the_teachers_are_refused(given: dict[str, Any], tokens: Tokens, signals: Signals) -> None:
    other = tokens.model_copy(update={"splits": {**tokens.splits, "test": tokens.splits["train"]}})
    other._folder = tokens.folder
    with pytest.raises(StageError, match=r"the student reads \d+ rows of test, and the teacher read 60"):
        SplitSignals(signals, "test", other)


STUDENTS: dict[str, dict[str, Any]] = {
    "static": {"vocabulary": {"min_count": 60}, "embedding_rank": 6},
    "layers": {"vocabulary": {"size": 30}, "embedding_rank": 8},
    "pretrained": {},
    "pretrained, trimmed": {"vocabulary": {"min_count": 1}, "embedding_rank": 4},
}


@pytest.mark.parametrize("name", STUDENTS)
def test_student_and_controls_learn_from_the_students_own_rows(
    name: str, given: dict[str, Any], tmp_path: Path
) -> None:
    kind = name.partition(",")[0]
    options = of_kind(kind, **STUDENTS[name]) if kind != "pretrained" else own_start(tmp_path)
    if name == "pretrained, trimmed":
        options = of_kind("pretrained", model=options.model, licence="MIT", **STUDENTS[name])
    tokens = make_tokens(tmp_path / "tokens", **given, student=options)
    made: dict[str, Any] = {}
    for stage, value in (("student", distill), ("controls", control)):
        (tmp_path / stage).mkdir()
        made[stage] = sealed(tmp_path / stage, value(DISTILL, options, **given, tokens=tokens, folder=tmp_path / stage))
    student: Student = made["student"]
    model = load_model(student.path(student.checkpoint))
    assert model.labels == LABELS
    assert model.token_table.num_embeddings == tokens.vocabulary
    assert rank_of(model) == options.embedding_rank
    assert student.parameters == sum(parameter.numel() for parameter in model.parameters())
    tokenizer = load_tokenizer(student.path(student.checkpoint))
    assert prove_token_ids(tokens, given["corpus"], "test", tokenizer) == 60
    assert student.preflight[1].explanation == "texts that the student's tokenizer reads so"
    controls: Controls = made["controls"]
    assert controls.no_teacher is not None
    assert controls.no_teacher_initialised_from is not None
    assert ("checkpoint of its own" in controls.no_teacher_initialised_from) == (kind == "pretrained")
    for what in (student.initialised_from, controls.no_teacher_initialised_from):
        assert ("only the tokens that its texts need" in what) == (options.vocabulary is not None)
        assert (f"two factors of rank {options.embedding_rank}" in what) == (options.embedding_rank is not None)
    said = np.load(student.path(student.evaluation.outputs["test"]))
    assert np.allclose(outputs_of(model, rows_of(tokens, "test")), said, atol=1e-5)
    wrong = rows_of(tokens, "test").take(np.arange(60)[::-1])
    assert not np.allclose(outputs_of(model, wrong), said, atol=1e-5), "the check can fail"


def test_the_twin_starts_where_the_student_does(given: dict[str, Any], tmp_path: Path) -> None:
    teacher: Teacher = given["teacher"]
    assert teacher.base is not None
    ways = [teacher.path(teacher.checkpoint), teacher.path(teacher.base)]
    own = make_tokens(tmp_path / "own", **given, student=own_start(tmp_path))
    assert own.start is not None
    assert [start_of(own, way, tmp_path) for way in ways] == [own.path(own.start.checkpoint)] * 2
    trimmed = make_tokens(tmp_path / "less", **given, student=of_kind("layers", vocabulary={"size": 30}))
    starts = [start_of(trimmed, way, tmp_path / "progress") for way in ways]
    assert starts[0] != starts[1]
    assert [read_config(start)["vocab_size"] for start in starts] == [30, 30]
    assert [start_of(make_tokens(tmp_path / "as", **given), way, tmp_path) for way in ways] == ways
