"""Export a decoder: lay every model out as a file that stock runtimes load, and prove that no number changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill import registry
from edgedistill.decoder_values import (
    DecoderArtifact,
    DecoderFile,
    DecoderParity,
    DecoderSignals,
    DecoderStart,
    DecoderStudent,
    GgmlModel,
)
from edgedistill.errors import StageError
from edgedistill.export.decoder_parity import Asked, prove
from edgedistill.export.gguf_file import differences, write_gguf
from edgedistill.export.gguf_metadata import About, file_name
from edgedistill.export.notice import write_notice
from edgedistill.files import clear, files_in, sha256_of
from edgedistill.models import ggml_tensors
from edgedistill.models.checkpoint_names import checkpoint_tensors
from edgedistill.models.decoder import load_decoder
from edgedistill.models.ggml_tensors import GgmlTensor
from edgedistill.progress import bar
from edgedistill.section import FormatOptions
from edgedistill.training.folding import in_whole_ids
from edgedistill.training.language import folding_of, rows_of
from edgedistill.values import Teacher

FORMATS = "edgedistill.export.formats"


def export(
    options: FormatOptions, *, name: str, version: str, licence: str, recipe_sha256: str, task: Any, teacher: Teacher,
    signals: DecoderSignals, start: DecoderStart | None, student: DecoderStudent,
    quantized: Mapping[str, GgmlModel], folder: Path,
) -> DecoderArtifact:  # fmt: skip
    """Return the artifact: the float student, each quantized model, and apart from them the teacher to compare with.

    Args:
        name: of the recipe, as `version`; both name the files.
        recipe_sha256: of the sections that decide the files; goes into each of them.
        task: its options.
        start: what the student started from beside its teacher.
        quantized: method -> model.

    Raises:
        StageError: a file does not hold what was decided, or does not compute it.
    """
    layout: Any = registry.load(FORMATS, options.format)
    title = f"{name}-{version}"
    root, apart = folder / title, folder / "teacher"
    for place in (root, apart):
        clear(place)
    write_notice(root, teacher, licence, start)
    facts = {
        "recipe_sha256": recipe_sha256,
        "teacher_sha256": teacher.weights_sha256,
        "teacher_source": teacher.source,
        "student_sha256": student.weights_sha256,
    }
    trained_on = {"trained_on": "conversations" if task.conversations else "documents"}  # how `predict` is to ask it
    of_student = facts | trained_on | _begun(start)
    made = _Writer(name, version, task, layout.RUNTIME)
    asked, folding = Asked(rows_of(signals, "validation"), signals.vocabulary), folding_of(signals)
    trained, taught_by = student.path(student.checkpoint), teacher.path(teacher.checkpoint)
    with bar(f"exporting to {options.format}", len(quantized) + 2, "files") as advance:
        whole = _floats(trained, "F32")
        files = [
            made.file(root, trained, whole, student.parameters, "float32", "F32", licence, of_student, None, asked)
        ]
        advance(1)
        for method, model in quantized.items():
            own = of_student | {"quantized_sha256": model.weights_sha256, "method": method}
            tensors = ggml_tensors.load(model.path(model.weights))
            encoding = method.removeprefix("gguf_").upper()  # llama.cpp has the same words
            files.append(
                made.file(root, trained, tensors, student.parameters, method, encoding, licence, own, model, asked)
            )
            advance(1)
        if folding is not None:
            asked = Asked(in_whole_ids(asked.rows, folding), folding.whole)
        halves = _floats(taught_by, "F16")
        compared = made.file(
            apart, taught_by, halves, teacher.parameters, "f16", "F16", teacher.licence, facts, None, asked
        )
        advance(1)
    shared = {file.relative_to(root).as_posix(): sha256_of(file) for file in files_in(root) if file.suffix != ".gguf"}
    return DecoderArtifact(
        format=options.format,
        runtime=layout.RUNTIME,
        root=title,
        files=tuple(files),
        shared_files=shared,
        shared_bytes=sum((root / one).stat().st_size for one in shared),
        teacher=compared,
        teacher_root="teacher",
        recipe_sha256=recipe_sha256,
    )


def _begun(start: DecoderStart | None) -> dict[str, str]:
    """Return what a file says of the checkpoint that its student started from; nothing where that is the teacher's."""
    if start is None or start.start is None:
        return {}
    return {"start_source": start.start.source, "start_sha256": start.start.weights_sha256}


class _Writer:
    """Writes one file after another, and proves each."""

    def __init__(self, name: str, version: str, task: Any, runtime: str) -> None:
        self.name, self.version, self.task, self.runtime = name, version, task, runtime

    def file(
        self, root: Path, checkpoint: Path, tensors: Mapping[str, GgmlTensor], parameters: int, name: str,
        encoding: str, licence: str, facts: Mapping[str, str], model: GgmlModel | None, asked: Asked,
    ) -> DecoderFile:  # fmt: skip
        file = root / file_name(self.name, f"v{self.version}", parameters, encoding)
        importance = None if model is None else _importance(model)
        write_gguf(
            file, checkpoint, tensors, name=self.name, version=f"v{self.version}", licence=licence, file_type=encoding,
            facts=facts, importance=importance, about=About(base_models=(facts["teacher_source"],)),
        )  # fmt: skip
        wrong = differences(file, tensors)
        if wrong:
            raise StageError(f"{file.name} does not hold what was decided of: {', '.join(wrong[:5])}")
        parity: DecoderParity = prove(file, checkpoint, tensors, runtime=self.runtime, task=self.task, asked=asked)
        stored = sum(one.data.nbytes for one in tensors.values())
        return DecoderFile(
            name=name,
            file=file.name,
            sha256=sha256_of(file),
            size_bytes=file.stat().st_size,
            bits_per_weight=8 * stored / parameters,
            parity=parity,
        )


def _floats(checkpoint: Path, kind: str) -> dict[str, GgmlTensor]:
    """Return a checkpoint's tensors as floats; vectors are F32 always, as llama.cpp wants them."""
    found = {}
    for name, tensor in checkpoint_tensors(load_decoder(checkpoint)).items():
        floats = tensor.detach().numpy()
        stored = kind if floats.ndim > 1 else "F32"
        found[name] = GgmlTensor(stored, floats.shape, floats.astype(ggml_tensors.FLOATS[stored]))
    return found


def _importance(model: GgmlModel) -> dict[str, str] | None:
    if model.importance is None:
        return None
    entries = sum(len(one.shape) == 2 for one in model.tensors)
    return {"dataset": "calibration split", "entries_count": str(entries)}
