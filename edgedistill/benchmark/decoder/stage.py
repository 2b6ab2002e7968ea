"""Measure a language model's teacher and artifacts side by side; change nothing.

Quality first, at every held-out position through each file's own runtime, then speed in interleaved rounds. What is
written: `rounds/` with every raw sample, `answers/` with what each model says of each position.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgedistill import provenance, registry
from edgedistill.benchmark import latency as of_all
from edgedistill.benchmark.decoder import latency, validity
from edgedistill.benchmark.decoder.differences import Measured, comparisons, seeds, waterfall
from edgedistill.benchmark.decoder.jobs import Passes, SpeedAnswer
from edgedistill.benchmark.decoder.quality import Answers, collect, files_of
from edgedistill.benchmark.decoder.rounds import choose, measure_rounds, measure_single_threaded
from edgedistill.benchmark.decoder.subjects import candidates
from edgedistill.benchmark.subjects import Candidate
from edgedistill.benchmark.validity import reasons_of_place
from edgedistill.decoder_results import DecoderBenchmark, DecoderSubject, Flip
from edgedistill.decoder_values import (
    DecoderArtifact,
    DecoderControls,
    DecoderSignals,
    DecoderStudent,
    QuantizedDecoder,
)
from edgedistill.models.load import load_tokenizer
from edgedistill.recipe_sections import BenchmarkOptions
from edgedistill.results import Environment, Validity
from edgedistill.targets import _cpu
from edgedistill.targets._target import Target
from edgedistill.training.decoder_quality import flips
from edgedistill.values import Teacher

LIBRARIES = (
    "edgedistill", "numpy", "llama-cpp-python", "gguf", "onnxruntime", "onnxruntime-genai", "tokenizers", "torch",
    "transformers",
)  # fmt: skip


def benchmark(
    options: BenchmarkOptions, *, teacher: Teacher, signals: DecoderSignals, student: DecoderStudent,
    controls: DecoderControls, quantized: Mapping[str, QuantizedDecoder], artifacts: Mapping[str, DecoderArtifact],
    folder: Path,
) -> DecoderBenchmark:  # fmt: skip
    """Return quality, speed, memory and size of the teacher and of every artifact.

    Args:
        options: how long, how often, with how many threads.
        folder: gets rounds/ and answers/; answers of finished artifacts are found again after an interruption.

    Raises:
        StageError: a measuring process failed, or this machine cannot stand for the target.
    """
    started, splits = time.monotonic(), tuple(signals.reference)
    target, host = _target(options.target), _target("host")
    measured = [*candidates(teacher, artifacts, _folding(signals))]
    ids = np.load(signals.path(signals.splits["test"].token_ids), mmap_mode="r")
    passes = choose(ids, options.prompt_tokens, options.decode_tokens)
    kept, working = folder / "answers", folder / "progress" / "answers"
    working.mkdir(parents=True, exist_ok=True)
    if kept.exists():  # an earlier try was interrupted at its very end
        kept.replace(working)
    asked = files_of(signals, student, splits)
    answers = collect(measured, asked, passes, signals.vocabulary, options.threads, working)
    rounds = measure_rounds(
        measured, passes, threads=options.threads, rounds=options.rounds, calls=options.calls, seconds=options.seconds,
        folder=folder / "rounds",
    )  # fmt: skip
    single = measure_single_threaded(measured, passes) if options.threads > 1 else {}
    working.replace(kept)
    told = Measured(signals, student, controls, {name: one.positions for name, one in answers.items()})
    describe = _Describe(passes, rounds, single, answers, told, student, options.threads)
    subjects = tuple(describe.subject(candidate) for candidate in measured)
    disturbed = [*reasons_of_place(target, host, options.threads)]
    wrong: list[str] = []
    for subject, candidate in zip(subjects, measured, strict=True):
        disturbed += validity.disturbances_of(subject, options.threads)
        wrong += validity.faults_of(subject, candidate.sha256, options.threads)
    return DecoderBenchmark(
        splits=splits,
        conversations=signals.conversations,
        rounds=options.rounds,
        subjects=subjects,
        waterfall=tuple(waterfall(told, artifacts, told.differences)),
        controls=tuple(comparisons(told, told.differences, lambda quality: quality.perplexity)),
        seeds=tuple(seeds(told)),
        exact_waterfall=tuple(waterfall(told, artifacts, told.exact_differences) if signals.conversations else ()),
        exact_controls=tuple(
            comparisons(told, told.exact_differences, lambda quality: quality.judged) if signals.conversations else ()
        ),
        student_quality=student.evaluation.quality,
        simulated_quality={method: model.evaluation.quality for method, model in quantized.items()},
        environment=_environment(options, host),
        validity=Validity(valid=not disturbed and not wrong, disturbed=tuple(disturbed), wrong=tuple(wrong)),
        seconds=time.monotonic() - started,
    )


def _folding(signals: DecoderSignals) -> tuple[str, str] | None:
    """Return the files that say how a teacher of more tokens speaks in the student's."""
    whole = signals.whole
    return None if whole is None else (str(signals.path(whole.kept)), str(signals.path(whole.first)))


class _Describe:
    """What was measured of each candidate, as a value."""

    def __init__(
        self, passes: Passes, rounds: Mapping[str, list[SpeedAnswer]], single: Mapping[str, SpeedAnswer],
        answers: Mapping[str, Answers], told: Measured, student: DecoderStudent, threads: int,
    ) -> None:  # fmt: skip
        self.passes, self.rounds, self.single, self.answers = passes, rounds, single, answers
        self.told, self.threads = told, threads
        self.tokenizer = load_tokenizer(student.path(student.checkpoint))

    def subject(self, candidate: Candidate) -> DecoderSubject:
        rounds, said = self.rounds[candidate.name], self.answers[candidate.name]
        loads_s = [answer.load_s for answer in rounds]
        beside, apart = (self.rounds.get(name) for name in (candidate.float_student, candidate.exported_teacher))
        return DecoderSubject(
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
            memory=of_all.memory_of(rounds),
            threads=rounds[0].threads,
            kv_cache_tokens=len(self.passes.rows[0]),
            kv_cache_bytes=rounds[0].kv_cache_bytes,
            prefill=latency.prefill_of(rounds, self.passes),
            decode=latency.decode_of(rounds, self.passes, self.single.get(candidate.name)),
            ttft=latency.ttft_of(rounds),
            speedup=latency.speedup(self.rounds["teacher"], rounds),
            speedup_float=None if beside is None else latency.speedup(beside, rounds),
            speedup_exported=None if apart is None else latency.speedup(apart, rounds),
            quality={split: self.told.quality(candidate.name, split) for split in self.told.splits},
            flips={split: self._flipped(candidate.name, split) for split in self.told.splits},
            worst_flips={split: self._worst_flips(candidate.name, split) for split in self.told.splits},
            noise=latency.noise_of(rounds, self.threads),
            outputs_checked=validity.answers_agree(rounds, said.tops),
        )

    def _flipped(self, name: str, split: str) -> int:
        return int((self.told.said[name][split]["top"] != self.told.student[split]["top"]).sum())

    def _worst_flips(self, name: str, split: str) -> tuple[Flip, ...]:
        found = flips(self.told.said[name][split], self.told.student[split], self.told.starts[split])
        return tuple(
            Flip(
                position=one.position, row=one.row, token=self._shown(one.token), instead=self._shown(one.instead),
                reference_margin=one.reference_margin, margin=one.margin,
            )
            for one in found
        )  # fmt: skip

    def _shown(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))


def _target(name: str) -> Target:
    found: Target = registry.load("edgedistill.targets", name).target()
    return found


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
