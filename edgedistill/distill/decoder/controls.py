"""Controls of a decoder: the same student on the texts alone, and as it is before any training, on the same positions.

Where the teacher answered prompts, its answers are not among those texts: what they are worth came from the teacher.
The twin then reads the texts more often, so that it is not worse for having been trained for fewer steps.

With one seed nobody can tell a gain from luck, so student and twin may be trained again with others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgedistill import registry
from edgedistill.decoder_values import (
    DecoderControls,
    DecoderEvaluation,
    DecoderRepeat,
    DecoderSignals,
    DecoderStart,
    DecoderTokens,
    gold_rows,
)
from edgedistill.distill.decoder.stage import answering, make_student
from edgedistill.distill.decoder.start import beginning
from edgedistill.errors import DataError
from edgedistill.models.decoder import load_decoder
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import LossOptions, StudentOptions, TaskOptions
from edgedistill.training.decoder_rows import DecoderRows
from edgedistill.training.folding import Folding
from edgedistill.training.following import Following, known_of
from edgedistill.training.language import before, evaluated, folding_of, rows_of
from edgedistill.training.loop import train
from edgedistill.values import Corpus, Teacher, Training

LOSSES = "edgedistill.distill.losses"


def control(
    options: DistillOptions,
    student_options: StudentOptions,
    *,
    task: TaskOptions,
    teacher: Teacher,
    corpus: Corpus,
    tokens: DecoderTokens | None,
    signals: DecoderSignals,
    start: DecoderStart | None,
    folder: Path,
) -> DecoderControls:
    """Train and measure the controls, or say that the recipe wants none."""
    if not options.controls:
        skipped = "switched off in the recipe (distill.controls: false)"
        return DecoderControls(no_teacher=None, no_teacher_training=None, untrained=None, repeats=(), skipped=skipped)
    learn = _Learner(student_options, teacher, corpus, tokens, signals, start, folder)
    evaluation, trained = learn.alone(options, "no_teacher", "control: the student without a teacher")
    repeats = []
    for seed in range(options.seed + 1, options.seed + options.seeds):
        other = options.model_copy(update={"seed": seed})
        student, _ = learn.from_teacher(other, f"student_seed_{seed}", f"the student with seed {seed}")
        twin, _ = learn.alone(other, f"no_teacher_seed_{seed}", f"control with seed {seed}")
        repeats.append(DecoderRepeat(seed=seed, student=student, no_teacher=twin))
    return DecoderControls(
        no_teacher=evaluation, no_teacher_training=trained, untrained=learn.untrained(options),
        unfitted=learn.unfitted(), repeats=tuple(repeats), skipped=None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Learner:
    """Trains and measures one student after another; every name has its own place below `progress/`."""

    options: StudentOptions
    teacher: Teacher
    corpus: Corpus
    tokens: DecoderTokens | None
    signals: DecoderSignals
    start: DecoderStart | None
    folder: Path

    def from_teacher(self, options: DistillOptions, name: str, what: str) -> tuple[DecoderEvaluation, Training]:
        """Train a student as the one that ships was trained."""
        return self._learned(options, self.teacher.checkpoint, options.losses, name, what, taught=True)

    def alone(self, options: DistillOptions, name: str, what: str) -> tuple[DecoderEvaluation, Training]:
        """Train the student's twin on gold texts alone, from what the teacher was before it was fitted.

        Where the student has a checkpoint of its own, the twin starts from that one too.
        """
        options = options.model_copy(update={"learning_rate": options.control_learning_rate or options.learning_rate})
        gold = registry.load(LOSSES, "cross_entropy").Options(loss="cross_entropy")
        made_from = self.teacher.base or self.teacher.checkpoint
        return self._learned(options, made_from, (gold,), name, what, taught=False)

    def untrained(self, options: DistillOptions) -> DecoderEvaluation:
        """Measure the student as it is before any training."""
        model = self._made(options, self.teacher.checkpoint, self.folder / "progress" / "untrained")
        return self._measured(model, "untrained")

    def unfitted(self) -> DecoderEvaluation | None:
        """Measure the teacher as it was before its fit."""
        base = self.teacher.base
        if base is None:
            return None
        whole, folding = load_decoder(self.teacher.path(base)), folding_of(self.signals)
        return self._measured(whole, "unfitted", folding)

    def _made(self, options: DistillOptions, made_from: PurePosixPath, progress: Path) -> Any:
        checkpoint, measured = beginning(self.start, self.teacher, made_from, progress, self.tokens)
        return make_student(self.options, checkpoint, options.seed, measured)

    def _measured(self, model: Any, name: str, folding: Folding | None = None) -> DecoderEvaluation:
        held_out = {split: rows_of(self.signals, split) for split in self.corpus.evaluation_splits}
        vocabulary = self.signals.vocabulary
        answer = answering(model) if folding is None else folding.answer(answering(model))
        return evaluated(answer, held_out, self.folder, name, vocabulary, teacher=before(self.signals))

    def _gold(self, rows: DecoderRows) -> DecoderRows:
        """Return the rows of train that no teacher said.

        Raises:
            DataError: there is none.
        """
        alone = rows.of_first_texts(gold_rows(self.corpus))
        if not len(alone.tokens):
            raise DataError(
                "the rows of train that task.train_tokens leaves are all answers of the teacher, so there is nothing "
                "to train the control on; raise task.train_tokens, or write distill.controls: false"
            )
        return alone

    def _learned(
        self, options: DistillOptions, made_from: PurePosixPath, losses: Sequence[LossOptions], name: str, what: str, *,
        taught: bool,
    ) -> tuple[DecoderEvaluation, Training]:  # fmt: skip
        progress = self.folder / "progress" / name
        rows, validation = rows_of(self.signals, "train"), rows_of(self.signals, "validation")
        known = known_of(self.signals) if taught else None
        if not taught:
            all_rows, rows = len(rows.tokens), self._gold(rows)
            options = _as_long(options, all_rows, len(rows.tokens))
        objective = Following(losses, rows, validation, known, self.signals.vocabulary)
        model = self._made(options, made_from, progress)
        trained = train(model, rows.tokens, objective, options, progress, what)
        return self._measured(model, name), trained


def _as_long(options: DistillOptions, rows: int, fewer: int) -> DistillOptions:
    """Return options under which fewer rows are learned from in no fewer steps, and given up no sooner."""

    def more(epochs: int) -> int:
        return math.ceil(epochs * rows / fewer)

    patience = None if options.patience is None else more(options.patience)
    return options.model_copy(update={"epochs": more(options.epochs), "patience": patience})
