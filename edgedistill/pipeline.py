"""The order of the stages: the only file that knows it.

Each stage is named with all that its result depends on, before anything runs; so `plan` can say what would run and
why, and `build` computes only what no earlier build has finished. Heavy libraries are imported when a stage runs, and
not by a build that has nothing to do.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgedistill import planning, registry
from edgedistill.corpus.stage import digests
from edgedistill.distill.mixture import with_best
from edgedistill.errors import GateError, ModelError, StageError
from edgedistill.files import canonical_json, sha256_of_text, write_changed
from edgedistill.models import resolve
from edgedistill.models.anatomy import Anatomy
from edgedistill.models.size_warnings import size_warnings
from edgedistill.models.student import own_checkpoint
from edgedistill.planning import PlannedStage
from edgedistill.progress import say
from edgedistill.provenance import code_of, host, versions
from edgedistill.publish import publish
from edgedistill.recipe import DECIDES_THE_FILES, Recipe
from edgedistill.recipe_file import dump
from edgedistill.results import BenchmarkResult, Report
from edgedistill.run import Run, fingerprint
from edgedistill.student_values import Search, Tokens
from edgedistill.targets import _cpu
from edgedistill.values import Artifact, Controls, Corpus, QuantizedModel, Signals, StageValue, Student, Teacher

V = TypeVar("V", bound=StageValue)
TRAINERS = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy")
_MISSES = {"FAIL": "misses", "INCONCLUSIVE": "does not prove"}
CONTROLS = {"controls", "control_learning_rate", "seeds"}  # keys of distill that the student does not depend on
BEFORE = {"augment", "search"}  # keys of the distill section that are stages of their own, before the student
UNSEARCHED = {"epochs", "patience"}  # keys of the distill section that a search has its own values for
TEACHING = ("train", "validation")  # splits that a teacher is fitted on
VERBS = ("distill", "quantize", "export", "bench", "report")


@dataclass(frozen=True)
class Outcome:
    """What a build made."""

    folder: Path
    report: Report | None
    benchmark: BenchmarkResult | None


@dataclass(frozen=True)
class Stage:
    """A stage with everything that its result depends on."""

    name: str
    verb: str  # the command that would make it
    needs: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """What a later stage depends on."""
        return fingerprint(self.name, self.needs)


def recipe_sha256(recipe: Recipe) -> str:
    """Return the hash of all that decides the artifact's bytes: a budget and further seeds do not change a file."""
    sections = recipe.model_dump(mode="json", exclude={"distill": CONTROLS})
    return sha256_of_text(canonical_json({name: sections[name] for name in DECIDES_THE_FILES}))


