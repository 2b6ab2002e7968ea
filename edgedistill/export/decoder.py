"""Export a decoder: lay every model out as stock runtimes load it, and prove that no number changed."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgedistill import registry
from edgedistill.decoder_values import (
    DecoderArtifact,
    DecoderFile,
    DecoderSignals,
    DecoderStart,
    DecoderStudent,
    QuantizedDecoder,
)
from edgedistill.errors import StageError
from edgedistill.export.decoder_file import FLOAT_STUDENT, Described
from edgedistill.export.decoder_parity import Asked, prove
from edgedistill.export.genai_names import HEAD
from edgedistill.export.notice import write_notice
from edgedistill.files import clear, files_in, sha256_of, sha256_of_place
from edgedistill.progress import bar
from edgedistill.section import FormatOptions
from edgedistill.training.folding import in_whole_ids
from edgedistill.training.language import folding_of, rows_of
from edgedistill.values import Teacher

FORMATS = "edgedistill.export.formats"


def export(
    options: FormatOptions, *, name: str, version: str, licence: str, recipe_sha256: str, task: Any, teacher: Teacher,
    signals: DecoderSignals, start: DecoderStart | None, student: DecoderStudent, system: str | None,
    quantized: Mapping[str, QuantizedDecoder], folder: Path,
) -> DecoderArtifact:  # fmt: skip
    """Return the artifact: the float student, each quantized model, and apart from them the teacher to compare with.

    A teacher that is a GGUF file already is not laid out again: it is what users run, and has no floats to lay out.

    Args:
        name: of the recipe, as `version`; both name the files.
        recipe_sha256: of the sections that decide the files; goes into each of them.
        task: its options.
        start: what the student started from beside its teacher.
        system: what was said before every conversation that it learned from.
        quantized: method -> model; the name of a decoder's method is its scheme's, and those that the format does not
            store are left to another one.

    Raises:
        StageError: a file does not hold what was decided, or does not compute it.
    """
    layout: Any = registry.load(FORMATS, options.format)
    title = f"{name}-{version}"
    root, apart, working = folder / title, folder / "teacher", folder / "progress"
    for place in (root, apart, working):
        clear(place)
    write_notice(root, teacher, licence, start)
    facts = {
        "recipe_sha256": recipe_sha256,
        "teacher_sha256": teacher.weights_sha256,
        "teacher_source": teacher.source,
        "student_sha256": student.weights_sha256,
    }
    learned = {"trained_on": "conversations" if task.conversations else "documents"}  # how `predict` is to ask it
    learned |= {} if system is None else {"system": system}
    of_student = facts | learned | _begun(start)
    asked, folding = Asked(rows_of(signals, "validation"), signals.vocabulary), folding_of(signals)
    trained, compared = student.path(student.checkpoint), None
    stored = {method: model for method, model in quantized.items() if method in options.STORES}
    with bar(f"exporting to {options.format}", len(stored) + (2 if teacher.gguf is None else 1), "files") as advance:
        made = _Writer(layout, options, root, trained, working / "student", task, asked)
        whole = Described(name, version, licence, FLOAT_STUDENT, student.parameters, of_student)
        files = [made.file(whole, layout.floats(trained, FLOAT_STUDENT))]
        advance(1)
        for method, model in stored.items():
            own = of_student | {"quantized_sha256": model.weights_sha256, "method": method}
            own |= {"repaired": model.repaired} if model.repaired else {}
            described = Described(name, version, licence, method, student.parameters, own, _importance(model))
            files.append(made.file(described, layout.load(model.path(model.weights))))
            advance(1)
        if teacher.gguf is None:
            if folding is not None:
                asked = Asked(in_whole_ids(asked.rows, folding), folding.whole)
            taught_by = teacher.path(teacher.checkpoint)
            of_teacher = _Writer(layout, options, apart, taught_by, working / "teacher", task, asked)
            described = Described(name, version, teacher.licence, layout.TEACHER, teacher.parameters, facts)
            compared = of_teacher.file(described, layout.floats(taught_by, layout.TEACHER))
            advance(1)
    shutil.rmtree(working)
    inside = {file for one in files for file in _files_of(root / one.file)}
    shared = {file.relative_to(root).as_posix(): sha256_of(file) for file in files_in(root) if file not in inside}
    return DecoderArtifact(
        format=options.format,
        runtime=layout.RUNTIME,
        root=title,
        files=tuple(files),
        shared_files=shared,
        shared_bytes=sum((root / one).stat().st_size for one in shared),
        teacher=compared,
        teacher_root=None if compared is None else "teacher",
        recipe_sha256=recipe_sha256,
    )


def _begun(start: DecoderStart | None) -> dict[str, str]:
    """Return what a file says of the checkpoint that its student started from; nothing where that is the teacher's."""
    if start is None or start.start is None:
        return {}
    return {"start_source": start.start.source, "start_sha256": start.start.weights_sha256}


class _Writer:
    """Lays out one model of a checkpoint after another, and proves each."""

    def __init__(
        self, layout: Any, options: FormatOptions, root: Path, checkpoint: Path, working: Path, task: Any,
        asked: Asked,
    ) -> None:  # fmt: skip
        self.layout, self.options, self.root, self.checkpoint = layout, options, root, checkpoint
        self.task, self.asked = task, asked
        self.started = layout.start(checkpoint, working)

    def file(self, described: Described, tensors: Mapping[str, Any]) -> DecoderFile:
        layout, place = self.layout, self.layout.place(self.root, described)
        layout.write(place, self.started, self.checkpoint, tensors, described, self.options)
        wrong = layout.differences(place, tensors)
        if wrong:
            raise StageError(f"{place.name} does not hold what was decided of: {', '.join(wrong[:5])}")
        with TemporaryDirectory(dir=self.root.parent) as folder:
            exact = layout.exact_twin(place, Path(folder))
            parity = prove(
                place, self.checkpoint, tensors, runtime=layout.RUNTIME, task=self.task, asked=self.asked,
                exact=exact,
            )  # fmt: skip
        size_bytes = sum(one.stat().st_size for one in layout.model_files(place))
        return DecoderFile(
            name=described.method,
            file=place.relative_to(self.root).as_posix(),
            sha256=sha256_of_place(place),
            size_bytes=size_bytes,
            beside_bytes=sum(one.stat().st_size for one in _files_of(place)) - size_bytes,
            bits_per_weight=8 * sum(one.stored_bytes for one in tensors.values()) / described.parameters,
            parity=parity,
        )


def _files_of(place: Path) -> list[Path]:
    return files_in(place) if place.is_dir() else [place]


def _importance(model: QuantizedDecoder) -> dict[str, str] | None:
    if not model.importance_positions:
        return None
    matrices = {one.name for one in model.tensors if len(one.shape) == 2}
    entries = len(matrices) - (HEAD in matrices)  # a table that no head shares is looked up and never multiplied
    return {"dataset": "calibration split", "entries_count": str(entries)}
