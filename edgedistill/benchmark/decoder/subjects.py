"""What is measured side by side of a language model: its teacher, the teacher in each format, every file to ship."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from edgedistill.benchmark.subjects import Candidate
from edgedistill.decoder_values import DecoderArtifact, DecoderFile
from edgedistill.files import size_of
from edgedistill.models.gguf_contents import contents
from edgedistill.values import Teacher


def candidates(
    teacher: Teacher, artifacts: Mapping[str, DecoderArtifact], folding: tuple[str, str] | None
) -> Iterator[Candidate]:
    """Yield the teacher as users run it, the teacher in each format, and every file to ship."""
    yield replace(_teacher(teacher), folding=folding)
    for artifact in artifacts.values():
        if artifact.teacher is not None and artifact.teacher_root is not None:
            apart = artifact.path(artifact.teacher_root)
            exported = _candidate(artifact, artifact.teacher, f"teacher.{artifact.format}", apart, 0)
            yield replace(exported, folding=folding)
        for file in artifact.files:
            name, place = f"{artifact.format}.{file.name}", artifact.path(artifact.root)
            yield _candidate(artifact, file, name, place, artifact.shared_bytes)


def _teacher(teacher: Teacher) -> Candidate:
    """Return the teacher as it taught: a checkpoint in PyTorch, or its own file in llama.cpp."""
    root = teacher.path(teacher.checkpoint)
    if teacher.gguf is None:
        return Candidate(
            name="teacher", title="teacher, PyTorch float32", role="teacher", runtime="pytorch_decoder", root=root,
            file="", scheme="float32", sha256=teacher.weights_sha256, model_bytes=teacher.weights_bytes,
            shipped_bytes=size_of(root),
        )  # fmt: skip
    file = teacher.path(teacher.gguf)
    scheme, size_bytes = contents(file).scheme, file.stat().st_size
    return Candidate(
        name="teacher", title=f"teacher, GGUF {scheme}", role="teacher", runtime="llama_cpp", root=file.parent,
        file=file.name, scheme=scheme, sha256=teacher.weights_sha256, model_bytes=size_bytes, shipped_bytes=size_bytes,
    )  # fmt: skip


def _candidate(artifact: DecoderArtifact, file: DecoderFile, name: str, root: Path, shared_bytes: int) -> Candidate:
    exported = name.startswith("teacher.")
    words = f"{artifact.format.removesuffix('_genai')} {file.name.removeprefix('onnx_')}"
    return Candidate(
        name=name, title=f"{'teacher' if exported else 'student'}, {words}",
        role="teacher_exported" if exported else "artifact", runtime=artifact.runtime, root=root, file=str(file.file),
        scheme=file.name, sha256=file.sha256, model_bytes=file.size_bytes,
        shipped_bytes=file.size_bytes + file.beside_bytes + shared_bytes,
    )  # fmt: skip