def stages(recipe: Recipe, base: Path, run: Run) -> dict[str, Stage]:
    """Return every stage of the recipe, in order, by name.

    Args:
        base: folder of the recipe's file; relative paths start there.
        run: where the corpus may be finished; then the teacher depends on the texts that it is fitted on, and no
            longer on all that the corpus was made from: a further challenge set does not fit it anew.
    """
    made: dict[str, Stage] = {}

    def add(stage: str, verb: str, code: tuple[str, ...], after: tuple[str, ...], /, **needs: Any) -> None:
        earlier = {before: made[before].fingerprint for before in after}
        made[stage] = Stage(stage, verb, {**needs, "after": earlier, "code": code_of(*code)})

    kind = registry.load("edgedistill.teachers", recipe.teacher.kind)
    shared = ("training", "models", "tasks", "statistics.py", "resumable.py")
    trainers = versions(*TRAINERS)
    add(
        "corpus", "distill", ("corpus", "tasks/_labels.py"), (),
        data=recipe.data, labels=planning.named_labels(recipe.task), several=recipe.task.SEVERAL,
        files=digests(recipe.data, base),
        teacher_labels=None if getattr(recipe.teacher, "fit", None) else kind.digest(recipe.teacher, base),
        versions=versions("datasets", "datasketch", "pyarrow"),
    )  # fmt: skip
    reads = _read_by_the_teacher(made["corpus"], run)
    add(
        "teacher", "distill", ("teachers", "distill/losses", *shared), () if reads else ("corpus",),
        teacher=recipe.teacher, task=recipe.task, files=kind.digest(recipe.teacher, base), train_and_validation=reads,
        versions=trainers,
    )  # fmt: skip
    if recipe.distill.augment is not None:
        add(
            "augment", "distill", ("distill/augment.py", "distill/neighbours.py", "corpus", "models"),
            ("corpus", "teacher"),
            augment=recipe.distill.augment, versions={**trainers, **versions("pyarrow", "scikit-learn")},
        )  # fmt: skip
    texts = "corpus" if recipe.distill.augment is None else "augment"
    add("signals", "distill", ("distill/signals.py", *shared), (texts, "teacher"), task=recipe.task, versions=trainers)
    said = recipe.distill.model_dump(mode="json", exclude=CONTROLS | BEFORE)
    wanted = recipe.distill.model_dump(mode="json", include=CONTROLS)
    own = own_checkpoint(recipe.student)
    add(
        "tokens", "distill", ("distill/tokens.py", *shared), ("signals",),
        vocabulary=recipe.student.vocabulary, model=own, licence=getattr(recipe.student, "licence", None),
        files=None if own is None else resolve.digest(own, base), versions=trainers,
    )  # fmt: skip
    learners = {"student": recipe.student, "versions": {**trainers, **versions("scikit-learn")}}
    if recipe.distill.search is not None:
        same = {key: value for key, value in said.items() if key not in UNSEARCHED}
        add(
            "search", "distill", ("distill", *shared), ("signals", "tokens"),
            search=recipe.distill.search, distill=same, **learners,
        )  # fmt: skip
    taught = ("signals", "tokens") if recipe.distill.search is None else ("signals", "tokens", "search")
    add("student", "distill", ("distill", *shared), taught, distill=said, **learners)
    add("controls", "distill", ("distill", *shared), taught, distill=said, wanted=wanted, **learners)
    for options in recipe.quantize:
        method = registry.load("edgedistill.quantize.methods", options.method)
        add(
            f"quantize-{options.method}", "quantize", ("quantize", *shared), ("student",),
            options=options, depends=method.needs(options), versions=trainers,
        )  # fmt: skip
    quantized = tuple(f"quantize-{options.method}" for options in recipe.quantize)
    for layout in recipe.export:
        add(
            f"export-{layout.format}", "export", ("export", "runtimes", "models"),
            ("teacher", "student", *quantized),
            options=layout, name=recipe.name, version=recipe.version, licence=recipe.licence,
            recipe_sha256=recipe_sha256(recipe), versions={**trainers, **versions("onnx", "onnxscript", "onnxruntime")},
        )  # fmt: skip
    exported = tuple(f"export-{layout.format}" for layout in recipe.export)
    add(
        "benchmark", "bench", ("benchmark", "runtimes", "targets", "tasks", "statistics.py"), ("controls", *exported),
        benchmark=recipe.benchmark, versions={**trainers, **versions("onnxruntime")}, machine=[_cpu.name(), host()],
    )  # fmt: skip
    add(
        "report", "report", ("report", "results.py"), ("benchmark",),
        budget=recipe.budget, versions=versions("jinja2", "matplotlib", "huggingface_hub"),
    )  # fmt: skip
    return made


def _read_by_the_teacher(corpus: Stage, run: Run) -> str | None:
    """Return a hash of the labels and the splits that a teacher is fitted on; None while the corpus is unknown."""
    if not run.finished(corpus.name, corpus.needs):
        return None
    value = Corpus.load(run.folder_of(corpus.name, corpus.needs))
    return sha256_of_text(canonical_json([value.labels, *(value.splits[name].sha256 for name in TEACHING)]))


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
        return _Build(recipe, base, run, named, strict).until(until)


