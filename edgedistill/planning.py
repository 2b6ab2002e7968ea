"""What a build would cost, before it costs it: rough times and sizes of stages, and the anatomy of both models.

A stage that ran before in this run folder, with other options perhaps, tells its time. One that never ran is guessed
from multiplications: a rough guess, said to be one, so that nobody starts a night's work by accident.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill import decoder_planning
from edgedistill.distill.mixture import mixtures
from edgedistill.files import size_of
from edgedistill.models import student
from edgedistill.models.anatomy import Anatomy, layers_of, of_encoder
from edgedistill.models.decoder_anatomy import of_decoder
from edgedistill.recipe import Recipe
from edgedistill.section import SourceOptions

FLOPS_PER_S = 4e10  # what two ordinary cores reach on matrices of this size
UPDATED_PARAMETERS_PER_S = 4e8  # AdamW over a dense table, a step touches all of it
AUGMENTED_TEXTS_PER_S = 1500
BYTES_PER_TOKEN = 5
BYTES_PER_TEXT = 120
BYTES_PER_TRIAL = 500
SMALL_S, BENCHMARK_S = 10.0, 90.0


@dataclass(frozen=True)
class PlannedStage:
    """A stage as a build would find it."""

    stage: str
    verb: str
    finished: bool
    folder: Path
    why: tuple[str, ...]  # what differs from the newest finished stage of this name; empty if none ever ran
    seconds: float | None
    bytes: int | None


def anatomy(recipe: Recipe, base: Path, cache: Path) -> tuple[Anatomy, ...]:
    """Count the teacher and the student before either exists.

    Args:
        base: the folder that relative paths start from.
        cache: where an archive is unpacked.

    Raises:
        ModelError: the teacher's checkpoint is not there.
    """
    from edgedistill.models.resolve import config_of

    options: Any = recipe.teacher
    task: Any = recipe.task
    config = config_of(options.model, base, cache)
    classes = len(getattr(task, "labels", None) or config.get("id2label") or (0, 1)) if task.LABELLED else 0
    teacher = (
        of_decoder("teacher", config, layers_of(config), task.max_length)
        if task.GOLD_IN_TEXT
        else of_encoder("teacher", config, layers_of(config), classes, task.max_length)
    )
    return teacher, _student(recipe, config, classes, teacher.hidden_size, base, cache)


def named_labels(task: Any) -> tuple[str, ...] | None:
    """Return the labels that a recipe names; none where its task has none; None where the teacher or the data says."""
    labels: tuple[str, ...] | None = task.labels if task.LABELLED else ()
    return labels


def _student(recipe: Recipe, config: Mapping[str, Any], classes: int, widest: int, base: Path, cache: Path) -> Anatomy:
    """Count the student; where its vocabulary depends on texts that nobody has read, as large as it can become."""
    from edgedistill.models.resolve import config_of

    task: Any = recipe.task
    reference = student.own_checkpoint(recipe.student)
    start = config if reference is None else config_of(reference, base, cache / "student")
    tokens = student.most_tokens(recipe.student, start)
    dimensions = getattr(task, "dimensions", None)
    if task.GOLD_IN_TEXT:
        counted = student.decoder_anatomy(recipe.student, {**start, "vocab_size": tokens}, task.max_length)
    else:
        counted = student.anatomy(
            recipe.student, {**start, "vocab_size": tokens}, classes, task.max_length,
            0 if classes else dimensions or widest, turned=bool(dimensions or getattr(task, "truncations", ())),
        )  # fmt: skip
    upper_bound = f"student, with at most {tokens:,} tokens"
    return counted if recipe.student.vocabulary is None else replace(counted, name=upper_bound)


def guesses(recipe: Recipe, base: Path, models: tuple[Anatomy, ...]) -> dict[str, tuple[float, int]]:
    """Return rough seconds and bytes by stage name, for a machine of two cores."""
    teacher, made = models
    said = recipe.data
    held_out = (said.validation, said.calibration, said.test, *said.challenge.values())
    labelled, taught = _bytes_of(base, said.train), _bytes_of(base, said.train, said.unlabelled)
    data = taught + _bytes_of(base, *held_out)
    if recipe.task.GOLD_IN_TEXT:
        asked = said.unlabelled if said.unlabelled is not None and said.unlabelled.unanswered else None
        return decoder_planning.guesses(recipe, data, taught, _bytes_of(base, asked), models)
    tokens, rows = data / BYTES_PER_TOKEN, data / BYTES_PER_TEXT
    fit, augment, search = getattr(recipe.teacher, "fit", None), recipe.distill.augment, recipe.distill.search
    reading = tokens * teacher.flops_per_token / FLOPS_PER_S
    fitting = 3 * reading * labelled / data * fit.epochs if fit and data else 0.0
    grown = 1 + (augment.copies if augment else 0)
    epoch = grown * (
        3 * tokens * made.flops_per_token / FLOPS_PER_S
        + rows / recipe.distill.batch_size * made.parameters / UPDATED_PARAMETERS_PER_S
    )
    epoch *= taught / data if data else 1
    learning = epoch * recipe.distill.epochs
    alone = learning / grown * labelled / taught if taught else learning  # from gold labels, no text made or unlabelled
    seeds = recipe.distill.seeds
    found = {
        "corpus": (SMALL_S, data),
        "teacher": (fitting + SMALL_S, teacher.weights_bytes * (2 if fit else 1)),
        "signals": (grown * reading + SMALL_S, round(grown * (4 * tokens + 32 * rows))),
        "tokens": (SMALL_S, round(grown * (4 * tokens + 8 * rows))),
        "student": (learning + SMALL_S, made.weights_bytes),
        "controls": (seeds * alone + (seeds - 1) * learning + SMALL_S, round(16 * rows)),
        "benchmark": (BENCHMARK_S, round(16 * rows)),
        "report": (SMALL_S, 10**6),
    }
    if augment:
        found["augment"] = (2 * SMALL_S + augment.copies * rows / AUGMENTED_TEXTS_PER_S, grown * data)
    if search:
        trials = len(mixtures(search, recipe.distill.losses))
        found["search"] = (trials * search.epochs * epoch + SMALL_S, BYTES_PER_TRIAL * trials)
    for options in recipe.quantize:
        found[f"quantize-{options.method}"] = (SMALL_S, made.weights_bytes // 4)
    for layout in recipe.export:
        size = teacher.weights_bytes + made.weights_bytes * (4 + len(recipe.quantize)) // 4
        found[f"export-{layout.format}"] = (2 * SMALL_S, size)
    return found


def cost(folder: Path, stage: str, guess: tuple[float, int] | None) -> tuple[float | None, int | None]:
    """Return a stage's seconds and bytes: as measured where it ran, else the newest of its name, else the guess."""
    candidates = [folder, *sorted(folder.parent.glob(f"{stage}-*"), key=lambda path: -path.stat().st_mtime)]
    for candidate in candidates:
        if (candidate / "result.json").exists():
            took = json.loads((candidate / "took.json").read_text(encoding="utf-8"))
            return took["seconds"], size_of(candidate)
    return guess or (None, None)


def _bytes_of(base: Path, *sources: SourceOptions | None) -> int:
    """Return how large the files of these sources are; a source that is no file counts as nothing."""
    named = [getattr(source, key, None) for source in sources for key in ("file", "queries", "documents")]
    files = [base / file for file in named if file is not None]
    return sum(file.stat().st_size for file in files if file.exists())
