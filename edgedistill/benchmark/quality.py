"""What each step from teacher to artifact cost, from per-item logits: nothing here runs a model.

Every comparison is of two models on the very same rows. Rows without a gold label count for agreement, which needs
none, and not for the metric.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgedistill.errors import DataError, StageError
from edgedistill.results import Comparison, SeedResult, SplitQuality, Step
from edgedistill.statistics import accuracy, difference, mean_difference, retained
from edgedistill.values import Artifact, Controls, Evaluation, StageValue

Logits = Mapping[str, np.ndarray]  # split -> (rows, classes) float32


def read_logits(value: StageValue, evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Return the logits of each split that `value` was evaluated on."""
    return {split: np.load(value.path(file)) for split, file in evaluation.logits.items()}


@dataclass(frozen=True)
class Yardstick:
    """What every model is held against: the gold labels, the teacher, and the float student before export."""

    labels: Mapping[str, np.ndarray]  # split -> (rows,) int; -1 where there is none
    teacher: Logits
    student: Logits
    correct: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of logits and labels, the task's

    def __post_init__(self) -> None:
        for split, labels in self.labels.items():
            if not (labels >= 0).any():
                raise DataError(f"no row of {split} has a label; quality cannot be measured on it")

    def right(self, logits: Logits) -> dict[str, np.ndarray]:
        """Return which labelled rows of each split a model gets right, (labelled rows,) bool.

        Raises:
            StageError: the model has not answered exactly the rows of a split.
        """
        found = {}
        for split, labels in self.labels.items():
            if len(logits[split]) != len(labels):
                raise StageError(f"{split} has {len(labels)} rows, and a model answered {len(logits[split])} of them")
            labelled = labels >= 0
            found[split] = self.correct(logits[split][labelled], labels[labelled])
        return found

    def quality(self, logits: Logits, *, beside_student: bool = True) -> dict[str, SplitQuality]:
        """Return a model's quality on each split.

        Args:
            logits: of each split, (rows, classes).
            beside_student: also compare with the float student; off for the student itself.
        """
        right, teacher_right = self.right(logits), self.right(self.teacher)
        found = {}
        for split in self.labels:
            top = logits[split].argmax(axis=1)
            as_teacher = top == self.teacher[split].argmax(axis=1)
            as_student = top == self.student[split].argmax(axis=1) if beside_student else None
            found[split] = SplitQuality(
                metric=accuracy(right[split]),
                retained=retained(right[split], teacher_right[split]),
                teacher_agreement=accuracy(as_teacher),
                teacher_flips=int((~as_teacher).sum()),
                student_agreement=None if as_student is None else accuracy(as_student),
                student_flips=None if as_student is None else int((~as_student).sum()),
            )
        return found

    def step(
        self,
        before: tuple[str, Logits],
        after: tuple[str, Logits],
        stage: Literal["distill", "export", "quantize"],
        artifact: str | None = None,
    ) -> Step:
        """Return what going from one named model to the next did; negative where it cost something."""
        from_right, to_right = self.right(before[1]), self.right(after[1])
        return Step(
            before=before[0],
            after=after[0],
            stage=stage,
            artifact=artifact,
            differences={split: difference(to_right[split], from_right[split]) for split in self.labels},
            mean=mean_difference([(to_right[split], from_right[split]) for split in self.labels]),
        )

    def comparison(self, control: str, title: str, logits: Logits) -> Comparison:
        """Return how much better the student is than a control."""
        student_right, control_right = self.right(self.student), self.right(logits)
        return Comparison(
            control=control,
            title=title,
            quality={split: accuracy(control_right[split]) for split in self.labels},
            differences={split: difference(student_right[split], control_right[split]) for split in self.labels},
            mean=mean_difference([(student_right[split], control_right[split]) for split in self.labels]),
        )

    def seed(self, seed: int, student: Logits, control: Logits) -> SeedResult:
        """Return what a student and its control with one seed do."""
        student_right, control_right = self.right(student), self.right(control)
        pairs = {split: (student_right[split], control_right[split]) for split in self.labels}
        return SeedResult(
            seed=seed,
            quality={split: accuracy(right) for split, right in student_right.items()},
            differences={split: difference(*pair) for split, pair in pairs.items()},
            mean=mean_difference(list(pairs.values())),
        )


def waterfall(yardstick: Yardstick, artifacts: Mapping[str, Artifact], answers: Mapping[str, Logits]) -> Iterator[Step]:
    """Yield every step from the teacher to each file that ships, in order.

    Args:
        yardstick: with the teacher and the student.
        artifacts: by format; each has a float32 variant.
        answers: logits of each artifact's variant, by the subject's name.
    """
    student = ("student", yardstick.student)
    yield yardstick.step(("teacher", yardstick.teacher), student, "distill")
    for artifact in artifacts.values():
        float_name = f"{artifact.format}.float32"
        exported = (float_name, answers[float_name])
        yield yardstick.step(student, exported, "export", artifact.format)
        for variant in artifact.variants:
            name = f"{artifact.format}.{variant.name}"
            if name != float_name:
                yield yardstick.step(exported, (name, answers[name]), "quantize", artifact.format)


def comparisons(yardstick: Yardstick, controls: Controls) -> Iterator[Comparison]:
    """Yield the student against every control that ran."""
    if controls.no_teacher is not None:
        logits = read_logits(controls, controls.no_teacher)
        yield yardstick.comparison("no_teacher", "the same student, trained without the teacher", logits)
    for baseline in controls.baselines:
        yield yardstick.comparison(baseline.name, baseline.description, read_logits(controls, baseline.evaluation))


def seeds(yardstick: Yardstick, controls: Controls, first: int) -> Iterator[SeedResult]:
    """Yield what each seed gave, the shipped student's first; nothing where only one was trained.

    Args:
        yardstick: with the shipped student.
        controls: with the trainings of the further seeds.
        first: the shipped student's seed.
    """
    if controls.no_teacher is None or not controls.repeats:
        return
    yield yardstick.seed(first, yardstick.student, read_logits(controls, controls.no_teacher))
    for repeat in controls.repeats:
        yield yardstick.seed(
            repeat.seed, read_logits(controls, repeat.student), read_logits(controls, repeat.no_teacher)
        )
