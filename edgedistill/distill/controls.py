"""Controls: the same student without the teacher, TF-IDF + linear, and the majority class, on the same splits.

Without them nobody can tell distillation from quality that comes for free.
"""

from pathlib import Path

import numpy as np
from accelerate import Accelerator

from edgedistill import registry
from edgedistill.corpus.read import read
from edgedistill.distill.stage import STUDENTS, make_student
from edgedistill.progress import say
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.training.evaluate import evaluate
from edgedistill.training.gold import GoldLabels
from edgedistill.training.loop import train
from edgedistill.training.predict import logits_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Baseline, Controls, Corpus, Evaluation, Signals, Teacher, Training

TFIDF_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)


def control(
    options: DistillOptions,
    student_options: StudentOptions,
    *,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    folder: Path,
) -> Controls:
    """Train and measure the controls, or say why there are none."""
    if not options.controls:
        return _without("switched off in the recipe (distill.controls: false)")
    known = np.flatnonzero(SplitSignals(signals, "train").labels >= 0)
    if len(known) == 0:
        return _without("the training rows have no gold labels, and nothing can be learned without a teacher")
    baselines = (_majority(corpus, signals, folder), _tfidf(corpus, signals, folder))
    evaluation, trained, start = _no_teacher(options, student_options, teacher, corpus, signals, known, folder)
    return Controls(
        baselines=baselines,
        no_teacher=evaluation,
        no_teacher_training=trained,
        no_teacher_initialised_from=start,
        skipped=None,
    )


def _without(reason: str) -> Controls:
    return Controls(
        baselines=(), no_teacher=None, no_teacher_training=None, no_teacher_initialised_from=None, skipped=reason
    )


def _no_teacher(
    options: DistillOptions,
    student_options: StudentOptions,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    known: np.ndarray,
    folder: Path,
) -> tuple[Evaluation, Training, str]:
    """Train the student's twin on gold labels alone, from what the teacher was before it knew the task."""
    progress = folder / "progress"
    start = teacher.path(teacher.base or teacher.checkpoint)
    twin = make_student(student_options, start, corpus.labels, options.seed, progress)
    split, validation = SplitSignals(signals, "train"), SplitSignals(signals, "validation")
    rows = split.rows.take(known)
    objective = GoldLabels(np.asarray(split.labels)[known], validation.rows, validation.labels, len(corpus.labels))
    trained = train(twin, rows, objective, options, progress / "training", "control: the student without a teacher")
    device = Accelerator().device
    twin.to(device)
    evaluation = evaluate(
        lambda name: logits_of(twin, SplitSignals(signals, name).rows, len(corpus.labels), device),
        signals,
        corpus.evaluation_splits,
        folder,
        "no_teacher",
    )
    what = registry.load(STUDENTS, student_options.kind).describe(student_options)
    whom = (
        "the checkpoint before it was fitted"
        if teacher.base is not None
        else "the teacher itself (no earlier one is known)"
    )
    return evaluation, trained, f"{what}; teacher here means {whom}"


def _tfidf(corpus: Corpus, signals: Signals, folder: Path) -> Baseline:
    """TF-IDF of words and word pairs under logistic regression, its strength chosen on validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    say("  control: TF-IDF and a linear model")
    rows, validation = read(corpus, "train"), read(corpus, "validation")
    known = np.flatnonzero(rows.labels >= 0)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features, gold = vectorizer.fit_transform([rows.texts[i] for i in known]), rows.labels[known]
    held_out, judged = vectorizer.transform(validation.texts), validation.labels >= 0
    models = [LogisticRegression(C=strength, max_iter=1000).fit(features, gold) for strength in TFIDF_STRENGTHS]
    best = max(models, key=lambda model: (model.predict(held_out)[judged] == validation.labels[judged]).mean())

    def answer(name: str) -> np.ndarray:
        logits = np.full((len(read(corpus, name).texts), len(corpus.labels)), -30.0, dtype=np.float32)
        logits[:, best.classes_] = best.predict_log_proba(vectorizer.transform(read(corpus, name).texts))
        return logits

    evaluation = evaluate(answer, signals, corpus.evaluation_splits, folder, "tfidf")
    description = (
        f"TF-IDF (1,2)-grams, logistic regression, C={best.C:g} chosen on validation, {features.shape[1]} features"
    )
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
