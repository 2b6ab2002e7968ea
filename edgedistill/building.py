"""A build at work: what every order of stages shares, each stage run once, texts and teacher first."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgedistill import planning, registry
from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.errors import GateError, StageError
from edgedistill.progress import say
from edgedistill.publish import publish
from edgedistill.recipe import Recipe
from edgedistill.results import BenchmarkResult, Report
from edgedistill.run import Run
from edgedistill.stages import Stage, stages
from edgedistill.values import Corpus, StageValue, Teacher

V = TypeVar("V", bound=StageValue)
_MISSES = {"FAIL": "misses", "INCONCLUSIVE": "does not prove"}
VERBS = ("distill", "quantize", "export", "bench", "report")


@dataclass(frozen=True)
class Outcome:
    """What a build made."""

    folder: Path
    report: Report | None
    benchmark: BenchmarkResult | DecoderBenchmark | None


class Building(ABC):
    """One pass over the stages of one recipe."""

    def __init__(self, recipe: Recipe, base: Path, run: Run, named: Mapping[str, Stage], strict: bool) -> None:
        self.recipe, self.base, self.run, self.named, self.strict = recipe, base, run, named, strict

    @abstractmethod
    def until(self, verb: str) -> Outcome:
        """Run the stages up to those of a verb."""

    def once(self, name: str, make: Callable[[Path], V], returns: type[V]) -> V:
        """Return what a stage made, now or in an earlier build."""
        stage, place = self.named[name], f"[{list(self.named).index(name) + 1}/{len(self.named)}] {name}"
        cached = self.run.finished(name, stage.needs)
        if not cached:
            say(place)
        began = time.monotonic()
        value = self.run.once(name, stage.needs, make, returns)
        say(f"{place}: cached" if cached else f"{place}: done in {time.monotonic() - began:.0f} s")
        return value

    def texts_and_teacher(self) -> tuple[Corpus, Teacher]:
        """Run the first two stages, which every task begins with."""
        recipe, base = self.recipe, self.base
        kind: Any = registry.load("edgedistill.teachers", recipe.teacher.kind)
        task: Any = recipe.task

        def collect(folder: Path) -> Corpus:
            from edgedistill.corpus.stage import collect

            labels = planning.named_labels(task)
            if labels is None:
                labels = kind.labels_of(recipe.teacher, base, folder / "progress")
            return collect(recipe.data, labels, base, folder, several=task.SEVERAL)

        corpus = self.once("corpus", collect, Corpus)
        self.named = stages(recipe, base, self.run)  # now that the corpus is known
        teacher = self.once("teacher", lambda folder: kind.prepare(recipe.teacher, task, corpus, base, folder), Teacher)
        return corpus, teacher

    def concluded(
        self, written: Report, made: Mapping[str, Any], measured: BenchmarkResult | DecoderBenchmark
    ) -> Outcome:
        """Put report and artifacts where people look for them, and return what the build made.

        Raises:
            StageError: another thing was measured than the one that ships.
            GateError: a promise is broken, or where the build is strict, not proven.
        """
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
