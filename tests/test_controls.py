"""Controls see what the student saw, minus the teacher; and nothing of what they are measured on."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tiny_artifact import LABELS
from tiny_distill import (
    DISTILL,
    STATIC,
    make_corpus,
    make_signals,
    make_teacher,
    make_tokens,
    rewritten,
    sealed,
    teacher_options,
)
from tiny_models import write_model

from edgedistill.corpus.read import read
from edgedistill.distill import baselines
from edgedistill.distill import controls as module
from edgedistill.distill.controls import control
from edgedistill.distill.stage import distill, make_student
from edgedistill.models.students import layers
from edgedistill.recipe_sections import DistillOptions
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Controls, Corpus, Evaluation, Signals, Teacher

EVALUATED = ("test", "challenge.other")


def controls_of(
    folder: Path,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    options: DistillOptions = DISTILL,
    student: Any = STATIC,
) -> Controls:
    folder.mkdir(parents=True, exist_ok=True)
    values = {"teacher": teacher, "corpus": corpus, "signals": signals}
    tokens = make_tokens(folder / "tokens", **values, student=student)
    return sealed(folder, control(options, student, **values, tokens=tokens, folder=folder))


@pytest.fixture(scope="module")
def controls(tmp_path_factory: pytest.TempPathFactory, teacher: Teacher, corpus: Corpus, signals: Signals) -> Controls:
    return controls_of(tmp_path_factory.mktemp("controls"), teacher, corpus, signals)


def logits(controls: Controls, name: str, split: str = "test") -> np.ndarray:
    """Return what a control said to a split."""
    evaluations: dict[str, Evaluation] = {baseline.name: baseline.evaluation for baseline in controls.baselines}
    evaluation = evaluations.get(name, controls.no_teacher)
    assert evaluation is not None
    found: np.ndarray = np.load(controls.path(evaluation.outputs[split]))
    return found


NAMES = ("majority", "tfidf_linear", "no_teacher")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", EVALUATED)
def test_every_control_answers_every_row_and_is_measured_on_gold(
    name: str, split: str, controls: Controls, corpus: Corpus
) -> None:
    said, gold = logits(controls, name, split), read(corpus, split).labels
    assert said.shape == (len(gold), len(LABELS))
    assert said.dtype == np.float32
    evaluations: dict[str, Evaluation] = {one.name: one.evaluation for one in controls.baselines}
    evaluation = evaluations.get(name, controls.no_teacher)
    assert evaluation is not None
    assert evaluation.metrics[split].value == (said.argmax(axis=1) == gold).mean()
    assert controls.skipped is None


def test_tfidf_learns_and_the_majority_does_not(controls: Controls, corpus: Corpus) -> None:
    measured = {one.name: one.evaluation.metrics["test"].value for one in controls.baselines}
    assert measured["tfidf_linear"] > 0.9
    gold = read(corpus, "train").labels
    most = int(np.bincount(gold[gold >= 0]).argmax())
    assert measured["majority"] == (read(corpus, "test").labels == most).mean()
    assert (logits(controls, "majority").argmax(axis=1) == most).all()
    assert f"always {LABELS[most]!r}" in controls.baselines[0].description


def test_tfidf_gives_log_probabilities(controls: Controls) -> None:
    assert np.allclose(np.exp(logits(controls, "tfidf_linear")).sum(axis=1), 1.0, atol=1e-5)


def shuffled(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(labels)


@pytest.mark.parametrize("split", [*EVALUATED, "calibration"])
def test_what_the_held_out_labels_are_changes_no_answer(
    split: str, controls: Controls, teacher: Teacher, corpus: Corpus, tmp_path: Path
) -> None:
    other = rewritten(corpus, tmp_path / "corpus", "label", shuffled, split)
    signals = make_signals(tmp_path / "signals", teacher, other)
    again = controls_of(tmp_path / "controls", teacher, other, signals)
    assert all(np.array_equal(logits(again, name), logits(controls, name)) for name in NAMES)
    assert again.baselines[1].description == controls.baselines[1].description


def test_train_labels_change_the_answers(teacher: Teacher, corpus: Corpus, controls: Controls, tmp_path: Path) -> None:
    other = rewritten(corpus, tmp_path / "corpus", "label", shuffled, "train")
    signals = make_signals(tmp_path / "signals", teacher, other)
    again = controls_of(tmp_path / "controls", teacher, other, signals)
    assert not any(
        np.array_equal(logits(again, name), logits(controls, name)) for name in ("tfidf_linear", "no_teacher")
    )


def test_tfidfs_strength_is_the_best_on_validation(
    teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold, right_with = read(corpus, "validation").labels, {0.5: 0.2, 1.0: 0.4, 2.0: 0.9, 4.0: 0.6, 8.0: 0.5}

    class Told(LogisticRegression):  # type: ignore[misc]
        """Answers validation as well as it is told to."""

        def predict(self, features: Any) -> np.ndarray:
            assert features.shape[0] == len(gold), "only validation is looked at"
            return np.where(np.arange(len(gold)) < right_with[self.C] * len(gold), gold, 1 - gold)

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Told)
    assert "C=2 chosen on validation" in baselines._tfidf_linear(corpus, signals, tmp_path).description


def unheard(texts: np.ndarray) -> list[str]:
    """Return other texts, of as many words that nobody else has."""
    return [" ".join(f"new{i}x{j}" for j, _ in enumerate(text.split())) for i, text in enumerate(texts)]


def features(corpus: Corpus, signals: Signals, folder: Path) -> int:
    """Return how many words and pairs of words TF-IDF has learned."""
    folder.mkdir(parents=True, exist_ok=True)
    found = re.search(r", (\d+) features$", baselines._tfidf_linear(corpus, signals, folder).description)
    assert found is not None
    return int(found[1])


def test_tfidf_knows_the_words_of_the_labelled_training_rows_alone(
    corpus: Corpus, signals: Signals, tmp_path: Path
) -> None:
    before = features(corpus, signals, tmp_path)
    for i, split in enumerate(("validation", *EVALUATED, "calibration")):
        other = rewritten(corpus, tmp_path / f"corpus {i}", "text", unheard, split)
        assert features(other, signals, tmp_path / f"tfidf {i}") == before, split
    train = rewritten(corpus, tmp_path / "train", "text", unheard, "train")
    assert features(train, signals, tmp_path / "tfidf") != before, "the check can fail"


def test_tfidf_of_many_rows_is_fitted_on_some_and_says_so(
    corpus: Corpus, signals: Signals, controls: Controls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = int((read(corpus, "train").labels >= 0).sum())
    monkeypatch.setattr(baselines, "TFIDF_ROWS", labelled)
    assert baselines._tfidf_linear(corpus, signals, tmp_path).description == controls.baselines[1].description
    monkeypatch.setattr(baselines, "TFIDF_ROWS", 50)
    fitted = baselines._tfidf_linear(corpus, signals, tmp_path)
    assert fitted.description.endswith(f", fitted on 50 of {labelled} labelled rows, drawn by hash")
    assert fitted.evaluation.metrics["test"].value > 0.8, "texts and labels still belong to each other"


def test_the_student_without_a_teacher_saw_gold_alone(controls: Controls, corpus: Corpus) -> None:
    assert controls.no_teacher_training is not None
    labels = read(corpus, "train").labels
    assert controls.no_teacher_training.rows == (labels >= 0).sum() < len(labels)
    assert controls.no_teacher_training.steps <= DISTILL.epochs * -(-len(labels) // DISTILL.batch_size)


@pytest.mark.parametrize("student", [STATIC, layers.Options(kind="layers", layers=1)])
def test_the_student_without_a_teacher_starts_from_what_the_teacher_was_before(
    student: Any, teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Path] = []

    def watched(options: Any, start: Path, *rest: Any) -> Any:
        starts.append(start)
        return make_student(options, start, *rest)

    monkeypatch.setattr(module, "make_student", watched)
    found = controls_of(tmp_path, teacher, corpus, signals, student=student)
    assert teacher.base is not None
    assert starts == [teacher.path(teacher.base)]
    assert "the checkpoint before it was fitted" in str(found.no_teacher_initialised_from)


def test_where_no_earlier_checkpoint_is_known_that_is_said(corpus: Corpus, tmp_path: Path) -> None:
    write_model(tmp_path / "headed")
    teacher = make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "headed"))
    signals = make_signals(tmp_path / "signals", teacher, corpus)
    found = controls_of(tmp_path / "controls", teacher, corpus, signals)
    assert "the teacher itself (no earlier one is known)" in str(found.no_teacher_initialised_from)


def test_the_teachers_answers_change_nothing(
    controls: Controls, teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path
) -> None:
    shutil.copytree(signals.folder, tmp_path / "signals")
    for name, split in signals.splits.items():
        np.save(tmp_path / "signals" / split.outputs, -np.asarray(SplitSignals(signals, name).outputs))
    again = controls_of(tmp_path / "controls", teacher, corpus, sealed(tmp_path / "signals", signals))
    assert all(np.array_equal(logits(again, name), logits(controls, name)) for name in NAMES)


def test_the_twin_may_have_a_learning_rate_of_its_own(
    controls: Controls, teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path
) -> None:
    rate = DISTILL.learning_rate / 2
    own = DISTILL.model_copy(update={"control_learning_rate": rate, "seeds": 2})
    found = controls_of(tmp_path / "own", teacher, corpus, signals, own)
    slow = controls_of(tmp_path / "slow", teacher, corpus, signals, DISTILL.model_copy(update={"learning_rate": rate}))
    usual = controls_of(tmp_path / "usual", teacher, corpus, signals, DISTILL.model_copy(update={"seeds": 2}))
    for split in EVALUATED:
        assert (logits(found, "no_teacher", split) == logits(slow, "no_teacher", split)).all()
        assert (logits(found, "no_teacher", split) != logits(controls, "no_teacher", split)).any()
        repeated, as_usual = (np.load(one.path(one.repeats[0].student.outputs[split])) for one in (found, usual))
        assert (repeated == as_usual).all(), "the student learns at its own rate"


def test_controls_that_are_switched_off_say_so(
    teacher: Teacher, corpus: Corpus, signals: Signals, tmp_path: Path
) -> None:
    found = controls_of(tmp_path, teacher, corpus, signals, DISTILL.model_copy(update={"controls": False}))
    assert found.skipped == "switched off in the recipe (distill.controls: false)"
    assert (found.baselines, found.no_teacher, found.no_teacher_training) == ((), None, None)


def test_controls_that_have_no_gold_say_so(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", labelled=False, count=40)
    write_model(tmp_path / "headed")
    teacher = make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "headed"))
    found = controls_of(tmp_path / "c", teacher, corpus, make_signals(tmp_path / "signals", teacher, corpus))
    assert found.skipped == "the training rows have no gold labels, and nothing can be learned without a teacher"
    assert found.baselines == ()


def test_a_further_seed_is_the_student_and_the_twin_that_this_seed_would_have_given(
    tmp_path: Path, teacher: Teacher, corpus: Corpus, signals: Signals, controls: Controls
) -> None:
    both = controls_of(tmp_path / "two", teacher, corpus, signals, DISTILL.model_copy(update={"seeds": 2}))
    (repeat,) = both.repeats
    other = DISTILL.model_copy(update={"seed": DISTILL.seed + 1})
    (tmp_path / "student").mkdir()
    values = {"teacher": teacher, "corpus": corpus, "signals": signals}
    tokens = make_tokens(tmp_path / "tokens", **values)
    student = distill(other, STATIC, **values, tokens=tokens, folder=tmp_path / "student")
    twin = controls_of(tmp_path / "twin", teacher, corpus, signals, other)
    assert repeat.seed == DISTILL.seed + 1
    for split in EVALUATED:
        shipped = (tmp_path / "student" / student.evaluation.outputs[split]).read_bytes()
        assert both.path(repeat.student.outputs[split]).read_bytes() == shipped
        own = np.load(both.path(repeat.no_teacher.outputs[split]))
        assert (own == logits(twin, "no_teacher", split)).all()
        assert (own != logits(controls, "no_teacher", split)).any(), "another seed, another model"
    assert not controls.repeats


def letters(texts: np.ndarray) -> list[str]:
    """Return texts of single letters, which TF-IDF of words does not count, each another one."""
    return [" ".join("abcdefgh"[i >> place & 7] for place in range(0, 12, 3)) for i, _ in enumerate(texts)]


def test_texts_without_a_word_to_count_end_no_build(corpus: Corpus, signals: Signals, tmp_path: Path) -> None:
    bare = rewritten(corpus, tmp_path / "bare", "text", letters, "train", "test")
    (majority,) = baselines.baselines(bare, signals, tmp_path)
    assert majority.name == "majority"
    found = baselines._tfidf_search(bare, signals, tmp_path, "words")
    assert "0 on test" in found.description
    assert not np.load(tmp_path / found.evaluation.outputs["test"]).any(), "it finds nothing"
    assert "0 on test" not in baselines._tfidf_search(bare, signals, tmp_path, "characters").description
