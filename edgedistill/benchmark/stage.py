"""Measure teacher and artifacts side by side; change nothing.

Quality first, then latency in interleaved rounds. What is written: `rounds/` with every raw sample, `answers/` with
every artifact's logits.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgedistill import provenance, registry
from edgedistill.benchmark import latency, validity
from edgedistill.benchmark.answers import Answers, collect
from edgedistill.benchmark.interleave import measure_rounds
from edgedistill.benchmark.jobs import Batches
from edgedistill.benchmark.quality import Yardstick, comparisons, read_outputs, seeds, waterfall
from edgedistill.benchmark.subjects import Candidate, candidates
from edgedistill.benchmark.workloads import Workload, choose
from edgedistill.corpus.read import read
from edgedistill.errors import StageError
from edgedistill.recipe_sections import BenchmarkOptions
from edgedistill.results import BenchmarkResult, Environment, SplitQuality, Subject, Validity
from edgedistill.targets import _cpu
from edgedistill.targets._target import Target
from edgedistill.tasks._task import task_of
from edgedistill.values import Artifact, Controls, Corpus, QuantizedModel, Signals, Student, Teacher

LIBRARIES = ("edgedistill", "numpy", "onnxruntime", "tokenizers", "torch", "transformers")
SAME_BATCH_TOLERANCE = 1e-4
OTHER_BATCH_TOLERANCE = 1e-3  # padding and batch size move float rounding


def benchmark(
    options: BenchmarkOptions,
    *,
    corpus: Corpus,
    teacher: Teacher,
    signals: Signals,
    student: Student,
    controls: Controls | None,
    quantized: Mapping[str, QuantizedModel],
    artifacts: Mapping[str, Artifact],
    folder: Path,
) -> BenchmarkResult:
    """Return quality, latency, memory and size of the teacher and of every artifact.

    Args:
        options: how long, how often, with how many threads.
        corpus: whose test split is timed, and on whose held-out splits quality is measured.
        teacher: what everything is held against.
        signals: what the teacher said.
        student: the float student before export.
        controls: None where the recipe switched them off.
        quantized: by method.
        artifacts: by format.
        folder: gets rounds/ and answers/; answers of finished artifacts are found again after an interruption.

    Raises:
        StageError: a measuring process failed, or this machine cannot stand for the target.
        DataError: a held-out split has no label.
    """
    started, task = time.monotonic(), task_of(teacher.task).Options
    target, host = _target(options.target), _target("host")
    _require_target_is_here(target, host)
    yardstick = _yardstick(corpus, teacher, signals, student)
    texts = {split: read(corpus, split).texts for split in corpus.evaluation_splits}
    workloads = choose(np.diff(np.load(signals.path(signals.splits["test"].offsets))))
    batches: Batches = {
        workload.name: [[texts["test"][row] for row in rows] for rows in workload.batches] for workload in workloads
    }
    measured = candidates(teacher, artifacts)
    shipped = [candidate for candidate in measured if candidate.role == "artifact"]
    kept, working = folder / "answers", folder / "progress" / "answers"
    working.mkdir(parents=True, exist_ok=True)
    if kept.exists():  # an earlier try was interrupted at its very end
        kept.replace(working)
    answers = collect(shipped, texts, batches, corpus.labels, options.threads, working)
    pauses_s = {workload.name: workload.pause_s for workload in workloads}
    rounds = measure_rounds(measured, batches, pauses_s, options, folder / "rounds")
    working.replace(kept)
    subjects = tuple(
        _subject(candidate, rounds, workloads, yardstick, answers, options.threads) for candidate in measured
    )
    disturbed = [*validity.reasons_of_place(target, host, options.threads)]
    wrong: list[str] = []
    for subject, candidate in zip(subjects, measured, strict=True):
        disturbed += validity.disturbances_of(subject, options.threads)
        wrong += validity.faults_of(subject, candidate.sha256)
    return BenchmarkResult(
        metric_name=task.METRIC,
        agreement_name=task.AGREEMENT,
        divergence_name=task.DIVERGENCE,
        splits=corpus.evaluation_splits,
        rounds=options.rounds,
        subjects=subjects,
        waterfall=tuple(waterfall(yardstick, artifacts, {name: a.logits for name, a in answers.items()})),
        controls=() if controls is None else tuple(comparisons(yardstick, controls)),
        seeds=() if controls is None else tuple(seeds(yardstick, controls, student.training.seed)),
        student_quality=yardstick.quality(yardstick.student, beside_student=False),
        simulated_quality={
            method: yardstick.quality(read_outputs(model, model.evaluation)) for method, model in quantized.items()
        },
        environment=_environment(options, host),
        validity=Validity(valid=not disturbed and not wrong, disturbed=tuple(disturbed), wrong=tuple(wrong)),
        seconds=time.monotonic() - started,
    )


def _target(name: str) -> Target:
    found: Target = registry.load("edgedistill.targets", name).target()
    return found


def _require_target_is_here(target: Target, host: Target) -> None:
    lacking = target.lacking_on(host)
    if lacking is not None:
        raise StageError(f"target {target.name} cannot be measured here: this machine {lacking}; measure on host")


def _yardstick(corpus: Corpus, teacher: Teacher, signals: Signals, student: Student) -> Yardstick:
    held_out = {split: signals.splits[split] for split in corpus.evaluation_splits}
    return Yardstick(
        task=task_of(teacher.task),
        gold={split: np.load(signals.path(said.labels)) for split, said in held_out.items()},
        teacher={split: np.load(signals.path(said.outputs)) for split, said in held_out.items()},
        student=read_outputs(student, student.evaluation),
        turned=signals.projection is not None,
    )


def _subject(
    candidate: Candidate,
    measured: Mapping[str, latency.Rounds],
    workloads: Sequence[Workload],
    yardstick: Yardstick,
    answers: Mapping[str, Answers],
    threads: int,
) -> Subject:
    rounds, exported = measured[candidate.name], measured.get(candidate.exported_teacher, ())
    unquantized = measured.get(candidate.float_student, ())
    loads_s = [answer.load_s for answer in rounds]
    return Subject(
        name=candidate.name,
        title=candidate.title,
        role=candidate.role,
        runtime=candidate.runtime,
        scheme=candidate.scheme,
        sha256=candidate.sha256_now(),
        model_bytes=candidate.model_bytes,
        shipped_bytes=candidate.shipped_bytes,
        load_median_s=float(np.median(loads_s)),
        load_max_s=max(loads_s),
        memory=latency.memory_of(rounds),
        workloads=tuple(latency.workload_of(w.name, w.batch, w.pause_s, rounds) for w in workloads),
        speedup=latency.speedups(measured["teacher"], rounds, lambda timing: timing.whole_ns),
        speedup_model_only=latency.speedups(measured["teacher"], rounds, lambda timing: timing.model_ns),
        speedup_exported=latency.speedups(exported, rounds, lambda timing: timing.whole_ns) if exported else {},
        speedup_float=latency.speedups(unquantized, rounds, lambda timing: timing.whole_ns) if unquantized else {},
        quality=_quality(candidate, yardstick, answers),
        noise=latency.noise_of(rounds, threads),
        kernels=rounds[0].kernels,
        outputs_checked=_outputs_agree(candidate, rounds, workloads, yardstick, answers),
    )


def _quality(candidate: Candidate, yardstick: Yardstick, answers: Mapping[str, Answers]) -> dict[str, SplitQuality]:
    """Return the quality of what ran; none for the exported teacher, which is here for its speed alone."""
    if candidate.role == "teacher_exported":
        return {}
    return yardstick.quality(yardstick.teacher if candidate.role == "teacher" else answers[candidate.name].logits)


def _outputs_agree(
    candidate: Candidate,
    rounds: latency.Rounds,
    workloads: Sequence[Workload],
    yardstick: Yardstick,
    answers: Mapping[str, Answers],
) -> bool:
    """Whether the timed calls answered as the model that quality was measured on.

    An artifact's process that measured quality also answered the workloads' very batches: dynamic quantization takes
    its ranges from the whole batch, so only the same batch gives the same logits. A teacher is float and is held
    against its own cached logits.
    """
    if candidate.role == "artifact":
        return validity.answers_agree(rounds, answers[candidate.name].same_batches, SAME_BATCH_TOLERANCE)
    said = yardstick.teacher["test"]
    expected = {workload.name: [said[list(rows)] for rows in workload.batches] for workload in workloads}
    return validity.answers_agree(rounds, expected, OTHER_BATCH_TOLERANCE)


def _environment(options: BenchmarkOptions, host: Target) -> Environment:
    named = provenance.host()
    return Environment(
        machine=named["machine"],
        cpu=_cpu.name(),
        cpu_features=tuple(sorted(host.cpu_features)),
        logical_cpus=host.threads,
        memory_bytes=host.memory_bytes or 0,
        operating_system=named["operating_system"],
        threads=options.threads,
        versions=provenance.versions(*LIBRARIES),
        target=options.target,
        emulated=False,
    )
