"""Rounds of language models: every model in a fresh process, one after another, again and again: A B C A B C."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from edgedistill.benchmark import process
from edgedistill.benchmark.decoder.jobs import Load, Passes, SpeedAnswer, SpeedJob
from edgedistill.benchmark.subjects import Candidate
from edgedistill.errors import StageError
from edgedistill.files import clear
from edgedistill.progress import bar

ROWS = 4


def choose(ids: np.ndarray, prompt_tokens: int, decode_tokens: int, rows: int = ROWS) -> Passes:
    """Return rows of one length, cut out of a split evenly; where it is too short, it is read again from its start.

    Args:
        ids: (tokens,) int; of all rows of the split.
        prompt_tokens: read in one prefill; llama-bench's pp512 has 512.
        decode_tokens: read one by one after it; llama-bench's tg128 has 128.
        rows: how many.

    Raises:
        StageError: the split has no token.
    """
    length = prompt_tokens + decode_tokens
    if not len(ids):
        raise StageError("the test split has no token to time a model with; add texts to it")
    starts = np.linspace(0, max(0, len(ids) - length), rows).astype(int)
    return Passes([np.take(ids, range(start, start + length), mode="wrap").tolist() for start in starts], prompt_tokens)


def load_of(candidate: Candidate, threads: int, context_tokens: int) -> Load:
    """Return how a candidate is loaded."""
    return Load(candidate.runtime, str(candidate.root), candidate.file, threads, context_tokens, candidate.folding)


def measure_rounds(
    candidates: Sequence[Candidate],
    passes: Passes,
    *,
    threads: int,
    rounds: int,
    calls: int,
    seconds: float,
    folder: Path,
) -> dict[str, list[SpeedAnswer]]:
    """Return what each candidate's process saw in each round; `folder` gets the same as round_<n>.json.

    Rounds of an interrupted measurement are not gone on from: they would be from another time.

    Args:
        candidates: what is measured side by side.
        passes: what each reads.
        threads: of each process.
        rounds: how often each is measured.
        calls: fewest passes over a row in one process.
        seconds: fewest in one process.
        folder: is emptied.
    """
    clear(folder)
    measured: dict[str, list[SpeedAnswer]] = {candidate.name: [] for candidate in candidates}
    with bar("measuring speed", rounds * len(candidates), "runs", still=True) as advance:
        for number in range(1, rounds + 1):
            for candidate in candidates:
                measured[candidate.name].append(_measure(candidate, passes, threads, calls, seconds))
                advance(1)
            samples = {name: asdict(answers[-1]) for name, answers in measured.items()}
            (folder / f"round_{number}.json").write_text(f"{json.dumps(samples)}\n", encoding="utf-8")
    return measured


def measure_single_threaded(candidates: Sequence[Candidate], passes: Passes) -> dict[str, SpeedAnswer]:
    """Return one cycle of each candidate with one thread, to see whether more threads help or harm it."""
    with bar("measuring with one thread", len(candidates), "runs", still=True) as advance:
        found = {}
        for candidate in candidates:
            found[candidate.name] = _measure(candidate, passes, threads=1, calls=1, seconds=0.0)
            advance(1)
    return found


def _measure(candidate: Candidate, passes: Passes, threads: int, calls: int, seconds: float) -> SpeedAnswer:
    job = SpeedJob(load_of(candidate, threads, len(passes.rows[0])), passes, calls, seconds)
    return SpeedAnswer.read(process.run(job, candidate.title))
