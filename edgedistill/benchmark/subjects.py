"""What is measured side by side: the teacher as users run it, the teacher in each format, and every variant to ship."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedistill.files import sha256_of_place, sha256_of_tree, size_of
from edgedistill.values import Artifact, Teacher, Variant


@dataclass(frozen=True)
class Candidate:
    """A model file, and how to run it."""

    name: str
    title: str
    role: Literal["teacher", "teacher_exported", "artifact"]
    runtime: str
    root: Path
    file: str  # relative to root, a folder where the runtime loads one; empty where it loads the whole root
    scheme: str
    sha256: str  # as the stage that wrote the file gave it
    model_bytes: int
    shipped_bytes: int
    folding: tuple[str, str] | None = None  # of a language model that reads the others' tokens under ids of its own

    @property
    def exported_teacher(self) -> str:
        """The name of the teacher in this candidate's own format."""
        return f"teacher.{self.name.partition('.')[0]}" if self.role == "artifact" else ""

    @property
    def float_student(self) -> str:
        """The name of the float student in this candidate's own format; empty where it is that itself."""
        format_name, _, variant = self.name.partition(".")
        return f"{format_name}.float32" if self.role == "artifact" and variant != "float32" else ""

    def sha256_now(self) -> str:
        """Return the hash of the file that the runtime reads, in the way of the stage that wrote it."""
        if self.role == "teacher" and self.runtime != "llama_cpp":  # a checkpoint, and no GGUF file
            return sha256_of_tree(self.root, list(self.root.rglob("*.safetensors")))
        return sha256_of_place(self.root / self.file)


def candidates(teacher: Teacher, artifacts: Mapping[str, Artifact]) -> tuple[Candidate, ...]:
    """Return everything to measure, the teacher in PyTorch first."""
    return (_teacher(teacher), *(found for artifact in artifacts.values() for found in _of_artifact(artifact)))


def _teacher(teacher: Teacher) -> Candidate:
    root = teacher.path(teacher.checkpoint)
    return Candidate(
        name="teacher",
        title="teacher, PyTorch float32",
        role="teacher",
        runtime="pytorch",
        root=root,
        file="",
        scheme="float32",
        sha256=teacher.weights_sha256,
        model_bytes=teacher.weights_bytes,
        shipped_bytes=size_of(root),
    )


def _of_artifact(artifact: Artifact) -> Iterator[Candidate]:
    if artifact.teacher is not None and artifact.teacher_root is not None:
        root = artifact.path(artifact.teacher_root)
        name, title = f"teacher.{artifact.format}", f"teacher, {artifact.format} {artifact.teacher.name}"
        yield _variant(artifact, artifact.teacher, name, title, "teacher_exported", root, size_of(root))
    for variant in artifact.variants:
        name, title = f"{artifact.format}.{variant.name}", f"student, {artifact.format} {variant.name}"
        shipped_bytes = variant.size_bytes + artifact.shared_bytes
        yield _variant(artifact, variant, name, title, "artifact", artifact.path(artifact.root), shipped_bytes)


def _variant(
    artifact: Artifact,
    variant: Variant,
    name: str,
    title: str,
    role: Literal["teacher_exported", "artifact"],
    root: Path,
    shipped_bytes: int,
) -> Candidate:
    return Candidate(
        name=name,
        title=title,
        role=role,
        runtime=artifact.runtime,
        root=root,
        file=str(variant.file),
        scheme=variant.scheme,
        sha256=variant.sha256,
        model_bytes=variant.size_bytes,
        shipped_bytes=shipped_bytes,
    )
