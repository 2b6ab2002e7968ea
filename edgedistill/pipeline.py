"""Planning and building a recipe; the order of its stages is in `encoder_pipeline.py` and `decoder_pipeline.py`.

Each stage is named with all that its result depends on, before anything runs; so `plan` can say what would run and
why, and `build` computes only what no earlier build has finished. Heavy libraries are imported when a stage runs, and
not by a build that has nothing to do.
"""

import tempfile
from pathlib import Path

from edgedistill import planning
from edgedistill.building import Building, Outcome
from edgedistill.errors import ModelError
from edgedistill.files import write_changed
from edgedistill.models.anatomy import Anatomy
from edgedistill.models.size_warnings import size_warnings
from edgedistill.planning import PlannedStage
from edgedistill.progress import say
from edgedistill.recipe import Recipe
from edgedistill.recipe_file import dump
from edgedistill.run import Run
from edgedistill.stages import stages


def plan(recipe: Recipe, base: Path, out: Path) -> tuple[PlannedStage, ...]:
    """Return what a build would do, stage by stage; nothing is computed and nothing is written."""
    run = Run(out / recipe.name)
    run.check_ours()
    guessed = planning.guesses(recipe, base, anatomy(recipe, base))
    planned = []
    for stage in stages(recipe, base, run).values():
        folder, finished = run.folder_of(stage.name, stage.needs), run.finished(stage.name, stage.needs)
        seconds, size_bytes = planning.cost(folder, stage.name, guessed.get(stage.name))
        why = () if finished else run.why(stage.name, stage.needs)
        planned.append(PlannedStage(stage.name, stage.verb, finished, folder, why, seconds, size_bytes))
    return tuple(planned)


def anatomy(recipe: Recipe, base: Path) -> tuple[Anatomy, ...]:
    """Count the teacher and the student before either exists."""
    with tempfile.TemporaryDirectory() as cache:
        return planning.anatomy(recipe, base, Path(cache))


def build(recipe: Recipe, base: Path, out: Path, until: str = "report", *, strict: bool = False) -> Outcome:
    """Run the stages up to those of the verb `until`, each only where it is not finished.

    Args:
        strict: take a promise that was neither kept nor broken for a broken one.

    Raises:
        GateError: everything ran and is written, and a number misses the budget; nothing was promoted.
    """
    run = Run(out / recipe.name)
    with run.locked():
        named = stages(recipe, base, run)
        where = f"# with every default; relative paths start from {base.absolute()}\n"
        write_changed(run.root / "recipe.yaml", where + dump(recipe))
        if not run.finished("student", named["student"].needs):
            _warn_of_sizes(recipe, base)
        return _order(recipe)(recipe, base, run, named, strict).until(until)


def _order(recipe: Recipe) -> type[Building]:
    """Return the order of stages that the recipe's task has."""
    if recipe.task.GOLD_IN_TEXT:
        from edgedistill.decoder_pipeline import OfDecoder

        return OfDecoder
    from edgedistill.encoder_pipeline import OfEncoder

    return OfEncoder


def _warn_of_sizes(recipe: Recipe, base: Path) -> None:
    """Say before the work begins what about the student's size should be thought over."""
    try:
        teacher, student = anatomy(recipe, base)
    except ModelError as error:
        if str(error).startswith("student."):
            raise  # no teacher was ever needed to know it
        return  # which the stage that needs the model tells with its own words
    for warning in size_warnings(recipe.student, teacher, student):
        say(f"warning: {warning}")
