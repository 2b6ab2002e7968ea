"""What every candidate says at every held-out position, through its own runtime, in a fresh process.

Nothing is timed here, so two processes run side by side where there are threads and memory for it. A candidate whose
process has ended is not asked again after an interruption: its `done.json` is written last.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedistill.benchmark import process
from edgedistill.benchmark.decoder.jobs import Passes, PositionsJob, SplitFiles, Tops
from edgedistill.benchmark.decoder.rounds import load_of
from edgedistill.benchmark.subjects import Candidate
from edgedistill.decoder_values import DecoderSignals, DecoderStudent
from edgedistill.files import clear, write_atomic
from edgedistill.progress import bar
from edgedistill.targets import host

DONE = "done.json"
AT_ONCE = 2  # processes; each holds a model
MEMORY_OVER_FILE = 2  # what a process takes at its peak, over its model's file: 1.9 of a checkpoint in PyTorch


@dataclass(frozen=True)
class Answers:
    """What one candidate said."""

    positions: dict[str, np.ndarray]  # split -> (positions,) of POSITION
    tops: Tops  # of the rows that are timed


def files_of(signals: DecoderSignals, student: DecoderStudent, splits: Sequence[str]) -> dict[str, SplitFiles]:
    """Return the files that a candidate is asked with, and held against; where it is to write is left open."""
    return {
        name: SplitFiles(
            token_ids=str(signals.path(signals.splits[name].token_ids)),
            offsets=str(signals.path(signals.splits[name].offsets)),
            counts=str(signals.path(signals.splits[name].counts)),
            teacher=str(signals.path(signals.reference[name])),
            student=str(student.path(student.reference[name])),
            positions="",
        )
        for name in splits
    }


def collect(
    candidates: Sequence[Candidate],
    splits: Mapping[str, SplitFiles],
    passes: Passes,
    vocabulary: int,
    threads: int,
    folder: Path,
) -> dict[str, Answers]:
    """Return every candidate's answers, asking those that `folder` has not got.

    Args:
        candidates: what to ask.
        splits: the held-out splits' files.
        passes: rows that are timed, to be answered too.
        vocabulary: ids that the tokenizer knows.
        threads: of the runtime.
        folder: gets a folder for each candidate, with <split>.npy of POSITION.

    Raises:
        StageError: a process failed.
    """
    asked = [candidate for candidate in candidates if not (folder / candidate.name / DONE).exists()]
    jobs = ((_job(one, splits, passes, vocabulary, threads, folder / one.name), one.title) for one in asked)
    at_once = _at_once([candidate.model_bytes for candidate in asked], threads)
    with (
        bar("asking every artifact", len(candidates), "artifacts", len(candidates) - len(asked)) as advance,
        closing(process.run_together(jobs, at_once)) as answers,
    ):
        for candidate, answer in zip(asked, answers, strict=False):
            write_atomic(folder / candidate.name / DONE, json.dumps(answer) + "\n")
            advance(1)
    return {candidate.name: _read(splits, folder / candidate.name) for candidate in candidates}


def _at_once(model_bytes: Sequence[int], threads: int) -> int:
    """Return how many models may be asked side by side: the largest ones together must fit in what memory is free."""
    import psutil

    fit = min(AT_ONCE, host.target().threads // threads)
    largest = MEMORY_OVER_FILE * sum(sorted(model_bytes)[-AT_ONCE:])
    return max(1, fit) if largest <= psutil.virtual_memory().available else 1


def _job(
    candidate: Candidate,
    splits: Mapping[str, SplitFiles],
    passes: Passes,
    vocabulary: int,
    threads: int,
    place: Path,
) -> PositionsJob:
    """Return what a candidate is asked, in a folder that holds nothing yet."""
    clear(place)
    longest = max(int(np.diff(np.load(files.offsets)).max()) for files in splits.values())
    return PositionsJob(
        load=load_of(candidate, threads, max(longest, len(passes.rows[0]))),
        passes=passes,
        vocabulary=vocabulary,
        splits={name: replace(files, positions=str(place / f"{name}.npy")) for name, files in splits.items()},
    )


def _read(splits: Mapping[str, SplitFiles], place: Path) -> Answers:
    tops = Tops(**json.loads((place / DONE).read_text(encoding="utf-8")))
    return Answers({split: np.load(place / f"{split}.npy") for split in splits}, tops)
