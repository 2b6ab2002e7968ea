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
from edgedistill.models.load import load_classifier, load_tokenizer
from edgedistill.statistics import accuracy
from edgedistill.student_values import Tokens
from edgedistill.training.predict import resumable_logits
from edgedistill.training.rows import tokenize
from edgedistill.training.signals import SplitSignals, rows_of
from edgedistill.values import Corpus, Signals, SignalSplit, Teacher


def record(teacher: Teacher, corpus: Corpus, max_length: int, folder: Path) -> Signals:
    """Run the teacher over every split of the corpus, and keep ids, row hashes, gold labels and logits."""
    checkpoint = teacher.path(teacher.checkpoint)
    tokenizer = load_tokenizer(checkpoint)
    accelerator = Accelerator()
    model = load_classifier(checkpoint).to(accelerator.device)
    progress = folder / "progress"
    progress.mkdir(exist_ok=True)
    started = time.monotonic()
    splits: dict[str, SignalSplit] = {}
    metrics = {}
    for name in corpus.splits:
        labels = labels_of(corpus, name)
        files = {part: f"{name}.{part}.npy" for part in ("token_ids", "offsets", "row_hashes", "logits", "labels")}
        texts = texts_of(corpus, name)
        tokens = tokenize(tokenizer, texts, max_length, folder / files["token_ids"], folder / files["offsets"])
        np.save(folder / files["row_hashes"], row_hashes_of(corpus, name))
        np.save(folder / files["labels"], labels)
        classes, logits_file = len(corpus.labels), folder / files["logits"]
        logits = resumable_logits(
            model, tokens, classes, logits_file, progress, f"teacher reads {name}", accelerator.device
        )
        known = labels >= 0
        if known.any():
            metrics[name] = accuracy(logits[known].argmax(axis=1) == labels[known])
        splits[name] = SignalSplit(rows=len(tokens), **files)
    return Signals(
        splits=splits,
        tokenizer_sha256=sha256_of(checkpoint / "tokenizer.json"),
        pad_token_id=tokenizer.pad_token_id,
        teacher_weights_sha256=teacher.weights_sha256,
        metrics=metrics,
        seconds=time.monotonic() - started,
        rows=sum(split.rows for split in splits.values()),
    )


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
