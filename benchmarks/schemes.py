"""One trained student of a language model in every scheme: bytes, divergence, agreement, quality, speed.

Run: python benchmarks/schemes.py RECIPE [--out runs] [--without METHOD ...]

The student of a finished build is found again in its run folder; the recipe's own list of methods is replaced by all
that its formats can store, with every option at its default. All files, the teacher as its users run it and the teacher
in each format are measured interleaved, each in a fresh process, by the build's own benchmark.
"""

import argparse
import json
from pathlib import Path

from rich.console import Console

from edgedistill import pipeline, progress, registry
from edgedistill.decoder_results import DecoderBenchmark, DecoderSubject
from edgedistill.decoder_values import DecoderQuality
from edgedistill.recipe import Recipe
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.values import Metric

METHODS = "edgedistill.quantize.methods"


def with_every_scheme(recipe: Recipe, without: list[str]) -> Recipe:
    """Return the recipe with every method of its task that one of its formats stores."""
    found = []
    for name in registry.names(METHODS):
        options = registry.load(METHODS, name).Options
        if recipe.task.kind in options.TASKS and name not in without:
            found.append(options(method=name))
    return recipe.model_copy(update={"quantize": tuple(found)})


def told(metric: Metric | None, factor: float = 1.0, digits: int = 4) -> str:
    """Return a number with its interval."""
    if metric is None:
        return "-"
    value, low, high = (f"{factor * one:.{digits}g}" for one in (metric.value, metric.low, metric.high))
    return f"{value} ({low} to {high})"


def row(subject: DecoderSubject, bits: float | None, quality: DecoderQuality) -> str:
    """Return a model as a row of the table."""
    cells = (
        subject.title,
        f"{subject.model_bytes / 1e6:.1f} MB",
        "-" if bits is None else f"{bits:.2f}",
        told(quality.kl_student, digits=3),
        told(quality.agreement_student, 100),
        f"{quality.perplexity.value:.4g}",
        told(quality.judged, 100),
        told(quality.retained, 100),
        f"{subject.decode.tokens_per_s:.1f}",
        f"{subject.prefill.tokens_per_s:.0f}",
        f"{subject.speedup.decode.median:.3g}x ({subject.speedup.decode.low:.3g} to {subject.speedup.decode.high:.3g})",
        f"{subject.memory.peak_median_bytes / 1e6:.0f} MB",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Build the student in every scheme, and print what was measured."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("recipe", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("runs"))
    arguments.add_argument("--without", nargs="*", default=[])
    asked = arguments.parse_args()
    progress.show_on(Console(width=200))
    recipe = with_every_scheme(load(asked.recipe), asked.without)
    base, out = asked.recipe.absolute().parent, asked.out.absolute()
    measured = pipeline.build(recipe, base, out, until="bench").benchmark
    assert isinstance(measured, DecoderBenchmark)
    run = Run(out / recipe.name)
    stages = pipeline.stages(recipe, base, run)
    bits: dict[str, float] = {}
    for options in recipe.quantize:
        name = f"quantize-{options.method}"
        made = json.loads((run.folder_of(name, stages[name].needs) / "result.json").read_text(encoding="utf-8"))
        bits[options.method] = made["bits_per_weight"]
    metric = measured.subjects[0].quality["test"].metric
    print(
        f"\n| model | file | bits a weight | KL from the float student, nats | same likeliest token, % | perplexity | "
        f"{metric}, % | of the teacher's, % | decode, tokens/s | prefill, tokens/s | decode over the teacher | peak |"
    )
    print(f"|{'---|' * 12}")
    for subject in measured.subjects:
        print(row(subject, bits.get(subject.scheme), subject.quality["test"]))
    validity = measured.validity
    print(f"\nvalid: {validity.valid}; {'; '.join((*validity.wrong, *validity.disturbed)) or 'nothing disturbed it'}")
    print(f"threads: {measured.environment.threads}, {measured.environment.cpu}, {measured.rounds} rounds")


if __name__ == "__main__":
    main()
