"""The order of the stages where a model says one thing of a text: its class, its labels, or its vector.

Heavy libraries are imported when a stage runs, and not by a build that has nothing to do.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgedistill.building import VERBS, Building, Outcome
from edgedistill.distill.mixture import with_best
from edgedistill.results import BenchmarkResult, Report
from edgedistill.stages import recipe_sha256
from edgedistill.student_values import Search, Tokens
from edgedistill.values import Artifact, Controls, Corpus, QuantizedModel, Signals, Student, Teacher


class OfEncoder(Building):
    """The order for tasks that say one thing of a text."""

    def until(self, verb: str) -> Outcome:
        """Run the stages up to those of a verb."""
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
        task: Any = recipe.task

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

        corpus, teacher = self.texts_and_teacher()
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

        return self.concluded(self.once("report", report, Report), made, measured)
