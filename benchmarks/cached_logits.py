"""Drawn tokens against the likeliest ones against all: what a language model's student learns from each cache.

Run: python benchmarks/cached_logits.py RECIPE [--out runs] [--ways sampled top_k] [--draws 50] [--k 10]

The recipe's student is distilled once for each way of keeping the teacher's logits, from the same teacher, rows, seed
and number of steps; `k` is chosen so that the likeliest tokens take about the bytes that the drawn ones do (the first
table says what each took). All tokens (`dense`), some hundred times the bytes, stand for what either loses. Printed of
the float student on the test set: perplexity, divergence from the teacher, and the calibration error of its likeliest
token: |how sure - how often right|, over 15 bins of equally many positions.

Source: Anshumann et al. 2025, arXiv:2503.16870, section 3 (the likeliest tokens alone teach too much confidence);
Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI (the error, by bins).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgedistill import pipeline, progress
from edgedistill.decoder_values import DecoderSignals, DecoderStudent
from edgedistill.recipe import Recipe
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.training.language import rows_of

BINS = 15


def ways(recipe: Recipe, asked: argparse.Namespace) -> Iterator[tuple[str, Recipe]]:
    """Yield the recipe with each way of keeping logits, without controls and further seeds."""
    task: Any = recipe.task
    caches = {
        f"sampled, {asked.draws} draws": {"way": "sampled", "draws": asked.draws},
        f"top_k, {asked.k} and the rest": {"way": "top_k", "k": asked.k},
        "dense": {"way": "dense"},
    }
    distill = recipe.distill.model_copy(update={"controls": False, "seeds": 1})
    for name, cache in caches.items():
        if cache["way"] not in asked.ways:
            continue
        kept = task.cache.model_copy(update=cache)
        yield name, recipe.model_copy(update={"task": task.model_copy(update={"cache": kept}), "distill": distill})


def calibration_error(log_probs: np.ndarray, tokens: np.ndarray) -> tuple[float, float]:
    """Return the expected calibration error of the likeliest token, and the mean of how sure minus how often right.

    Args:
        log_probs: (positions, vocabulary).
        tokens: (positions,) int; those that follow.
    """
    best = np.asarray(log_probs.argmax(axis=1))
    sure = np.exp(log_probs[np.arange(len(best)), best].astype(np.float64))
    right = best == tokens
    bins = np.array_split(np.argsort(sure, kind="stable"), BINS)
    error = sum(len(some) * abs(sure[some].mean() - right[some].mean()) for some in bins) / len(best)
    return float(error), float(sure.mean() - right.mean())


def main() -> None:
    """Distil the student from each cache, and print what it became."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("recipe", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("runs"))
    arguments.add_argument("--ways", nargs="+", choices=["sampled", "top_k", "dense"], default=["sampled", "top_k"])
    arguments.add_argument("--draws", type=int, default=50)
    arguments.add_argument("--k", type=int, default=10)
    asked = arguments.parse_args()
    progress.show_on(Console(width=200))
    base, out = asked.recipe.absolute().parent, asked.out.absolute()
    rows = []
    for name, recipe in ways(load(asked.recipe), asked):
        pipeline.build(recipe, base, out, until="distill")
        run = Run(out / recipe.name)
        stages = pipeline.stages(recipe, base, run)
        signals = DecoderSignals.load(run.folder_of("signals", stages["signals"].needs))
        student = DecoderStudent.load(run.folder_of("student", stages["student"].needs))
        quality = student.evaluation.quality["test"]
        log_probs = np.load(student.path(student.reference["test"]), mmap_mode="r")
        error, confidence = calibration_error(np.asarray(log_probs), rows_of(signals, "test").counted.tokens)
        loss, kl, agreement = np.log(quality.perplexity.value), quality.kl_teacher, quality.agreement_teacher
        assert kl is not None
        assert agreement is not None
        rows.append(
            f"| {name} | {signals.logits['train'].bytes_per_position:.0f} | {student.training.steps} "
            f"| {loss:.4f} ({np.log(quality.perplexity.low):.4f} to {np.log(quality.perplexity.high):.4f}) "
            f"| {kl.value:.4f} ({kl.low:.4f} to {kl.high:.4f}) | {100 * agreement.value:.1f} % "
            f"| {100 * quality.judged.value:.1f} % | {100 * error:.2f} | {100 * confidence:+.2f} |"
        )
    metric = "quality as the task judges it"
    print(
        "\n| kept of the teacher | bytes a position | steps | loss on test, nats | KL from the teacher, nats "
        f"| its likeliest token | {metric} | calibration error, points | too sure by, points |"
    )
    print("\n".join((f"|{'---|' * 9}", *rows)))


if __name__ == "__main__":
    main()
