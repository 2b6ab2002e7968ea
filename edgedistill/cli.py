"""The command line: parse, call, print. Decisions are made elsewhere, and whatever is heavy is imported by its command.

Exit codes: 0 done; 1 a stage failed; 2 the recipe or the call is wrong; 3 a budget was missed; 130 interrupted by
Ctrl-C or SIGTERM. A bug in this project keeps its traceback.
"""

import errno
import re
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.core import ParameterSource

from edgedistill import __version__
from edgedistill.errors import EdgeDistillError, GateError, RecipeError

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.generate import GenerationOptions
    from edgedistill.recipe import Recipe

INTERRUPTED = 130
FULL = re.compile(r"No space left on device|File too large|\d+ requested and \d+ written")  # the last: numpy's words
NO_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENAMETOOLONG)
LONGEST_REASON = 300
RUN_FOLDER = "run_folder"  # key of click's meta: where the running command keeps what it finishes
GOES_ON = "goes_on"  # key of click's meta: False where a command that was interrupted has nothing to go on with


class Commands(click.Group):
    """Turns what a user can mend into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises and no user can mend goes on as it is."""
        try:
            return super().invoke(ctx)
        except EdgeDistillError as error:
            lines = str(error).splitlines() if isinstance(error, RecipeError) else [str(error)]
            _end(ctx, error.exit_code, *lines)
        except KeyboardInterrupt:
            ending = f"; {_kept(ctx)}, and the same command goes on from there" if ctx.meta.get(GOES_ON, True) else ""
            _end(ctx, INTERRUPTED, f"interrupted{ending}")
        except Exception as error:
            told = _told(error)
            if told is None:
                raise
            what, cure, code = told
            _end(ctx, code, f"{what}; {_kept(ctx)}; {cure}")


def _end(ctx: click.Context, code: int, *lines: str) -> None:
    for line in lines:
        click.echo(f"error: {line}", err=True)
    ctx.exit(code)


def _kept(ctx: click.Context) -> str:
    folder = ctx.meta.get(RUN_FOLDER)
    return f"what was finished is kept in {folder}" if folder is not None else "nothing was lost"


def _told(error: Exception) -> tuple[str, str, int] | None:
    """Return what is wrong with the disk, the cure and the exit code; None where the disk is not to blame."""
    if FULL.search(str(error)) or getattr(error, "errno", None) == errno.EDQUOT:
        # not by class: libraries in other languages tell a full disk in exceptions of their own
        reason = " ".join(str(error).split())
        reason = f" ({reason})" if len(reason) < LONGEST_REASON else ""  # copying a folder tells of every file in it
        return f"the disk is full{reason}", "free some space and run the same command again", 1
    if isinstance(error, OSError) and _is_no_place(error):
        place = str(error.filename or "a file")
        place = place if len(place) < LONGEST_REASON else f"{place[:LONGEST_REASON]} [cut]"
        return f"{place} cannot be read or written ({error.strerror})", "name another folder with --out", 2
    return None


def _is_no_place(error: OSError) -> bool:
    """Whether nothing can be written where the user pointed; a folder that is there twice would be a bug of ours."""
    in_the_way = error.errno == errno.EEXIST and error.filename is not None and Path(error.filename).is_file()
    return error.errno in NO_PLACE or in_the_way


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, package_name="edgedistill", message="%(prog)s %(version)s")
def main() -> None:
    """Turn a large model into a small file that runs on a device, and prove what that cost."""


EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def _with_run(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the recipe, its folder, the folder of runs, and a console to print on."""

    @wraps(command)
    @click.argument("recipe_file", metavar="RECIPE", type=EXISTING_FILE)
    @click.option(
        "--out", type=FOLDER, default=Path("runs"), help="Runs go to OUT/<name of the recipe>; default: runs."
    )
    @click.option("--quiet", "-q", is_flag=True, help="Print results only, no progress.")
    @click.pass_context
    def prepared(ctx: click.Context, /, recipe_file: Path, out: Path, quiet: bool, **more: Any) -> None:
        from rich.console import Console

        from edgedistill import progress, surroundings

        recipe = surroundings.load(recipe_file)
        ctx.meta[RUN_FOLDER] = out / recipe.name
        progress.show_on(None if quiet else Console(stderr=True))
        command(recipe, recipe_file.absolute().parent, out, Console(), **more)

    return prepared


STRICT = click.option(
    "--strict", is_flag=True, help="Exit with 3 and promote nothing where a promise is INCONCLUSIVE, too."
)


@main.command()
@STRICT
@_with_run
def build(recipe: "Recipe", base: Path, out: Path, console: "Console", strict: bool) -> None:
    """Run every stage of RECIPE that is not finished yet."""
    _build(recipe, base, out, console, until="report", strict=strict)


@main.command()
@_with_run
def distill(recipe: "Recipe", base: Path, out: Path, console: "Console") -> None:
    """Train the student. Runs what it needs before: data and teacher."""
    _build(recipe, base, out, console, until="distill")


@main.command()
@_with_run
def quantize(recipe: "Recipe", base: Path, out: Path, console: "Console") -> None:
    """Make the weights small integers. Runs what it needs before."""
    _build(recipe, base, out, console, until="quantize")


@main.command()
@_with_run
def export(recipe: "Recipe", base: Path, out: Path, console: "Console") -> None:
    """Write the artifacts and prove their parity. Runs what it needs before."""
    _build(recipe, base, out, console, until="export")


@main.command()
@_with_run
def bench(recipe: "Recipe", base: Path, out: Path, console: "Console") -> None:
    """Measure teacher and artifacts. Runs what it needs before."""
    _build(recipe, base, out, console, until="bench")


@main.command()
@STRICT
@_with_run
def report(recipe: "Recipe", base: Path, out: Path, console: "Console", strict: bool) -> None:
    """Write the report and judge the budget. Runs what it needs before."""
    _build(recipe, base, out, console, until="report", strict=strict)


def _build(recipe: "Recipe", base: Path, out: Path, console: "Console", until: str, strict: bool = False) -> None:
    from edgedistill import pipeline, terminal

    try:
        outcome = pipeline.build(recipe, base, out, until, strict=strict)
    except GateError:
        terminal.show_end(console, out / recipe.name)
        raise
    if outcome.report is not None:
        terminal.show_end(console, outcome.folder)
    elif outcome.benchmark is not None:
        console.print(terminal.results_table(outcome.benchmark))
    else:
        console.print(f"{until}: finished, in {outcome.folder}", soft_wrap=True, highlight=False, markup=False)


@main.command()
@_with_run
def plan(recipe: "Recipe", base: Path, out: Path, console: "Console") -> None:
    """Say what a build would run. Tells why, about how long and how large, and what teacher and student weigh."""
    from edgedistill import pipeline, terminal
    from edgedistill.errors import ModelError
    from edgedistill.models.size_warnings import size_warnings

    console.print(terminal.plan_table(pipeline.plan(recipe, base, out)))
    try:
        teacher, student = pipeline.anatomy(recipe, base)
        console.print(terminal.anatomy_table((teacher, student)))
        for warning in size_warnings(recipe.student, teacher, student):
            console.print(f"warning: {warning}", highlight=False, markup=False)
    except ModelError as error:
        console.print(f"models: not known yet, {error}", highlight=False)


@main.command()
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True, type=EXISTING_FILE)
def validate(recipes: tuple[Path, ...]) -> None:
    """Check recipes, the teachers that they name and this machine. Tells all problems at once.

    Files of data are only looked for, not read: what is wrong inside one, a build tells in its first stage.
    """
    from edgedistill import surroundings

    problems = []
    for file in recipes:
        try:
            surroundings.load(file)
            click.echo(f"{file}: valid")
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError("\n".join(problems))


@main.command()
@click.option(
    "--teacher", required=True, metavar="DIR|GGUF|ORG/NAME[@REV]", help="Checkpoint directory, GGUF file, or hub id."
)
@click.option("--data", required=True, type=EXISTING_FILE, help="Texts: .jsonl, .csv, .tsv, .parquet or .txt.")
@click.option("--out", type=NEW_FILE, default=Path("recipe.yaml"), show_default=True, help="File to write.")
def init(teacher: str, data: Path, out: Path) -> None:
    """Write a commented recipe for a teacher and a data file."""
    from edgedistill import starter

    click.echo(starter.write(teacher, data, out))


@main.command()
@click.option("--reference", is_flag=True, help="Everything that a recipe can say instead, as a page of Markdown.")
def schema(reference: bool) -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from edgedistill.recipe_reference import recipe_reference
    from edgedistill.recipe_schema import recipe_schema

    click.echo(recipe_reference().rstrip() if reference else recipe_schema())


ARTIFACT = click.argument("artifact", type=click.Path(exists=True, path_type=Path))
GENERATION = (
    click.option("--system", help="Said before a conversation; default: what it learned under, else the template's."),
    click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer; default: 512, or what fits."),
    click.option("--temperature", type=float, help="Divides the logits that a token is drawn by; default: 0, no draw."),
    click.option("--top-k", type=int, help="Draw among so many of the likeliest tokens."),
    click.option("--top-p", type=float, help="Draw among the likeliest tokens that have this share together."),
    click.option("--seed", type=int, help="Of the draws; default: 0."),
    click.option("--threads", type=click.IntRange(1, 512), help="Default: 1. More than idle cores is slower."),
    click.option(
        "--context", "context_tokens", type=click.IntRange(min=1),
        help="Most tokens of prompt and answer; default: 4096, or the model's.",
    ),
)  # fmt: skip
GENERATION_NAMES = ("system", "max_tokens", "temperature", "top_k", "top_p", "seed", "threads", "context_tokens")


def _with_generation(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what a user may set of a language model, as one value, and let its output end as any filter's."""

    @wraps(command)
    @click.option("--verbose", is_flag=True, help="Tell on stderr how fast each answer was and how it ended.")
    @click.pass_context
    def prepared(ctx: click.Context, /, verbose: bool, **more: Any) -> None:
        from edgedistill.generate import GenerationOptions

        ctx.meta[GOES_ON] = False
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `predict ... | head` ends as any filter does
        options = GenerationOptions(**{name: more.pop(name) for name in GENERATION_NAMES})
        command(options=options, verbose=verbose, **more)

    for option in reversed(GENERATION):
        prepared = option(prepared)
    return prepared


@main.command()
@ARTIFACT
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "--file", type=click.File(encoding="utf-8"), default="-", help="One text per line; default: -, the standard input."
)
@click.option(
    "--variant",
    help="float32, or a quantized one, such as q4_k_m; default: quantized, if there is one, of several q4_k_m.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object per text, with every label's probability or the whole answer; a vector always is one.",
)
@click.option("--raw", is_flag=True, help="Go on from the text itself, without the model's chat template.")
@_with_generation
def predict(
    artifact: Path, texts: tuple[str, ...], file: TextIO, variant: str | None, as_json: bool,
    raw: bool, options: "GenerationOptions", verbose: bool,
) -> None:  # fmt: skip
    """Label texts with the model in ARTIFACT, embed or answer them.

    ARTIFACT is a folder that was exported, or a language model: any .gguf file, a folder for onnxruntime-genai or a
    checkpoint. A language model writes its answer as it comes. Without a TEXT, each line of the file or of the
    standard input is one.
    """
    from edgedistill.predict import lines_of, predictions

    if texts and click.get_current_context().get_parameter_source("file") is ParameterSource.COMMANDLINE:
        raise click.UsageError("give texts or --file, not both")
    pieces = predictions(
        artifact, texts or lines_of(file), variant=variant, as_json=as_json, raw=raw, options=options,
        note=_note if verbose or sys.stderr.isatty() else _silent,
    )  # fmt: skip
    last = "\n"
    try:
        for piece in pieces:
            _say(piece)
            last = piece or last
    except KeyboardInterrupt:
        _say("" if last.endswith("\n") else "\n")  # what is told next stands on a line of its own
        raise


