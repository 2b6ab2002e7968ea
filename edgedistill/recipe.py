"""Recipe: one build, whole. Everything that decides its result is in here or in the recorded versions."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from edgedistill.agreement import problems_between
from edgedistill.recipe_sections import BenchmarkOptions, BudgetOptions, DataOptions, DistillOptions
from edgedistill.registry import Choice, load, names
from edgedistill.section import FormatOptions, MethodOptions, Section, StudentOptions, TaskOptions, TeacherOptions

STUDENTS = "edgedistill.models.students"
_LOSSES: dict[str, list[dict[str, Any]]] = {
    "multi_label_classification": [
        {"loss": "binary_kl", "weight": 0.9, "temperature": 2.0},
        {"loss": "binary_cross_entropy", "weight": 0.1},
    ],
    "sentence_embedding": [{"loss": "cosine"}],
    "text_generation": [{"loss": "forward_kl", "temperature": 1.0}],
}
"""What a student of each task minimises unless the recipe says it, where that is not what a distill section says."""
_SHIPPED: dict[str, dict[str, Any]] = {
    "text_generation": {"quantize": [{"method": "q4_k_m"}], "export": [{"format": "gguf"}]},
}
"""How a model of each task is stored and laid out unless the recipe says it, where that is not what a recipe says."""
CALLS_FOR_P90 = 64  # below that an order statistic cannot carry it at 99 % confidence

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+([-+.][0-9A-Za-z.-]+)?$")]
Methods = tuple[Annotated[MethodOptions, Choice("edgedistill.quantize.methods", key="method")], ...]
Formats = tuple[Annotated[FormatOptions, Choice("edgedistill.export.formats", key="format")], ...]

DECIDES_THE_FILES = (
    "name",
    "version",
    "licence",
    "task",
    "teacher",
    "data",
    "student",
    "distill",
    "quantize",
    "export",
)
"""Sections that decide the artifacts' bytes; benchmark and budget change nothing."""


def with_defaults(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's plain values with those defaults that depend on other values.

    A table of token vectors wants larger steps and batches than a transformer; texts without labels have no gold to
    learn from; where several labels may hold, each is learned for itself; fewer rounds need more calls each to carry a
    p90. What the recipe says itself is never changed, and what makes no sense is left for validation to tell.
    """
    defaults = {"distill": _distill_defaults(plain), "benchmark": _benchmark_defaults(plain)}
    task = plain.get("task")
    filled = dict(_SHIPPED.get(str(task.get("kind")), {}) if isinstance(task, Mapping) else {}) | dict(plain)
    for name, more in defaults.items():
        said = plain.get(name, {})
        if isinstance(said, Mapping):
            filled[name] = {**more, **said}
    return filled


def _benchmark_defaults(plain: Mapping[str, Any]) -> dict[str, Any]:
    said = plain.get("benchmark")
    rounds = said.get("rounds") if isinstance(said, Mapping) else None
    return {"calls": max(5, -(-CALLS_FOR_P90 // rounds))} if isinstance(rounds, int) and rounds > 0 else {}


def _distill_defaults(plain: Mapping[str, Any]) -> dict[str, Any]:
    student, data = plain.get("student"), plain.get("data")
    kind = student.get("kind") if isinstance(student, Mapping) else None
    known = isinstance(kind, str) and kind in names(STUDENTS)
    defaults = dict(load(STUDENTS, str(kind)).Options.TRAINING) if known else {}
    task = plain.get("task")
    for_task = _LOSSES.get(str(task.get("kind"))) if isinstance(task, Mapping) else None
    without_gold = isinstance(data, Mapping) and _unlabelled(data.get("train"))
    if without_gold:
        first = for_task[0] if for_task else {"loss": "forward_kl"}
        defaults["losses"] = [{key: value for key, value in first.items() if key != "weight"}]
    elif for_task:
        defaults["losses"] = for_task
    return defaults


def _unlabelled(source: object) -> bool:
    return isinstance(source, Mapping) and (source.get("source") == "text" or source.get("label", "") is None)


class Recipe(Section):
    """One build from teacher to report."""

    name: Name = Field(
        examples=["reviews"], description="Names the run folder and the artifact: lower-case letters, digits, hyphens."
    )
    version: Version = Field("0.1.0", examples=["1.2.3"], description="Of the model that this recipe makes.")
    licence: str = Field(examples=["Apache-2.0"], description="SPDX id of the licence that the artifact ships under.")
    task: Annotated[TaskOptions, Choice("edgedistill.tasks", key="kind")] = Field(
        description="What teacher and student are for."
    )
    teacher: Annotated[TeacherOptions, Choice("edgedistill.teachers", key="kind")] = Field(
        description="The large model to learn from."
    )
    data: DataOptions = Field(description="The texts. Splits without a file of their own are cut from `train` by hash.")
    student: Annotated[StudentOptions, Choice("edgedistill.models.students", key="kind")] = Field(
        description="The shape of the small model."
    )
    distill: DistillOptions = Field(DistillOptions(), description="How the student is trained.")
    quantize: Methods = Field(
        default_factory=lambda: [{"method": "dynamic_int8"}],
        validate_default=True,
        description="How weights become small; each method makes a further model beside the float32 one.",
    )
    export: Formats = Field(
        default_factory=lambda: [{"format": "onnx"}],
        validate_default=True,
        description="The layouts of the files that are shipped.",
    )
    benchmark: BenchmarkOptions = Field(BenchmarkOptions(), description="How the models are measured, side by side.")
    budget: BudgetOptions = Field(
        BudgetOptions(),
        description="What the release promises, of every quantized artifact; a build that misses it fails.",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, plain: Any) -> Any:
        return with_defaults(plain) if isinstance(plain, Mapping) else plain

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        found = problems_between({name: getattr(self, name) for name in type(self).model_fields})
        if found:
            raise ValueError("; ".join(f"{key}: {text}" for key, text in found))
        return self
