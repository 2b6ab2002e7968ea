"""What one language model loses against another at the same positions, in nats a token; paired, rows drawn whole."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgedistill.decoder_values import (
    DecoderArtifact,
    DecoderControls,
    DecoderEvaluation,
    DecoderQuality,
    DecoderSignals,
    DecoderStudent,
)
from edgedistill.results import Comparison, SeedResult, Step
from edgedistill.statistics import difference, mean_difference
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.decoder_quality import exact, loss_difference, summary
from edgedistill.training.language import rows_of
from edgedistill.values import Metric, StageValue

Positions = Mapping[str, np.ndarray]  # split -> (positions,) of POSITION
Changes = Callable[[Positions, Positions], dict[str, Any]]  # from after and before to differences by split, and mean


@dataclass(frozen=True)
class Measured:
    """What every model of a build says of the held-out positions."""

    signals: DecoderSignals
    float_student: DecoderStudent
    controls: DecoderControls
    said: Mapping[str, Positions]  # of each measured subject, through its own runtime

    @property
    def splits(self) -> tuple[str, ...]:
        """The held-out splits."""
        return tuple(self.signals.reference)

    @cached_property
    def rows(self) -> dict[str, CountedRows]:
        """Rows of each split."""
        return {split: rows_of(self.signals, split).counted for split in self.splits}

    @cached_property
    def starts(self) -> dict[str, np.ndarray]:
        """Where the positions of each row begin, by split."""
        return {split: rows.starts for split, rows in self.rows.items()}

    @cached_property
    def teacher(self) -> Positions:
        """The teacher's own."""
        return read(self.signals, self.signals.evaluation)

    @cached_property
    def student(self) -> Positions:
        """The float student's, in PyTorch."""
        return read(self.float_student, self.float_student.evaluation)

    def quality(self, name: str, split: str) -> DecoderQuality:
        """Return what one subject is worth on one split."""
        teacher = None if name == "teacher" else self.teacher[split]
        student = None if name.startswith("teacher") else self.student[split]
        return summary(
            self.said[name][split], self.starts[split], tokens=self.rows[split].tokens, teacher=teacher,
            student=student, whole=self.signals.conversations,
        )  # fmt: skip

    def differences(self, after: Positions, before: Positions) -> dict[str, Any]:
        """Return what is lost from one model to the next, in nats a token; above zero is worse.

        Returns:
            differences: by split; mean: over the positions of all splits.
        """
        ends = np.cumsum([0, *(self.rows[split].positions for split in self.splits)])
        starts = [self.starts[split][:-1] + end for split, end in zip(self.splits, ends[:-1], strict=True)]
        together = [np.concatenate([said[split] for split in self.splits]) for said in (after, before)]
        return {
            "differences": {
                split: loss_difference(after[split], before[split], self.starts[split]) for split in self.splits
            },
            "mean": loss_difference(together[0], together[1], np.concatenate([*starts, ends[-1:]])),
        }

    def _exact(self, said: Positions, split: str) -> np.ndarray:
        return exact(said[split], self.starts[split], self.rows[split].tokens)

    def exact_differences(self, after: Positions, before: Positions) -> dict[str, Any]:
        """Return how many more answers are exact from one model to the next, of one; below zero is worse.

        Returns:
            differences: by split; mean: of the splits' differences.
        """
        pairs = {split: (self._exact(after, split), self._exact(before, split)) for split in self.splits}
        return {
            "differences": {split: difference(*pair) for split, pair in pairs.items()},
            "mean": mean_difference([*pairs.values()]),
        }


def read(value: StageValue, evaluation: DecoderEvaluation) -> Positions:
    """Return what a stage's model said of each split."""
    return {split: np.load(value.path(file)) for split, file in evaluation.positions.items()}


def _perplexities(evaluation: DecoderEvaluation) -> dict[str, Metric]:
    return {split: found.perplexity for split, found in evaluation.quality.items()}


def waterfall(told: Measured, artifacts: Mapping[str, DecoderArtifact], changes: Changes) -> Iterator[Step]:
    """Yield what each stage changed: distillation, then for each format its layout, then each method's rounding."""
    yield Step(
        before="teacher", after="student", stage="distill", artifact=None,
        **changes(told.student, told.teacher),
    )  # fmt: skip
    for name in artifacts:
        whole = f"{name}.float32"
        yield Step(
            before="student", after=whole, stage="export", artifact=name,
            **changes(told.said[whole], told.student),
        )  # fmt: skip
        for file in artifacts[name].files:
            made = f"{name}.{file.name}"
            if made != whole:
                yield Step(
                    before=whole, after=made, stage="quantize", artifact=name,
                    **changes(told.said[made], told.said[whole]),
                )  # fmt: skip


def comparisons(told: Measured, changes: Changes, own: Callable[[DecoderQuality], Metric]) -> Iterator[Comparison]:
    """Yield the float student against each control.

    Args:
        told: the models.
        changes: the difference that is asked for.
        own: a control's own metric.
    """
    controls = told.controls
    titles = {
        "no_teacher": "the same student trained on the texts alone",
        "untrained": "the same student before any training",
    }
    for name, title in titles.items():
        evaluation: DecoderEvaluation | None = getattr(controls, name)
        if evaluation is not None:
            yield Comparison(
                control=name, title=title, quality={split: own(one) for split, one in evaluation.quality.items()},
                **changes(told.student, read(controls, evaluation)),
            )  # fmt: skip


def seeds(told: Measured) -> Iterator[SeedResult]:
    """Yield every seed, the shipped student's first; nothing where only one ran."""
    controls = told.controls
    if not controls.repeats or controls.no_teacher is None:
        return
    pairs = [(told.student, read(controls, controls.no_teacher), told.float_student.evaluation)]
    pairs += [(read(controls, one.student), read(controls, one.no_teacher), one.student) for one in controls.repeats]
    first = told.float_student.training.seed
    numbers = [first, *(one.seed for one in controls.repeats)]
    for seed, (student, alone, evaluation) in zip(numbers, pairs, strict=True):
        yield SeedResult(seed=seed, quality=_perplexities(evaluation), **told.differences(student, alone))
