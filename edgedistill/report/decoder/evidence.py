"""The values that the report of a language model is made from, and where in them to look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import (
    DecoderArtifact,
    DecoderControls,
    DecoderFile,
    DecoderSignals,
    DecoderStart,
    DecoderStudent,
    DecoderTokens,
    QuantizedDecoder,
    TensorFacts,
)
from edgedistill.recipe import Recipe
from edgedistill.report.units import lost
from edgedistill.results import Comparison, Step
from edgedistill.values import Corpus, StageValue, Teacher

METRIC = "next-token accuracy"


@dataclass(frozen=True, kw_only=True)
class DecoderEvidence:
    """Everything the stages before have said about one build."""

    recipe: Recipe
    task: Any  # options of text_generation
    corpus: Corpus
    teacher: Teacher
    signals: DecoderSignals
    student: DecoderStudent
    controls: DecoderControls
    quantized: Mapping[str, QuantizedDecoder]
    artifacts: Mapping[str, DecoderArtifact]
    benchmark: DecoderBenchmark
    start: DecoderStart | None = None  # what the student started from beside its teacher
    tokens: DecoderTokens | None = None  # those that the student keeps; None: all of the teacher's

    @property
    def metric(self) -> str:
        """What models are judged by, in words."""
        return self.student.evaluation.quality["test"].metric

    def stage_values(self) -> dict[str, StageValue]:
        """Return every value by name; a method's or format's name follows a dot."""
        single = ("corpus", "teacher", "signals", "student", "controls")
        values: dict[str, StageValue] = {name: getattr(self, name) for name in single}
        values |= {} if self.start is None else {"start": self.start}
        values |= {} if self.tokens is None else {"tokens": self.tokens}
        values |= {f"quantized.{method}": model for method, model in self.quantized.items()}
        values |= {f"artifacts.{name}": artifact for name, artifact in self.artifacts.items()}
        return values | {"benchmark": self.benchmark}

    def variants(self) -> list[tuple[str, DecoderArtifact, DecoderFile]]:
        """Return every shipped model file as (subject name, artifact, file)."""
        return [
            (f"{name}.{file.name}", artifact, file)
            for name, artifact in self.artifacts.items()
            for file in artifact.files
        ]


def fallen_back(model: QuantizedDecoder) -> list[TensorFacts]:
    """Return the tensors that are not stored in the type that the scheme has for them."""
    return [tensor for tensor in model.tensors if tensor.type != tensor.wanted]


Difference = TypeVar("Difference", Step, Comparison)


def gains(differences: Sequence[Difference]) -> list[Difference]:
    """Return differences of a loss as gains in likelihood: above zero is better, as of every other metric."""
    return [
        each.model_copy(
            update={
                "differences": {split: lost(change) for split, change in each.differences.items()},
                "mean": lost(each.mean),
            }
        )
        for each in differences
    ]
