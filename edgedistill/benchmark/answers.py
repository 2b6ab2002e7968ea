"""What every artifact says of every held-out text, through its own runtime, in a fresh process.

An artifact whose process has ended is not asked again after an interruption: its `done.json` is written last.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.benchmark import process
from edgedistill.benchmark.jobs import AnswersJob, Batches
from edgedistill.benchmark.subjects import Candidate
from edgedistill.errors import StageError
from edgedistill.files import clear, write_atomic
from edgedistill.progress import bar

BATCH_SIZE = 1  # as an app asks; where activations are rounded on the fly, a text's logits depend on its batch


@dataclass(frozen=True)
class Answers:
    """What one artifact said."""

    logits: dict[str, np.ndarray]  # split -> (rows, classes) float32
    same_batches: dict[str, list[np.ndarray]]  # workload -> logits of each of its batches


def collect(
    candidates: Sequence[Candidate],
    texts: Mapping[str, Sequence[str]],
    workloads: Batches,
    labels: Sequence[str],
    threads: int,
    folder: Path,
) -> dict[str, Answers]:
    """Return every candidate's answers, asking those that `folder` has not got.

    Args:
        candidates: what to ask.
        texts: of each split.
        workloads: batches of texts to be answered as they are, too.
        labels: what the artifact must call its classes, in this order.
        threads: of the runtime.
        folder: gets a folder for each candidate, with <split>.npy of (rows, classes) float32.

    Raises:
        StageError: a process failed, or an artifact has other labels, or a number is not finite.
    """
    rows = sum(len(of_split) for of_split in texts.values())
    with bar("asking every artifact", rows * len(candidates), "texts") as advance:
        for candidate in candidates:
            place = folder / candidate.name
            if not (place / "done.json").exists():
                _ask(candidate, texts, workloads, threads, place)
            advance(rows)
    return {candidate.name: _read(candidate, texts, labels, folder / candidate.name) for candidate in candidates}


def _ask(
    candidate: Candidate, texts: Mapping[str, Sequence[str]], workloads: Batches, threads: int, place: Path
) -> None:
    clear(place)
    files = {}
    for split, of_split in texts.items():
        texts_file = place / f"{split}.json"
        texts_file.write_text(json.dumps(list(of_split)), encoding="utf-8")
        files[str(texts_file)] = str(place / f"{split}.npy")
    job = AnswersJob(
        runtime=candidate.runtime,
        root=str(candidate.root),
        file=candidate.file,
        threads=threads,
        workloads=workloads,
        batch_size=BATCH_SIZE,
        splits=files,
    )
    answer = process.run(job, candidate.title)
    for written in files:
        Path(written).unlink()
    write_atomic(place / "done.json", json.dumps(answer) + "\n")


def _read(candidate: Candidate, texts: Mapping[str, Sequence[str]], labels: Sequence[str], place: Path) -> Answers:
    answer = json.loads((place / "done.json").read_text(encoding="utf-8"))
    if answer["labels"] != list(labels):
        raise StageError(f"{candidate.title} calls its classes {answer['labels']}; the data calls them {list(labels)}")
    logits = {split: np.load(place / f"{split}.npy") for split in texts}
    for split, of_split in logits.items():
        bad = np.flatnonzero(~np.isfinite(of_split).all(axis=1))
        if len(bad):
            raise StageError(f"{candidate.title} gives a number that is not finite on {len(bad)} texts of {split}")
    same_batches = {
        name: [np.array(batch, dtype=np.float32) for batch in batches] for name, batches in answer["logits"].items()
    }
    return Answers(logits, same_batches)
