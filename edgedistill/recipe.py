"""Recipe: one build, whole. Everything that decides its result is in here or in the recorded versions."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from edgedistill.agreement import problems_between
from edgedistill.recipe_sections import BenchmarkOptions, BudgetOptions, DataOptions, DistillOptions
from edgedistill.registry import Choice, load, names
from edgedistill.section import FormatOptions, MethodOptions, Section, StudentOptions, TaskOptions, TeacherOptions

STUDENTS = "edgedistill.models.students"

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
    """Return a recipe's plain values with those defaults of `distill` that depend on other sections.

    A table of token vectors wants larger steps and batches than a transformer; texts without labels have no gold to
    learn from. What the recipe says itself is never changed, and what makes no sense is left for validation to tell.
    """
    said = plain.get("distill", {})
    if not isinstance(said, Mapping):
        return dict(plain)
    student, data = plain.get("student"), plain.get("data")
    kind = student.get("kind") if isinstance(student, Mapping) else None
    known = isinstance(kind, str) and kind in names(STUDENTS)
    defaults = dict(load(STUDENTS, str(kind)).Options.TRAINING) if known else {}
    if isinstance(data, Mapping) and _unlabelled(data.get("train")):
        defaults["losses"] = [{"loss": "forward_kl"}]
    return {**plain, "distill": {**defaults, **said}}


def _unlabelled(source: object) -> bool:
    return isinstance(source, Mapping) and (source.get("source") == "text" or source.get("label", "") is None)


class Recipe(Section):
    """One build from teacher to report."""

    name: Name = Field(description="Names the run folder and the artifact: lower-case letters, digits, hyphens.")
    version: Version = Field("0.1.0", description="Of the model that this recipe makes, as 1.2.3.")
    licence: str = Field(description="SPDX id of the licence that the artifact ships under.")
    task: Annotated[TaskOptions, Choice("edgedistill.tasks", key="kind")]
    teacher: Annotated[TeacherOptions, Choice("edgedistill.teachers", key="kind")]
    data: DataOptions
    student: Annotated[StudentOptions, Choice("edgedistill.models.students", key="kind")]
    distill: DistillOptions = DistillOptions()
    quantize: Methods = Field(default_factory=lambda: [{"method": "dynamic_int8"}], validate_default=True)
    export: Formats = Field(default_factory=lambda: [{"format": "onnx"}], validate_default=True)
    benchmark: BenchmarkOptions = BenchmarkOptions()
    budget: BudgetOptions = BudgetOptions()

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
