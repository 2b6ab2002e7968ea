"""A short training for each temperature and mixing weight, on the teacher's cached logits; the best one is used.

Every trial starts from the same student with the same seed and sees the same batches. What it is judged on is the
validation split: the task's metric first, then the share of texts on which student and teacher name the same class,
then KL(teacher || student) at temperature 1, in which trials of different temperatures can be compared as their own
losses cannot.

The best on validation is chosen even where its lead may be luck: the recipe's own values are one of the trials, and
nothing speaks for them but that somebody wrote them down. So the choice is no worse a guess, and the value says whether
it is more than one: each trial stands with its paired distance from the chosen one. That interval covers the choice of
validation texts, not of the seed; and the metric of the best of many is flattering, which is why quality is reported on
the test split alone, of which nothing here reads a row.

Short trainings rank long ones only roughly.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from edgedistill.distill.losses import forward_kl
from edgedistill.distill.mixture import Mixture, mixed, mixtures
from edgedistill.distill.objective import TeacherSignals
from edgedistill.distill.stage import head_of, make_student, start_of
from edgedistill.files import write_atomic
from edgedistill.progress import say
from edgedistill.recipe_sections import DistillOptions, SearchOptions
from edgedistill.section import StudentOptions
from edgedistill.statistics import accuracy, difference
from edgedistill.student_values import Search, Tokens, Trial
from edgedistill.training.loop import train
from edgedistill.training.predict import outputs_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, Signals, Teacher, Training

LUCK = "the best trial is not clearly better than the recipe's own values: other validation texts may choose another"


def search(
    asked: SearchOptions,
    options: DistillOptions,
    student_options: StudentOptions,
    *,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    tokens: Tokens,
    folder: Path,
) -> Search:
    """Return every trial and which of them is best; a killed search repeats no trial that had ended.

    Args:
        asked: what to try, and for how many epochs.
        options: of the training to come; its losses have a forward_kl, and its epochs and patience are not read.

    Raises:
        TrainingError: the loss of a trial stops being finite.
    """
    tried = mixtures(asked, options.losses)
    short = options.model_copy(update={"epochs": asked.epochs, "patience": None})
    learn = _Learner(short, student_options, teacher, corpus, signals, tokens, folder / "progress")
    trained = [learn.once(mixture, f"trial {i} of {len(tried)}", f"trial_{i}") for i, mixture in enumerate(tried, 1)]
    trials, best = judged(tried, trained, SplitSignals(signals, "validation"))
    say(f"  best on validation: temperature {tried[best].temperature:g}, soft weight {tried[best].soft_weight:g}")
    behind = trials[0].behind
    return Search(
        trials=trials,
        chosen=best,
        epochs=asked.epochs,
        seconds=sum(training.seconds for _, training in trained),
        warning=LUCK if behind is not None and behind.low <= 0 else None,
    )


@dataclass(frozen=True)
class _Learner:
    """Trains one student after another, each from the same start; every trial has its own place below `progress`."""

    options: DistillOptions
    student: StudentOptions
    teacher: Teacher
    corpus: Corpus
    signals: Signals
    tokens: Tokens
    progress: Path

    def once(self, mixture: Mixture, what: str, name: str) -> tuple[np.ndarray, Training]:
        """Return a trial's logits on validation, (rows, classes) float32, and how it came by them."""
        folder = self.progress / name
        logits_file, ended = folder / "validation.npy", folder / "training.json"
        if not ended.exists():
            logits, training = self._trained(mixture, what, folder / "steps")
            np.save(logits_file, logits)
            write_atomic(ended, training.model_dump_json())
        shutil.rmtree(folder / "steps", ignore_errors=True)  # weights and moments: many trials would take much room
        return np.load(logits_file), Training.model_validate_json(ended.read_text(encoding="utf-8"))

    def _trained(self, mixture: Mixture, what: str, steps: Path) -> tuple[np.ndarray, Training]:
        start = start_of(self.tokens, self.teacher.path(self.teacher.checkpoint), self.progress)
        device = Accelerator().device
        student = make_student(
            self.student, start, head_of(self.corpus, self.signals), self.options.seed, self.progress
        )
        split, validation = (SplitSignals(self.signals, name, self.tokens) for name in ("train", "validation"))
        objective = TeacherSignals(mixed(self.options.losses, mixture), split, validation, self.signals)
        said = f"{what}: temperature {mixture.temperature:g}, soft weight {mixture.soft_weight:g}"
        training = train(student, split.rows, objective, self.options, steps, said)
        return outputs_of(student.to(device), validation.rows, device), training


def judged(
    tried: tuple[Mixture, ...], trained: list[tuple[np.ndarray, Training]], validation: SplitSignals
) -> tuple[tuple[Trial, ...], int]:
    """Return the trials with their numbers on the validation split, and the place of the best; the first of equals.

    Args:
        trained: for each mixture, logits, (rows, classes) float32, and the training.
        validation: gold labels and the teacher's logits; rows without a label count for agreement and divergence only.
    """
    known, gold = validation.labels >= 0, torch.from_numpy(np.array(validation.labels))  # copies: on disk, read-only
    teacher_logits = torch.from_numpy(np.array(validation.outputs))
    right = [(logits.argmax(axis=1) == validation.labels)[known] for logits, _ in trained]
    same = [float((logits.argmax(axis=1) == validation.outputs.argmax(axis=1)).mean()) for logits, _ in trained]
    plain = forward_kl.Options(loss="forward_kl", temperature=1.0)
    apart = [float(forward_kl.loss(plain, torch.from_numpy(logits), teacher_logits, gold)) for logits, _ in trained]
    best = max(range(len(trained)), key=lambda i: (right[i].mean(), same[i], -apart[i]))
    trials = tuple(
        Trial(
            temperature=mixture.temperature,
            soft_weight=mixture.soft_weight,
            metric=accuracy(right[i]),
            agreement=same[i],
            divergence=apart[i],
            best_epoch=trained[i][1].best_epoch,
            behind=None if i == best else difference(right[best], right[i]),
        )
        for i, mixture in enumerate(tried)
    )
    return trials, best