def _warn_of_sizes(recipe: Recipe, base: Path) -> None:
    """Say before the work begins what about the student's size should be thought over."""
    try:
        teacher, student = anatomy(recipe, base)
    except ModelError:
        return  # which the stage that needs the model tells with its own words
    for warning in size_warnings(recipe.student, teacher, student):
        say(f"warning: {warning}")


class _Build:
    """One pass over the stages of one recipe."""

    def __init__(self, recipe: Recipe, base: Path, run: Run, named: Mapping[str, Stage], strict: bool) -> None:
        self.recipe, self.base, self.run, self.named, self.strict = recipe, base, run, named, strict

    def once(self, name: str, make: Callable[[Path], V], returns: type[V]) -> V:
        stage, place = self.named[name], f"[{list(self.named).index(name) + 1}/{len(self.named)}] {name}"
        cached = self.run.finished(name, stage.needs)
        if not cached:
            say(place)
        began = time.monotonic()
        value = self.run.once(name, stage.needs, make, returns)
        say(f"{place}: cached" if cached else f"{place}: done in {time.monotonic() - began:.0f} s")
        return value

    def until(self, verb: str) -> Outcome:
        last = VERBS.index(verb)
        corpus, teacher, signals, tokens, search, student, controls = self._distill()
        if last == VERBS.index("distill"):
            return Outcome(self.run.root, None, None)
        quantized = self._quantize(corpus, signals, tokens, student)
        if last == VERBS.index("quantize"):
            return Outcome(self.run.root, None, None)
        artifacts = self._export(corpus, teacher, tokens, student, quantized)
        if last == VERBS.index("export"):
            return Outcome(self.run.root, None, None)
        made: dict[str, Any] = {
            "corpus": corpus, "teacher": teacher, "signals": signals, "student": student, "controls": controls,
            "quantized": quantized, "artifacts": artifacts,
        }  # fmt: skip
        measured = self._benchmark(made)
        if last == VERBS.index("bench"):
            return Outcome(self.run.root, None, measured)
        return self._report({**made, "tokens": tokens, "search": search}, measured)

    def _distill(self) -> tuple[Corpus, Teacher, Signals, Tokens, Search | None, Student, Controls]:
        recipe, base = self.recipe, self.base
        kind = registry.load("edgedistill.teachers", recipe.teacher.kind)
        task: Any = recipe.task

        def collect(folder: Path) -> Corpus:
            from edgedistill.corpus.stage import collect

            labels = planning.named_labels(task)
            if labels is None:
                labels = kind.labels_of(recipe.teacher, base, folder / "progress")
            return collect(recipe.data, labels, base, folder, several=task.SEVERAL)

        def record(folder: Path) -> Signals:
            from edgedistill.distill.signals import record

            return record(teacher, corpus, task, folder)

        def retokenize(folder: Path) -> Tokens:
            from edgedistill.distill.tokens import retokenize

            return retokenize(
                recipe.student, teacher=teacher, corpus=corpus, signals=signals, max_length=task.max_length, base=base,
                folder=folder,
            )  # fmt: skip

        def distill(folder: Path) -> Student:
            from edgedistill.distill.stage import distill

            return distill(with_best(recipe.distill, search), recipe.student, **given, folder=folder)

        def control(folder: Path) -> Controls:
            from edgedistill.distill.controls import control

            return control(with_best(recipe.distill, search), recipe.student, **given, folder=folder)

        corpus = self.once("corpus", collect, Corpus)
        self.named = stages(recipe, base, self.run)  # now that the corpus is known
        teacher = self.once("teacher", lambda folder: kind.prepare(recipe.teacher, task, corpus, base, folder), Teacher)
        corpus = self._augment(corpus, teacher)
        signals = self.once("signals", record, Signals)
        tokens = self.once("tokens", retokenize, Tokens)
        given: dict[str, Any] = {"teacher": teacher, "corpus": corpus, "signals": signals, "tokens": tokens}
        search = self._search(given)
        student = self.once("student", distill, Student)
        controls = self.once("controls", control, Controls)
        return corpus, teacher, signals, tokens, search, student, controls

    def _augment(self, corpus: Corpus, teacher: Teacher) -> Corpus:
        """Return the corpus that the student learns from: the one given where the recipe asks for no more texts."""
        options = self.recipe.distill.augment
        if options is None:
            return corpus

        def augment(folder: Path) -> Corpus:
            from edgedistill.distill.augment import augment

            return augment(options, teacher=teacher, corpus=corpus, folder=folder)

        return self.once("augment", augment, Corpus)

    def _search(self, given: Mapping[str, Any]) -> Search | None:
        recipe, options = self.recipe, self.recipe.distill.search
        if options is None:
            return None

        def search(folder: Path) -> Search:
            from edgedistill.distill.search import search

            return search(options, recipe.distill, recipe.student, **given, folder=folder)

        return self.once("search", search, Search)

    def _quantize(
        self, corpus: Corpus, signals: Signals, tokens: Tokens, student: Student
    ) -> dict[str, QuantizedModel]:
        def make(options: Any) -> Callable[[Path], QuantizedModel]:
            def quantize(folder: Path) -> QuantizedModel:
                from edgedistill.quantize.stage import quantize

                return quantize(options, student=student, corpus=corpus, signals=signals, tokens=tokens, folder=folder)

            return quantize

        return {
            options.method: self.once(f"quantize-{options.method}", make(options), QuantizedModel)
            for options in self.recipe.quantize
        }

    def _export(
        self, corpus: Corpus, teacher: Teacher, tokens: Tokens, student: Student,
        quantized: Mapping[str, QuantizedModel],
    ) -> dict[str, Artifact]:  # fmt: skip
        recipe = self.recipe

        def make(options: Any) -> Callable[[Path], Artifact]:
            def export(folder: Path) -> Artifact:
                from edgedistill.export.stage import export

                return export(
                    options, title=f"{recipe.name}-{recipe.version}", licence=recipe.licence,
                    recipe_sha256=recipe_sha256(recipe), teacher=teacher, corpus=corpus, tokens=tokens,
                    student=student, quantized=quantized, folder=folder,
                )  # fmt: skip

            return export

        return {
            options.format: self.once(f"export-{options.format}", make(options), Artifact) for options in recipe.export
        }

    def _benchmark(self, made: Mapping[str, Any]) -> BenchmarkResult:
        def benchmark(folder: Path) -> BenchmarkResult:
            from edgedistill.benchmark.stage import benchmark

            return benchmark(self.recipe.benchmark, **made, folder=folder)

        return self.once("benchmark", benchmark, BenchmarkResult)

    def _report(self, made: Mapping[str, Any], measured: BenchmarkResult) -> Outcome:
        def report(folder: Path) -> Report:
            from edgedistill.report.stage import report

            return report(self.recipe, **made, benchmark=measured, folder=folder)

        written = self.once("report", report, Report)
        missed = [line for line in written.budget if line.verdict == "FAIL"]
        missed += [line for line in written.budget if self.strict and line.verdict == "INCONCLUSIVE"]
        failed = written.verdict == "FAIL" or bool(self.strict and missed)
        publish(self.recipe, self.run.root, written, made, measured, promote=not failed and not measured.validity.wrong)
        if measured.validity.wrong:
            raise StageError(f"nothing was promoted, another thing was measured: {'; '.join(measured.validity.wrong)}")
        if failed:
            told = [
                f"{one.subject} {_MISSES[one.verdict]} {one.key}: {one.measured}, promised {one.promise}"
                for one in missed
            ]
            place = self.run.root / "artifacts"
            raise GateError(f"{'; '.join(told)}; nothing was promoted to {place}, the report says why")
        return Outcome(self.run.root, written, measured)
