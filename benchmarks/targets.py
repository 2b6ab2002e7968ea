"""What finished builds reached, against what this project promises of them: speed, size, quality, and the controls.

Run: python benchmarks/targets.py RUN_FOLDER [RUN_FOLDER ...]      (each holds a finished build)

Nothing is measured here: every number is read from the build's own benchmark, which measured teacher and artifacts
interleaved on this machine. Of the quantized files, the one that the report puts forward is judged; a static student is
held to 100 times the teacher's speed and 90 % of its quality, any other to 10 times, a tenth of the bytes, and 97 %.
Of sentence vectors 95 % of recall@5 at 10 times the speed is asked, and of int8 a mean cosine of 0.995 to the float
student's vectors. Exits with 1 where a target is missed.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.results import BenchmarkResult, Ratio, Report, Subject
from edgedistill.statistics import accuracy, difference
from edgedistill.tasks._task import task_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Metric, Signals, Student

SPEED = "batch_1_short"
VECTORS = "sentence_embedding"


@dataclass(frozen=True)
class Line:
    """One target, and what was reached."""

    what: str
    reached: str
    kept: bool | None  # None: nothing was promised


def newest(run: Path, stage: str) -> Path:
    """Return the finished folder of a stage."""
    return max(run.glob(f"stages/{stage}-*/result.json"), key=lambda file: file.stat().st_mtime).parent


def share(metric: Metric) -> str:
    """Return a share as a percentage with its interval."""
    return f"{100 * metric.value:.1f} % ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def points(metric: Metric) -> str:
    """Return a difference of shares in points with its interval."""
    return f"{100 * metric.value:+.2f} points ({100 * metric.low:+.2f} to {100 * metric.high:+.2f})"


def times(ratio: Ratio) -> str:
    """Return a ratio with the range of its rounds."""
    return f"{ratio.median:.3g}x ({ratio.low:.3g} to {ratio.high:.3g})"


def shipped(measured: BenchmarkResult, report: Report) -> Subject:
    """Return the quantized file that the report puts forward, or the smallest one if it puts none forward."""
    small = [subject for subject in measured.subjects if subject.role == "artifact" and subject.scheme != "float32"]
    chosen = [subject for subject in small if subject.name == report.recommended]
    return (chosen or sorted(small, key=lambda subject: subject.model_bytes))[0]


def of_speed_and_size(subject: Subject, teacher: Subject, *, static: bool) -> Iterator[Line]:
    """Yield the ratios to the teacher."""
    wanted = 100 if static else 10
    speed = subject.speedup[SPEED]
    yield Line(f"p50 at batch 1, {wanted}x lower", times(speed), speed.median >= wanted)
    for workload, ratio in subject.speedup.items():
        if workload != SPEED:
            yield Line(f"  {workload}", times(ratio), None)
    yield Line("  to the teacher as ONNX float32", times(subject.speedup_exported[SPEED]), None)
    size = teacher.model_bytes / subject.model_bytes
    yield Line("file, 10x smaller", f"{size:.1f}x, {subject.model_bytes / 1e6:.2f} MB", size >= 10)


def of_quality(subject: Subject, wanted: float) -> Iterator[Line]:
    """Yield what is retained of the teacher's metric on each split."""
    for split, quality in subject.quality.items():
        if quality.retained is not None:
            kept = quality.retained.value >= wanted if split == "test" else None
            what = f"retained on test, {wanted:.0%}" if split == "test" else f"  on {split}"
            yield Line(what, share(quality.retained), kept)


def of_quantization(run: Path, subject: Subject) -> Iterator[Line]:
    """Yield what the quantized file lost against the float student, item by item."""
    signals, student = Signals.load(newest(run, "signals")), Student.load(newest(run, "student"))
    task, gold = task_of(signals.task), np.asarray(SplitSignals(signals, "test").labels)
    floats = np.load(student.path(student.evaluation.outputs["test"]))
    own = np.load(newest(run, "benchmark") / "answers" / subject.name / "test.npy")
    lost = difference(task.right(own, gold), task.right(floats, gold))
    yield Line("at most 0.5 points below its float student", points(lost), lost.value >= -0.005)
    if signals.task == VECTORS:
        cosine = 1 - task.divergence(floats, own)
        yield Line("mean cosine to it, 0.995", f"{cosine:.5f}", cosine >= 0.995)
        return
    agreed = accuracy(task.agree(floats, own, gold))
    yield Line("agreement with it, 99 %", share(agreed), agreed.value >= 0.99)


def of_controls(measured: BenchmarkResult) -> Iterator[Line]:
    """Yield the differences to the controls, on the mean of test and challenge sets."""
    for seed in measured.seeds:
        yield Line(f"over its no-teacher twin, seed {seed.seed}", points(seed.mean), seed.mean.low > 0)
    for comparison in measured.controls:
        if comparison.control == "no_teacher" and not measured.seeds:
            yield Line("over its no-teacher twin, one seed", points(comparison.mean), comparison.mean.low > 0)
        if comparison.control.startswith("tfidf") or comparison.control == "untrained":
            yield Line(f"over {comparison.control.replace('_', ' ')}", points(comparison.mean), comparison.mean.low > 0)
            challenge = [metric for split, metric in comparison.differences.items() if split != "test"]
            if challenge:
                mean = float(np.mean([metric.value for metric in challenge]))
                yield Line("  on the mean of the challenge sets", f"{100 * mean:+.2f} points", None)


def main() -> int:
    """Print every target of every run."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("runs", type=Path, nargs="+")
    missed = 0
    for run in arguments.parse_args().runs:
        measured, report = BenchmarkResult.load(newest(run, "benchmark")), Report.load(newest(run, "report"))
        vectors = Signals.load(newest(run, "signals")).task == VECTORS
        static = Student.load(newest(run, "student")).kind == "static" and not vectors
        teacher, subject = measured.subjects[0], shipped(measured, report)
        valid = "valid" if measured.validity.valid else "NOT VALID"
        print(f"\n{run.name}: {subject.title}, against {teacher.title}")
        print(f"  {measured.environment.cpu}, {measured.environment.threads} thread(s), {valid}")
        for reason in measured.validity.reasons:
            print(f"    {reason}")
        lines = [
            *of_speed_and_size(subject, teacher, static=static),
            *of_quality(subject, 0.95 if vectors else 0.90 if static else 0.97),
            *of_quantization(run, subject),
            *of_controls(measured),
        ]
        for line in lines:
            mark = {True: "kept", False: "MISSED", None: ""}[line.kept]
            print(f"  {mark:6}  {line.what:44} {line.reached}")
        missed += sum(line.kept is False for line in lines)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