@main.command()
@ARTIFACT
@click.option(
    "--file", type=click.File(encoding="utf-8"), default="-", help="A user's lines; default: -, the standard input."
)
@click.option("--variant", help="Which of the folder's models; default: q4_k_m, or another quantized one.")
@_with_generation
def chat(artifact: Path, file: TextIO, variant: str | None, options: "GenerationOptions", verbose: bool) -> None:
    """Hold a conversation with the language model in ARTIFACT.

    ARTIFACT is a folder that was exported, any .gguf file, a folder for onnxruntime-genai or a checkpoint. /reset
    starts a new conversation, /quit and Ctrl-D end it, and Ctrl-C stops an answer. What comes through a pipe is
    answered line by line.
    """
    from edgedistill.chat import begin, converse

    converse(begin(artifact, variant, options), file, _say, _note, verbose=verbose)


def _say(piece: str) -> None:
    from edgedistill.generate import harmless

    click.echo(harmless(piece) if sys.stdout.isatty() else piece, nl=False)


def _note(line: str) -> None:
    click.echo(line, err=True)


def _silent(line: str) -> None:
    """Tell nobody."""


@main.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Look at the installation and the machine.

    Exits with 1 if something that a build needs is missing or too old.
    """
    from rich.console import Console

    from edgedistill.doctor import examine
    from edgedistill.terminal import doctor_table

    findings = examine(Path.cwd())
    Console().print(doctor_table(findings))
    ctx.exit(1 if any(finding.good is False for finding in findings) else 0)
