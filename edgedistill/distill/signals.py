"""The teacher's outputs on every split, computed once, kept on disk, and tied to the very text they belong to.

Everything lies in memory-mapped .npy files, so that neither the teacher's cost nor its memory is paid again by a
later epoch, student or temperature. A killed recording goes on at the batch it had reached.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from edgedistill.corpus.read import labels_of, row_hashes_of, texts_of
from edgedistill.errors import StageError
from edgedistill.files import sha256_of
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.section import TaskOptions
from edgedistill.statistics import accuracy
from edgedistill.student_values import Tokens
from edgedistill.tasks._task import task_of
from edgedistill.training.predict import resumable_outputs
from edgedistill.training.rows import tokenize
from edgedistill.training.signals import SplitSignals, rows_of
from edgedistill.values import Corpus, Signals, SignalSplit, Teacher

PROJECTION = "projection.npy"
ROWS_AT_ONCE = 4096


def record(teacher: Teacher, corpus: Corpus, options: TaskOptions, folder: Path) -> Signals:
    """Run the teacher over every split of the corpus, and keep ids, row hashes, gold, and what it says.

    Args:
        options: of the task; say where texts are cut, and what a student's vectors are to be like.
    """
    checkpoint = teacher.path(teacher.checkpoint)
    tokenizer = load_tokenizer(checkpoint)
    accelerator = Accelerator()
    model = load_model(checkpoint).to(accelerator.device)
    width, truncations = _vector(options, model.width)
    progress = folder / "progress"
    progress.mkdir(exist_ok=True)
    started = time.monotonic()
    splits: dict[str, SignalSplit] = {}
    metrics, task = {}, task_of(options.kind)
    for name in corpus.splits:
        files = {part: f"{name}.{part}.npy" for part in ("token_ids", "offsets", "row_hashes", "outputs", "labels")}
        texts = texts_of(corpus, name)
        tokens = tokenize(tokenizer, texts, options.max_length, folder / files["token_ids"], folder / files["offsets"])
        np.save(folder / files["row_hashes"], row_hashes_of(corpus, name))
        outputs = resumable_outputs(
            model, tokens, model.width, folder / files["outputs"], progress, f"teacher reads {name}", accelerator.device
        )
        gold = labels_of(corpus, name)
        if name == "validation" or name in corpus.evaluation_splits:  # of all others nobody asks, and some are large
            gold = task.gold(gold, outputs)
        np.save(folder / files["labels"], gold)
        if (gold >= 0).any():
            metrics[name] = accuracy(task.right(outputs, gold))
        splits[name] = SignalSplit(rows=len(tokens), **files)
    turns = width != model.width or bool(truncations)
    if turns:
        np.save(folder / PROJECTION, principal_directions(np.load(folder / splits["train"].outputs, "r"), width))
    return Signals(
        task=options.kind,
        splits=splits,
        width=width,
        truncations=truncations,
        projection=PROJECTION if turns else None,
        tokenizer_sha256=sha256_of(checkpoint / "tokenizer.json"),
        pad_token_id=tokenizer.pad_token_id,
        teacher_weights_sha256=teacher.weights_sha256,
        metrics=metrics,
        seconds=time.monotonic() - started,
        rows=sum(split.rows for split in splits.values()),
    )


def _vector(options: TaskOptions, widest: int) -> tuple[int, tuple[int, ...]]:
    """Return how long the student's answer is, and the shorter lengths that are taught too.

    Raises:
        StageError: the teacher's vectors are shorter.
    """
    width: int = getattr(options, "dimensions", None) or widest
    truncations: tuple[int, ...] = getattr(options, "truncations", ())
    if width > widest:
        raise StageError(
            f"task.dimensions: {width} is more than the teacher's {widest} numbers; write {widest} or less"
        )
    if truncations and truncations[-1] >= width:
        raise StageError(f"task.truncations: {truncations[-1]} is no shorter than the whole vector of {width} numbers")
    return width, truncations


def principal_directions(vectors: np.ndarray, width: int) -> np.ndarray:
    """Return the directions in which vectors, (rows, teacher's width), have most of their length.

    Nothing is subtracted before: a rotation about zero changes no cosine.

    Returns:
        (teacher's width, width) float32, orthonormal columns, the largest first.
    """
    moment = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        some = np.asarray(vectors[start : start + ROWS_AT_ONCE], dtype=np.float64)
        moment += some.T @ some
    _, directions = np.linalg.eigh(moment)  # ascending
    return np.ascontiguousarray(directions[:, ::-1][:, :width], dtype=np.float32)


def prove_row_hashes(signals: Signals, corpus: Corpus, name: str) -> int:
    """Check that the cache's rows are the corpus' rows, in order; return how many there are.

    Raises:
        StageError: a row's hash differs; the teacher's outputs belong to other texts.
    """
    cached = SplitSignals(signals, name).row_hashes
    expected = row_hashes_of(corpus, name)
    if len(cached) != len(expected) or (cached != expected).any():
        wrong = int((cached[: len(expected)] != expected[: len(cached)]).sum()) + abs(len(cached) - len(expected))
        raise StageError(f"{wrong} of {len(expected)} cached teacher outputs for {name} belong to other texts")
    return len(expected)


def prove_token_ids(
    reader: Signals | Tokens, corpus: Corpus, name: str, student_tokenizer: Any, sample: int = 256
) -> int:
    """Check that the student's tokenizer gives the ids that are on disk; return how many texts were compared.

    Args:
        reader: the teacher's ids where the student is to read as the teacher does, else the student's own.
        sample: how many texts, spread evenly.

    Raises:
        StageError: an id differs, so the student would be trained on other inputs than it is asked later.
    """
    rows = rows_of(reader, name)
    whose = "teacher and student read" if isinstance(reader, Signals) else "the student and its tokenizer read"
    chosen = set(np.linspace(0, len(rows) - 1, min(sample, len(rows))).astype(int).tolist())
    for i, text in enumerate(texts_of(corpus, name)):
        if i in chosen:
            ids = student_tokenizer(text, truncation=True)["input_ids"]
            if ids != rows.ids[rows.offsets[i] : rows.offsets[i + 1]].tolist():
                raise StageError(f"{whose} row {i} of {name} as different token ids")
    return len(chosen)
