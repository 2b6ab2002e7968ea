"""The corpus as a decoder reads it, and what the teacher thinks of what follows; computed once, and kept on disk.

Of train and validation a little of each distribution is kept, as the recipe says; of held-out text the whole, so that
every later model can be held against it. A killed recording goes on at the rows it had reached.
"""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.corpus.read import row_hashes_of, texts_of
from edgedistill.decoder_values import CachedLogits, DecoderSignals, DecoderSplit, DecoderTokens, WholeVocabulary
from edgedistill.distill.decoder.asking import Said, asked
from edgedistill.distill.decoder.own_reading import WholeTeacher
from edgedistill.errors import DataError
from edgedistill.files import sha256_of
from edgedistill.models.load import load_tokenizer
from edgedistill.progress import bar
from edgedistill.tasks.text_generation import Options
from edgedistill.training.decoder_rows import DecoderRows, drawn_rows, rows_of_texts, write_rows
from edgedistill.training.folding import Folding, read_folding
from edgedistill.training.known_logits import drawn
from edgedistill.training.language import recorded
from edgedistill.values import Corpus, Teacher

LEARNED_FROM = ("train", "validation")
ROWS_AT_ONCE = 8
PARTS = ("token_ids", "offsets", "counts", "texts")


@dataclass(frozen=True)
class _Kept:
    """The teacher, and what is kept of its answers."""

    said: Said
    options: Options
    vocabulary: int
    folding: Folding | None

    def about(self, rows: DecoderRows, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return entries, tokens and weights of all positions of some rows, and the mass that went over."""
        seed = int(np.random.SeedSequence([self.options.cache.seed, int(batch[0])]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        said = self.said(rows, batch, self.folding)
        moved = np.zeros(len(said))
        if self.folding is not None:
            moved = self.folding.moved(said.numpy())
            said = torch.from_numpy(self.folding.logits(said.numpy()))
        return *drawn(said[:, : self.vocabulary].softmax(dim=-1), self.options.cache, generator), moved


def record(
    teacher: Teacher, corpus: Corpus, options: Options, tokens: DecoderTokens | None, folder: Path, threads: int = 1
) -> DecoderSignals:
    """Run the teacher over every split of the corpus; keep ids, what counts, and what it thinks of each position.

    Args:
        tokens: those that the student keeps; None where that is all of the teacher's. The teacher then reads rows of
            kept tokens, and what it thinks of the others goes to their first pieces (`training/folding.py`).
        threads: of llama.cpp, where the teacher runs there.

    Raises:
        DataError: no row of a split fits the recipe's limits.
        ModelError: llama.cpp reads a text as other ids than the teacher's tokenizer.
        TrainingError: the device lacks the precision of `task.cache.mixed_precision`.
    """
    checkpoint = teacher.path(teacher.checkpoint)
    read_with = checkpoint if tokens is None else tokens.path(tokens.checkpoint)
    tokenizer = load_tokenizer(read_with)
    folding = None if tokens is None else read_folding(tokens.path(tokens.kept), tokens.path(tokens.first))
    progress = folder / "progress"
    progress.mkdir(exist_ok=True)
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    started = time.monotonic()
    read = {name: _rows(tokenizer, corpus, name, options, folder) for name in corpus.splits}
    told_by = asked(teacher, corpus, options, threads)
    kept = _Kept(told_by.positions, options, vocabulary, folding)
    logits = {name: _cached(kept, read[name], folder, name) for name in LEARNED_FROM if name in read}
    held_out = {name: read[name] for name in corpus.evaluation_splits}
    told = told_by.row if folding is None else folding.answer(told_by.row)
    evaluation, reference = recorded(told, held_out, folder, "teacher", vocabulary)
    whole = None
    if tokens is not None and folding is not None:
        as_it_is = WholeTeacher(told_by.row, load_tokenizer(checkpoint), tokenizer, folding, options)
        said = {name: np.load(folder / file)["log_prob"] for name, file in evaluation.positions.items()}
        readings = {
            name: as_it_is.readings(texts_of(corpus, name), rows, said[name]) for name, rows in held_out.items()
        }
        for part in (tokens.kept, tokens.first):
            shutil.copyfile(tokens.path(part), folder / part)
        whole = WholeVocabulary(size=folding.whole, kept=tokens.kept, first=tokens.first, readings=readings)
    return DecoderSignals(
        task=options.kind,
        conversations=options.conversations,
        splits={name: _described(rows, corpus, name, folder) for name, rows in read.items()},
        logits=logits,
        reference=reference,
        evaluation=evaluation,
        vocabulary=vocabulary,
        tokenizer_sha256=sha256_of(read_with / "tokenizer.json"),
        pad_token_id=tokenizer.pad_token_id,
        teacher_weights_sha256=teacher.weights_sha256,
        seconds=time.monotonic() - started,
        whole=whole,
        read_alike=told_by.read_alike,
    )


def _rows(tokenizer: Any, corpus: Corpus, name: str, options: Options, folder: Path) -> DecoderRows:
    files = {part: folder / f"{name}.{part}.npy" for part in PARTS}
    texts = texts_of(corpus, name)
    rows: Iterable[Any] = rows_of_texts(tokenizer, texts, options.max_length, conversations=options.conversations)
    if name in (*corpus.evaluation_splits, "validation"):
        rows = drawn_rows(rows, options.judged_positions, lambda row: sum(row.counts))
    limit = {"train": options.train_tokens, "calibration": options.calibration_tokens}.get(name)
    read = write_rows(rows, files, tokenizer.pad_token_id, limit, whole=options.conversations)
    if not len(read.tokens):
        raise DataError(
            f"no row of {name} has at most {options.max_length} tokens and fits the limits of the recipe; "
            "raise task.max_length, or give shorter texts"
        )
    return read


def _cached(kept: _Kept, rows: DecoderRows, folder: Path, name: str) -> CachedLogits:
    """Keep a little of what the teacher thinks at each position, rows in their order, some rows at once."""
    chunks = folder / "progress" / name
    chunks.mkdir(exist_ok=True)
    count = len(rows.tokens)
    with bar(f"teacher reads {name}", count, "rows") as advance:
        for start in range(0, count, ROWS_AT_ONCE):
            batch = np.arange(start, min(start + ROWS_AT_ONCE, count))
            file = chunks / f"{start}.npz"
            if not file.exists():
                draft = file.with_suffix(".draft")
                with draft.open("wb") as out:
                    entries, tokens, weights, moved = kept.about(rows, batch)
                    np.savez(out, entries=entries, tokens=tokens, weights=weights, moved=moved)
                draft.replace(file)
            advance(len(batch))
    found = [np.load(chunks / f"{start}.npz") for start in range(0, count, ROWS_AT_ONCE)]
    files = {part: f"{name}.logits.{part}.npy" for part in ("offsets", "tokens", "weights")}
    entries = np.concatenate([part["entries"] for part in found])
    np.save(folder / files["offsets"], np.concatenate([[0], np.cumsum(entries, dtype=np.int64)]))
    for part in ("tokens", "weights"):
        np.save(folder / files[part], np.concatenate([one[part] for one in found]))
    size = sum((folder / file).stat().st_size for file in files.values())
    moved_mass = float(np.concatenate([part["moved"] for part in found]).mean())
    return CachedLogits(
        way=kept.options.cache.way, bytes_per_position=size / max(len(entries), 1), moved_mass=moved_mass, **files
    )


def _described(rows: DecoderRows, corpus: Corpus, name: str, folder: Path) -> DecoderSplit:
    hashes = row_hashes_of(corpus, name)[np.asarray(rows.texts)]
    np.save(folder / f"{name}.row_hashes.npy", hashes)
    return DecoderSplit(
        rows=len(rows.tokens),
        tokens=len(rows.tokens.ids),
        positions=rows.counted.positions,
        row_hashes=f"{name}.row_hashes.npy",
        **{part: f"{name}.{part}.npy" for part in PARTS},
    )
