"""Controls: the same student without the teacher, TF-IDF + linear, and the majority class, on the same splits.

Without them nobody can tell distillation from quality that comes for free; and with one seed nobody can tell it from
luck, so student and twin may be trained again with others.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from edgedistill.corpus.read import batches, labels_of, texts_of
from edgedistill.distill.objective import TeacherSignals
from edgedistill.distill.stage import make_student, measured, start_of
from edgedistill.models.student import describe
from edgedistill.progress import say
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.student_values import Tokens
from edgedistill.training.evaluate import evaluate
from edgedistill.training.gold import GoldLabels
from edgedistill.training.loop import Objective, train
from edgedistill.training.rows import TokenRows
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Baseline, Controls, Corpus, Evaluation, Repeat, Signals, Teacher, Training

TFIDF_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
TFIDF_ROWS = 100_000  # labelled rows at most: each brings new word pairs, and a cheap baseline may not cost gigabytes


def control(
    options: DistillOptions,
    student_options: StudentOptions,
    *,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    tokens: Tokens,
    folder: Path,
) -> Controls:
    """Train and measure the controls, or say why there are none."""
    if not options.controls:
        return _without("switched off in the recipe (distill.controls: false)")
    known = np.flatnonzero(SplitSignals(signals, "train").labels >= 0)
    if len(known) == 0:
        return _without("the training rows have no gold labels, and nothing can be learned without a teacher")
    baselines = (_majority(corpus, signals, folder), _tfidf(corpus, signals, folder))
    learn = _Learner(student_options, teacher, corpus, signals, tokens, folder)
    evaluation, trained = learn.from_gold(options, known, "no_teacher", "control: the student without a teacher")
    repeats = []
    for seed in range(options.seed + 1, options.seed + options.seeds):
        other = options.model_copy(update={"seed": seed})
        student, _ = learn.from_teacher(other, f"student_seed_{seed}", f"the student with seed {seed}")
        twin, _ = learn.from_gold(other, known, f"no_teacher_seed_{seed}", f"control with seed {seed}")
        repeats.append(Repeat(seed=seed, student=student, no_teacher=twin))
    return Controls(
        baselines=baselines,
        no_teacher=evaluation,
        no_teacher_training=trained,
        no_teacher_initialised_from=learn.described(),
        repeats=tuple(repeats),
        skipped=None,
    )


def _without(reason: str) -> Controls:
    return Controls(
        baselines=(), no_teacher=None, no_teacher_training=None, no_teacher_initialised_from=None, repeats=(),
        skipped=reason,
    )  # fmt: skip


@dataclass(frozen=True)
class _Learner:
    """Trains and measures one student after another; every name has its own place below `progress/`."""

    options: StudentOptions
    teacher: Teacher
    corpus: Corpus
    signals: Signals
    tokens: Tokens
    folder: Path

    def split(self, name: str) -> SplitSignals:
        """Return what the student reads and the teacher said."""
        return SplitSignals(self.signals, name, self.tokens)

    def from_teacher(self, options: DistillOptions, name: str, what: str) -> tuple[Evaluation, Training]:
        """Train a student as the one that ships was trained."""
        split, validation = self.split("train"), self.split("validation")
        objective = TeacherSignals(options.losses, split, validation)
        return self._learned(self.teacher.checkpoint, split.rows, objective, options, name, what)

    def from_gold(
        self, options: DistillOptions, known: np.ndarray, name: str, what: str
    ) -> tuple[Evaluation, Training]:
        """Train the student's twin on gold labels alone, from what the teacher was before it knew the task.

        Args:
            known: (rows,) int; the training rows that have a label.
        """
        split, validation = self.split("train"), self.split("validation")
        labels = np.asarray(split.labels)[known]
        objective = GoldLabels(labels, validation.rows, validation.labels, len(self.corpus.labels))
        start = self.teacher.base or self.teacher.checkpoint
        return self._learned(start, split.rows.take(known), objective, options, name, what)

    def described(self) -> str:
        """Say in words what the twin starts from."""
        what = describe(self.options)
        if self.tokens.start is not None:
            return what
        earlier = self.teacher.base is not None
        whom = "the checkpoint before it was fitted" if earlier else "the teacher itself (no earlier one is known)"
        return f"{what}; teacher here means {whom}"

    def _learned(
        self, teacher: PurePosixPath, rows: TokenRows, objective: Objective, options: DistillOptions, name: str,
        what: str,
    ) -> tuple[Evaluation, Training]:  # fmt: skip
        progress = self.folder / "progress"
        start = start_of(self.tokens, self.teacher.path(teacher), progress)
        model = make_student(self.options, start, self.corpus.labels, options.seed, progress / f"from_{start.name}")
        trained = train(model, rows, objective, options, progress / name, what)
        return measured(model, self.corpus, self.signals, self.tokens, self.folder, name), trained


def _tfidf(corpus: Corpus, signals: Signals, folder: Path) -> Baseline:
    """TF-IDF of words and word pairs under logistic regression, its strength chosen on validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    say("  control: TF-IDF and a linear model")
    labels, validation_labels = labels_of(corpus, "train"), labels_of(corpus, "validation")
    known, judged = labels[labels >= 0], validation_labels >= 0
    gold = known[:TFIDF_ROWS]  # a corpus lies in the order of a hash: its first rows are a sample that no file decides
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(islice(texts_of(corpus, "train", labelled=True), len(gold)))
    held_out = vectorizer.transform(texts_of(corpus, "validation"))
    models = [LogisticRegression(C=strength, max_iter=1000).fit(features, gold) for strength in TFIDF_STRENGTHS]
    best = max(models, key=lambda model: (model.predict(held_out)[judged] == validation_labels[judged]).mean())

    def answer(name: str) -> np.ndarray:
        logits = np.full((corpus.splits[name].rows, len(corpus.labels)), -30.0, dtype=np.float32)
        start = 0
        for batch in batches(corpus, name, "text"):
            said = best.predict_log_proba(vectorizer.transform(batch["text"].to_pylist()))
            logits[start : start + len(said), best.classes_] = said
            start += len(said)
        return logits

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, "tfidf")
    description = (
        f"TF-IDF (1,2)-grams, logistic regression, C={best.C:g} chosen on validation, {features.shape[1]} features"
    )
    if len(gold) < len(known):
        description += f", fitted on {len(gold)} of {len(known)} labelled rows, drawn by hash"
    return Baseline(name="tfidf_linear", description=description, evaluation=evaluation)


def _majority(corpus: Corpus, signals: Signals, folder: Path) -> Baseline:
    """The training rows' most frequent class, always."""
    train_labels = SplitSignals(signals, "train").labels
    counts = np.bincount(train_labels[train_labels >= 0], minlength=len(corpus.labels))

    def answer(name: str) -> np.ndarray:
        return np.tile((counts / counts.sum()).astype(np.float32), (signals.splits[name].rows, 1))

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, "majority")
    description = f"always {corpus.labels[int(counts.argmax())]!r}, the most frequent class in train"
    return Baseline(name="majority", description=description, evaluation=evaluation)
