"""The order of the stages where a model says what follows each token.

Heavy libraries are imported when a stage runs, and not by a build that has nothing to do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgedistill.building import VERBS, Building, Outcome
from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import (
    AnsweredCorpus,
    DecoderArtifact,
    DecoderControls,
    DecoderSignals,
    DecoderStart,
    DecoderStudent,
    DecoderTokens,
    MeasuredImportance,
    QuantizedDecoder,
)
from edgedistill.models.student import cut_from_codes, starts_apart
from edgedistill.results import Report
from edgedistill.stages import asks_the_teacher, reads_importance, recipe_sha256
from edgedistill.values import Corpus, Teacher


class OfDecoder(Building):
    """The order for text generation."""

    def until(self, verb: str) -> Outcome:
        """Run the stages up to those of a verb."""
        last = VERBS.index(verb)
        made = self._distill()
        if last == VERBS.index("distill"):
            return Outcome(self.run.root, None, None)
        made["quantized"] = self._quantize(made)
        if last == VERBS.index("quantize"):
            return Outcome(self.run.root, None, None)
        made["artifacts"] = self._export(made)
        if last == VERBS.index("export"):
            return Outcome(self.run.root, None, None)
        measured = self._benchmark(made)
        if last == VERBS.index("bench"):
            return Outcome(self.run.root, None, measured)
        return self._report(made, measured)

    def _distill(self) -> dict[str, Any]:
        recipe = self.recipe
        task: Any = recipe.task
        corpus, teacher = self._texts_and_teacher()
        vocabulary: Any = recipe.student.vocabulary

        def trim(folder: Path) -> DecoderTokens:
            from edgedistill.distill.decoder.vocabulary import trim

            return trim(vocabulary, task=task, teacher=teacher, corpus=corpus, start=start, folder=folder)

        def record(folder: Path) -> DecoderSignals:
            from edgedistill.distill.decoder.signals import record

            return record(teacher, corpus, task, tokens, folder, threads=getattr(recipe.teacher, "threads", 1))

        def begin(folder: Path) -> DecoderStart:
            from edgedistill.distill.decoder.start import begin

            return begin(
                recipe.student, task=task, teacher=teacher, unpacks=cut_from_codes(recipe.student, recipe.teacher),
                corpus=corpus, base=self.base, folder=folder,
            )  # fmt: skip

        def distill(folder: Path) -> DecoderStudent:
            from edgedistill.distill.decoder.stage import distill

            return distill(recipe.distill, recipe.student, **given, folder=folder)

        def control(folder: Path) -> DecoderControls:
            from edgedistill.distill.decoder.controls import control

            return control(recipe.distill, recipe.student, **given, folder=folder)

        start = self.once("start", begin, DecoderStart) if starts_apart(recipe.student, recipe.teacher) else None
        tokens = None if vocabulary is None else self.once("tokens", trim, DecoderTokens)
        signals = self.once("signals", record, DecoderSignals)
        given: dict[str, Any] = {
            "task": task, "teacher": teacher, "corpus": corpus, "tokens": tokens, "signals": signals, "start": start,
        }  # fmt: skip
        student = self.once("student", distill, DecoderStudent)
        return {**given, "student": student, "controls": self.once("controls", control, DecoderControls)}

    def _texts_and_teacher(self) -> tuple[Corpus, Teacher]:
        """Run the stages that come before the student is begun: its texts are whole, the teacher's answers included."""
        task: Any = self.recipe.task
        corpus, teacher = self.texts_and_teacher()

        def answer(folder: Path) -> AnsweredCorpus:
            from edgedistill.distill.decoder.answers import answer

            threads = getattr(self.recipe.teacher, "threads", 1)
            return answer(task.answers, task=task, teacher=teacher, corpus=corpus, folder=folder, threads=threads)

        return (self.once("answers", answer, AnsweredCorpus) if asks_the_teacher(self.recipe) else corpus), teacher

    def _quantize(self, made: dict[str, Any]) -> dict[str, QuantizedDecoder]:
        def measure(folder: Path) -> MeasuredImportance:
            from edgedistill.quantize.importance import measure

            return measure(made["student"], made["signals"], folder)

        def make(options: Any) -> Callable[[Path], QuantizedDecoder]:
            def quantize(folder: Path) -> QuantizedDecoder:
                from edgedistill.quantize.decoder import quantize

                values = {name: made[name] for name in ("student", "corpus", "signals")}
                return quantize(options, **values, importance=importance, folder=folder)

            return quantize

        read = reads_importance(self.recipe.quantize)
        importance = self.once("importance", measure, MeasuredImportance) if read else None
        return {
            options.method: self.once(f"quantize-{options.method}", make(options), QuantizedDecoder)
            for options in self.recipe.quantize
        }

    def _export(self, made: dict[str, Any]) -> dict[str, DecoderArtifact]:
        recipe = self.recipe

        def make(options: Any) -> Callable[[Path], DecoderArtifact]:
            def export(folder: Path) -> DecoderArtifact:
                from edgedistill.export.decoder import export

                values = {name: made[name] for name in ("task", "teacher", "signals", "start", "student", "quantized")}
                return export(
                    options, name=recipe.name, version=recipe.version, licence=recipe.licence,
                    recipe_sha256=recipe_sha256(recipe), system=recipe.data.system, **values, folder=folder,
                )  # fmt: skip

            return export

        return {
            options.format: self.once(f"export-{options.format}", make(options), DecoderArtifact)
            for options in recipe.export
        }

    def _benchmark(self, made: dict[str, Any]) -> DecoderBenchmark:
        def benchmark(folder: Path) -> DecoderBenchmark:
            from edgedistill.benchmark.decoder.stage import benchmark

            names = ("teacher", "signals", "student", "controls", "quantized", "artifacts")
            return benchmark(self.recipe.benchmark, **{name: made[name] for name in names}, folder=folder)

        return self.once("benchmark", benchmark, DecoderBenchmark)

    def _report(self, made: dict[str, Any], measured: DecoderBenchmark) -> Outcome:
        def report(folder: Path) -> Report:
            from edgedistill.report.decoder.stage import report

            return report(self.recipe, **made, benchmark=measured, folder=folder)

        return self.concluded(self.once("report", report, Report), made, measured)
