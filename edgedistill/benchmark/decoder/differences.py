"""What one language model loses against another at the same positions, in nats a token; paired, rows drawn whole."""

from collections.abc import Iterator, Mapping
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
from edgedistill.training.counted_rows import CountedRows
from edgedistill.training.decoder_quality import loss_difference, summary
from edgedistill.training.language import rows_of
from edgedistill.values import Metric, StageValue

Positions = Mapping[str, np.ndarray]  # split -> (positions,) of POSITION


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
        """The teacher's own, in PyTorch."""
        return read(self.signals, self.signals.evaluation)

    @cached_property
    def student(self) -> Positions:
        """The float student's, in PyTorch."""
        return read(self.float_student, self.float_student.evaluation)

    def quality(self, name: str, split: str) -> DecoderQuality:
        """Return what one subject is worth on one split."""
        teacher = None if name == "teacher" else self.teacher[split]
        student = None if name.startswith("teacher") else self.student[split]
        tokens = self.rows[split].tokens
        return summary(self.said[name][split], self.starts[split], tokens=tokens, teacher=teacher, student=student)

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


def read(value: StageValue, evaluation: DecoderEvaluation) -> Positions:
    """Return what a stage's model said of each split."""
    return {split: np.load(value.path(file)) for split, file in evaluation.positions.items()}


def _perplexities(evaluation: DecoderEvaluation) -> dict[str, Metric]:
    return {split: found.perplexity for split, found in evaluation.quality.items()}


def waterfall(told: Measured, artifacts: Mapping[str, DecoderArtifact]) -> Iterator[Step]:
    """Yield what each stage lost: distillation, then for each format its layout, then each method's rounding."""
    yield Step(
        before="teacher", after="student", stage="distill", artifact=None,
        **told.differences(told.student, told.teacher),
    )  # fmt: skip
    for name in artifacts:
        whole = f"{name}.float32"
        yield Step(
            before="student", after=whole, stage="export", artifact=name,
            **told.differences(told.said[whole], told.student),
        )  # fmt: skip
        for file in artifacts[name].files:
            made = f"{name}.{file.name}"
            if made != whole:
                yield Step(
                    before=whole, after=made, stage="quantize", artifact=name,
                    **told.differences(told.said[made], told.said[whole]),
                )  # fmt: skip


def comparisons(told: Measured) -> Iterator[Comparison]:
    """Yield the float student against each control."""
    controls = told.controls
    titles = {
        "no_teacher": "the same student trained on the texts alone",
        "untrained": "the same student before any training",
    }
    for name, title in titles.items():
        evaluation: DecoderEvaluation | None = getattr(controls, name)
        if evaluation is not None:
            yield Comparison(
                control=name, title=title, quality=_perplexities(evaluation),
                **told.differences(told.student, read(controls, evaluation)),
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
