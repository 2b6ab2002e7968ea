"""Rounds: every model in a fresh process, one after another, again and again: A B C A B C.

A machine that slows down while it is measured slows every model of a round alike, and a round's ratio stays true.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgedistill.benchmark import process
from edgedistill.benchmark.jobs import Batches, LatencyAnswer, LatencyJob
from edgedistill.benchmark.subjects import Candidate
from edgedistill.files import clear
from edgedistill.progress import bar
from edgedistill.recipe_sections import BenchmarkOptions


def measure_rounds(
    candidates: Sequence[Candidate],
    workloads: Batches,
    pauses_s: dict[str, float],
    options: BenchmarkOptions,
    folder: Path,
) -> dict[str, list[LatencyAnswer]]:
    """Return what each candidate's process saw in each round; `folder` gets the same as round_<n>.json.

    Rounds of an interrupted measurement are not gone on from: they would be from another time.
    """
    clear(folder)
    measured: dict[str, list[LatencyAnswer]] = {candidate.name: [] for candidate in candidates}
    with bar("measuring latency", options.rounds * len(candidates), "runs", still=True) as advance:
        for number in range(1, options.rounds + 1):
            for candidate in candidates:
                job = LatencyJob(
                    runtime=candidate.runtime,
                    root=str(candidate.root),
                    file=candidate.file,
                    threads=options.threads,
                    workloads=workloads,
                    pauses_s=pauses_s,
                    calls=options.calls,
                    seconds=options.seconds,
                    kernels=number == 1,
                )
                measured[candidate.name].append(LatencyAnswer.read(process.run(job, candidate.title)))
                advance(1)
            samples = {name: asdict(answers[-1]) for name, answers in measured.items()}
            (folder / f"round_{number}.json").write_text(f"{json.dumps(samples)}\n", encoding="utf-8")
    return measured
