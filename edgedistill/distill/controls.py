"""Controls: the same student without the teacher, TF-IDF + linear, and the majority class, on the same splits.

Without them nobody can tell distillation from quality that comes for free; and with one seed nobody can tell it from
luck, so student and twin may be trained again with others.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgedistill.distill.baselines import baselines
from edgedistill.distill.objective import TeacherSignals
from edgedistill.distill.stage import head_of, make_student, measured, start_of
from edgedistill.models.student import describe
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.student_values import Tokens
from edgedistill.training.dropout_pairs import DropoutPairs
from edgedistill.training.gold import GoldLabels
from edgedistill.training.loop import Objective, train
from edgedistill.training.rows import TokenRows
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Baseline, Controls, Corpus, Evaluation, Repeat, Signals, Teacher, Training


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
    if corpus.labels and not (SplitSignals(signals, "train").labels >= 0).any():
        return _without("the training rows have no gold labels, and nothing can be learned without a teacher")
    learn = _Learner(student_options, teacher, corpus, signals, tokens, folder)
    evaluation, trained = learn.alone(options, "no_teacher", "control: the student without a teacher")
    repeats = []
    for seed in range(options.seed + 1, options.seed + options.seeds):
        other = options.model_copy(update={"seed": seed})
        student, _ = learn.from_teacher(other, f"student_seed_{seed}", f"the student with seed {seed}")
        twin, _ = learn.alone(other, f"no_teacher_seed_{seed}", f"control with seed {seed}")
        repeats.append(Repeat(seed=seed, student=student, no_teacher=twin))
    return Controls(
        baselines=(*baselines(corpus, signals, folder), *(() if corpus.labels else (learn.untrained(options),))),
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
        objective = TeacherSignals(options.losses, split, validation, self.signals)
        return self._learned(self.teacher.checkpoint, split.rows, objective, options, name, what)

    def alone(self, options: DistillOptions, name: str, what: str) -> tuple[Evaluation, Training]:
        """Train the student's twin without a teacher, from what the teacher was before it knew the task.

        It learns from gold labels; where the task has none, from the texts alone. Its learning rate may be its own.
        """
        options = options.model_copy(update={"learning_rate": options.control_learning_rate or options.learning_rate})
        split, validation = self.split("train"), self.split("validation")
        start, objective = self.teacher.base or self.teacher.checkpoint, DropoutPairs(validation.rows, options.seed)
        if not self.corpus.labels:
            return self._learned(start, split.rows, objective, options, name, what)
        known = np.flatnonzero(split.labels >= 0)
        labels = np.asarray(split.labels)[known]
        gold = GoldLabels(labels, validation.rows, validation.labels, self.signals.task)
        return self._learned(start, split.rows.take(known), gold, options, name, what)

    def untrained(self, options: DistillOptions) -> Baseline:
        """Measure the student as it is before any training: what the teacher's own weights are worth, cut to size."""
        start = start_of(self.tokens, self.teacher.path(self.teacher.checkpoint), self.folder / "progress")
        evaluation = measured(
            self._made(start, options), self.corpus, self.signals, self.tokens, self.folder, "untrained"
        )
        description = f"{describe(self.options)}; not trained at all"
        return Baseline(name="untrained", description=description, evaluation=evaluation)

    def described(self) -> str:
        """Say in words what the twin starts from."""
        what = describe(self.options)
        if self.tokens.start is not None:
            return what
        earlier = self.teacher.base is not None
        whom = "the checkpoint before it was fitted" if earlier else "the teacher itself (no earlier one is known)"
        return f"{what}; teacher here means {whom}"

    def _made(self, start: Path, options: DistillOptions) -> Any:
        head, kept = head_of(self.corpus, self.signals), self.folder / "progress" / f"from_{start.name}"
        return make_student(self.options, start, head, options.seed, kept)

    def _learned(
        self, teacher: PurePosixPath, rows: TokenRows, objective: Objective, options: DistillOptions, name: str,
        what: str,
    ) -> tuple[Evaluation, Training]:  # fmt: skip
        progress = self.folder / "progress"
        start = start_of(self.tokens, self.teacher.path(teacher), progress)
        model = self._made(start, options)
        trained = train(model, rows, objective, options, progress / name, what)
        return measured(model, self.corpus, self.signals, self.tokens, self.folder, name), trained
