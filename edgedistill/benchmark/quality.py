"""What each step from teacher to artifact cost, from what models said of each item: nothing here runs a model.

Every comparison is of two models on the very same rows. Rows without a gold label count for agreement, which needs
none, and not for the metric.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgedistill.errors import DataError, StageError
from edgedistill.results import Comparison, SeedResult, SplitQuality, Step
from edgedistill.statistics import accuracy, difference, mean_difference, retained
from edgedistill.tasks._task import Task
from edgedistill.values import Artifact, Controls, Evaluation, StageValue

Outputs = Mapping[str, np.ndarray]  # split -> (rows, width) float32


def read_outputs(value: StageValue, evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Return what a model said of each split that `value` was evaluated on."""
    return {split: np.load(value.path(file)) for split, file in evaluation.outputs.items()}


@dataclass(frozen=True)
class Yardstick:
    """What every model is held against: the gold labels, the teacher, and the float student before export."""

    task: Task
    gold: Mapping[str, np.ndarray]  # split -> (rows,) int; -1 where there is none
    teacher: Outputs
    student: Outputs
    turned: bool = False  # whether the student's vectors lie in other directions than the teacher's

    def __post_init__(self) -> None:
        for split, gold in self.gold.items():
            if not (gold >= 0).any():
                raise DataError(f"no row of {split} has a label; quality cannot be measured on it")

    def right(self, outputs: Outputs) -> dict[str, np.ndarray]:
        """Return which rows with gold of each split a model gets right, (rows with gold,) bool.

        Raises:
            StageError: the model has not answered exactly the rows of a split.
        """
        found = {}
        for split, gold in self.gold.items():
            if len(outputs[split]) != len(gold):
                raise StageError(f"{split} has {len(gold)} rows, and a model answered {len(outputs[split])} of them")
            found[split] = self.task.right(outputs[split], gold)
        return found

    def quality(self, outputs: Outputs, *, beside_student: bool = True) -> dict[str, SplitQuality]:
        """Return a model's quality on each split.

        Args:
            outputs: of each split, (rows, width).
            beside_student: also compare with the float student; off for the student itself.
        """
        right, teacher_right = self.right(outputs), self.right(self.teacher)
        found = {}
        for split, gold in self.gold.items():
            said = outputs[split]
            as_teacher = self.task.agree(self.teacher[split], said, gold)
            as_student = self.task.agree(self.student[split], said, gold) if beside_student else None
            found[split] = SplitQuality(
                metric=accuracy(right[split]),
                retained=retained(right[split], teacher_right[split]),
                teacher_agreement=accuracy(as_teacher),
                teacher_flips=int((~as_teacher).sum()),
                teacher_divergence=self._divergence(self.teacher[split], said, split),
                student_agreement=None if as_student is None else accuracy(as_student),
                student_flips=None if as_student is None else int((~as_student).sum()),
                student_divergence=self._divergence(self.student[split], said, split) if beside_student else None,
            )
        return found

    def _divergence(self, reference: np.ndarray, said: np.ndarray, split: str) -> float | None:
        """Return how far two models are apart; None where only one of them is the teacher and vectors are turned."""
        teacher = self.teacher[split]
        if self.turned and (reference is teacher) != (said is teacher):
            return None
        return self.task.divergence(reference, said)

    def step(
        self,
        before: tuple[str, Outputs],
        after: tuple[str, Outputs],
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
            differences={split: difference(to_right[split], from_right[split]) for split in self.gold},
            mean=mean_difference([(to_right[split], from_right[split]) for split in self.gold]),
        )

    def comparison(self, control: str, title: str, outputs: Outputs) -> Comparison:
        """Return how much better the student is than a control."""
        student_right, control_right = self.right(self.student), self.right(outputs)
        return Comparison(
            control=control,
            title=title,
            quality={split: accuracy(control_right[split]) for split in self.gold},
            differences={split: difference(student_right[split], control_right[split]) for split in self.gold},
            mean=mean_difference([(student_right[split], control_right[split]) for split in self.gold]),
        )

    def seed(self, seed: int, student: Outputs, control: Outputs) -> SeedResult:
        """Return what a student and its control with one seed do."""
        student_right, control_right = self.right(student), self.right(control)
        pairs = {split: (student_right[split], control_right[split]) for split in self.gold}
        return SeedResult(
            seed=seed,
            quality={split: accuracy(right) for split, right in student_right.items()},
            differences={split: difference(*pair) for split, pair in pairs.items()},
            mean=mean_difference(list(pairs.values())),
        )


def waterfall(
    yardstick: Yardstick, artifacts: Mapping[str, Artifact], answers: Mapping[str, Outputs]
) -> Iterator[Step]:
    """Yield every step from the teacher to each file that ships, in order.

    Args:
        yardstick: with the teacher and the student.
        artifacts: by format; each has a float32 variant.
        answers: of each artifact's variant, by the subject's name.
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
        said = read_outputs(controls, controls.no_teacher)
        yield yardstick.comparison("no_teacher", "the same student, trained without the teacher", said)
    for baseline in controls.baselines:
        yield yardstick.comparison(baseline.name, baseline.description, read_outputs(controls, baseline.evaluation))


def seeds(yardstick: Yardstick, controls: Controls, first: int) -> Iterator[SeedResult]:
    """Yield what each seed gave, the shipped student's first; nothing where only one was trained.

    Args:
        yardstick: with the shipped student.
        controls: with the trainings of the further seeds.
        first: the shipped student's seed.
    """
    if controls.no_teacher is None or not controls.repeats:
        return
    yield yardstick.seed(first, yardstick.student, read_outputs(controls, controls.no_teacher))
    for repeat in controls.repeats:
        yield yardstick.seed(
            repeat.seed, read_outputs(controls, repeat.student), read_outputs(controls, repeat.no_teacher)
        )
