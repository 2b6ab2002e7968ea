"""What distillation starts from, small and real: a corpus with unlabelled rows, a fitted teacher, and its answers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_artifact import LABELS
from tiny_build import rows, write_encoder, write_rows

from edgedistill import registry
from edgedistill.corpus.stage import collect
from edgedistill.distill.signals import record
from edgedistill.distill.tokens import retokenize
from edgedistill.files import write_atomic
from edgedistill.models.students import static
from edgedistill.recipe_sections import DataOptions, DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.student_values import Tokens
from edgedistill.teachers import transformers
from edgedistill.values import Corpus, Signals, StageValue, Teacher

V = TypeVar("V", bound=StageValue)
TASK: Any = registry.load("edgedistill.tasks", "text_classification").Options(
    kind="text_classification", labels=LABELS, max_length=32
)
UNLABELLED = 24
STATIC = static.Options(kind="static", dimensions=16, hidden_size=8)
DISTILL = DistillOptions.model_validate({"epochs": 2, "batch_size": 16, "learning_rate": 1e-2})


def sealed(folder: Path, value: V) -> V:
    """Return a stage's value as the next stage gets it: read from the stage's folder."""
    write_atomic(folder / "result.json", value.model_dump_json())
    return type(value).load(folder)


def make_corpus(folder: Path, *, labelled: bool = True, count: int = 240) -> Corpus:
    """Write a corpus into `folder`: train (some rows or all without labels), validation, test and a challenge set."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size, seed in (("train", count, 1), ("validation", 40, 2), ("test", 60, 3), ("other", 40, 4)):
        write_rows(folder / f"{name}.jsonl", rows(size, seed))
    write_rows(folder / "more.jsonl", rows(UNLABELLED, 5))
    files: dict[str, Any] = {
        name: {"source": "jsonl", "file": f"{name}.jsonl"} for name in ("train", "validation", "test", "other", "more")
    }
    if not labelled:
        files["train"]["label"] = None
    challenge, unlabelled = {"other": files.pop("other")}, files.pop("more")
    options = DataOptions.model_validate({**files, "challenge": challenge, "unlabelled": unlabelled})
    return sealed(folder, collect(options, LABELS, folder, folder))


def rewritten(corpus: Corpus, folder: Path, column: str, change: Callable[[Any], Any], *splits: str) -> Corpus:
    """Return a copy of a corpus in `folder`, one column of these splits changed as a numpy array."""
    shutil.copytree(corpus.folder, folder)
    for split in splits:
        file = folder / corpus.splits[split].file
        table = pq.read_table(file)
        place = table.column_names.index(column)
        values = pa.array(change(table[column].to_numpy()), type=table.schema.field(column).type)
        pq.write_table(table.set_column(place, table.schema.field(column), values), file)
    return sealed(folder, corpus)


def teacher_options(checkpoint: Path, **fit: Any) -> transformers.Options:
    """Return a teacher section; without `fit` the checkpoint is taken as it is."""
    section = {"kind": "transformers", "licence": "MIT", "model": {"path": str(checkpoint)}, "fit": fit or None}
    return transformers.Options.model_validate(section)


def make_teacher(folder: Path, corpus: Corpus, options: transformers.Options, task: Any = TASK) -> Teacher:
    """Prepare a teacher in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return sealed(folder, transformers.prepare(options, task, corpus, folder, folder))


def make_fitted_teacher(folder: Path, corpus: Corpus) -> Teacher:
    """Return a teacher that was an encoder, and has learned the task."""
    write_encoder(folder / "encoder")
    options = teacher_options(folder / "encoder", method="full", epochs=3, batch_size=8, learning_rate=1e-3)
    return make_teacher(folder / "teacher", corpus, options)


def make_signals(folder: Path, teacher: Teacher, corpus: Corpus) -> Signals:
    """Record the teacher's answers in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return sealed(folder, record(teacher, corpus, TASK, folder))


def make_tokens(
    folder: Path, teacher: Teacher, corpus: Corpus, signals: Signals, student: StudentOptions = STATIC
) -> Tokens:
    """Write the corpus as a student reads it into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return sealed(
        folder,
        retokenize(
            student, teacher=teacher, corpus=corpus, signals=signals, max_length=TASK.max_length, base=folder,
            folder=folder,
        ),
    )  # fmt: skip
