"""The corpus as the student reads it: with the teacher's tokenizer, with some of its tokens, or with one of its own.

Losses compare the two models' logits of whole texts, so the student may read a text as other tokens than the teacher
did; rows keep their numbers, and by those their teacher's answers. Where tokens were dropped, every text that needs
none of them is proven to be read as before.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.corpus.read import texts_of
from edgedistill.errors import ModelError, StageError
from edgedistill.files import sha256_of, sha256_of_tree
from edgedistill.models.config_json import longest_input, read_config
from edgedistill.models.load import load_tokenizer
from edgedistill.models.resolve import copy_checkpoint, describe, resolve
from edgedistill.models.student import own_checkpoint
from edgedistill.models.tokenizer_json import write_trimmed
from edgedistill.models.vocabulary import chosen
from edgedistill.progress import bar
from edgedistill.section import StudentOptions
from edgedistill.student_values import OwnStart, Tokens, TokenSplit
from edgedistill.training.rows import TokenRows, mapped, tokenize
from edgedistill.values import Corpus, Signals, Teacher


@dataclass(frozen=True)
class _Reader:
    """A tokenizer, and the ids that it gives every split."""

    tokenizer: Any
    files: Mapping[str, tuple[Path, Path]]  # split -> token ids and offsets

    def rows(self, name: str) -> TokenRows:
        return mapped(*self.files[name], self.tokenizer.pad_token_id)

    def tokens_per_text(self, name: str) -> float:
        return float(self.rows(name).lengths.mean())

    def unknown_share(self, name: str) -> float:
        return float((self.rows(name).ids == self.tokenizer.unk_token_id).mean())


def retokenize(
    options: StudentOptions, *, teacher: Teacher, corpus: Corpus, signals: Signals, max_length: int, base: Path,
    folder: Path,
) -> Tokens:  # fmt: skip
    """Return every split as the student reads it; where that is as the teacher does, the teacher's ids are copied.

    Args:
        max_length: longest input in tokens.
        base: the folder that relative paths start from.
        folder: of this stage; a checkpoint of the student's own goes to `checkpoint/`, its tokenizer to `tokenizer/`.

    Raises:
        ModelError: the student's own checkpoint cannot be used, or the vocabulary cannot be trimmed so.
        StageError: a text that needs only kept tokens is read otherwise than before.
    """
    (folder / "progress").mkdir(exist_ok=True)
    start = _own_start(options, max_length, base, folder)
    taught_by = teacher.path(teacher.checkpoint)
    checkpoint = taught_by if start is None else folder / start.checkpoint
    files = {name: (signals.path(said.token_ids), signals.path(said.offsets)) for name, said in signals.splits.items()}
    by_teacher = _Reader(load_tokenizer(taught_by), files)
    whole = by_teacher
    if start is not None:
        whole = _read(load_tokenizer(checkpoint), corpus, max_length, folder / "progress")
    config = read_config(checkpoint)
    counts = np.bincount(whole.rows("train").ids, minlength=config["vocab_size"])
    kept = None if options.vocabulary is None else chosen(options.vocabulary, whole.tokenizer, config, counts)
    if kept is not None and len(kept) == len(counts):
        kept = None
    own = _copied(whole, corpus, folder) if kept is None else _trimmed(whole, kept, corpus, max_length, folder)
    return Tokens(
        tokenizer="tokenizer",
        tokenizer_sha256=sha256_of(folder / "tokenizer" / "tokenizer.json"),
        pad_token_id=own.tokenizer.pad_token_id,
        splits={name: _described(name, corpus, by_teacher, whole, own, kept, max_length) for name in corpus.splits},
        start=start,
        kept=None if kept is None else "kept.npy",
        vocabulary=len(counts) if kept is None else len(kept),
        whole_vocabulary=len(counts),
        seen_in_train=int((counts > 0).sum()),
    )


def prove_kept(
    whole: TokenRows, own: TokenRows, kept: np.ndarray, unknown: int | None, longest: int, texts: Iterable[str]
) -> tuple[int, int]:
    """Return how many texts are read as the same tokens, and how many of them had to be.

    These need only kept tokens: the whole vocabulary reads them without a dropped token, without an unknown one (whose
    word a smaller vocabulary may put together from pieces), and without being cut (what was cut off is not known).

    Args:
        whole: rows as the whole vocabulary reads them.
        own: the same rows with the kept tokens alone.
        kept: (kept,) int64; the old id of each new one.
        unknown: id of the token for what cannot be read, in the whole vocabulary.
        longest: tokens at which a text is cut.
        texts: what stands in the rows.

    Raises:
        StageError: a text that needs only kept tokens is read otherwise; the message has the text.
    """
    new_ids = np.full(max(kept.max(), whole.ids.max()) + 1, -1)
    new_ids[kept] = np.arange(len(kept))
    identical = proven = 0
    for i, text in enumerate(texts):
        before = whole.ids[whole.offsets[i] : whole.offsets[i + 1]]
        wanted, given = new_ids[before], own.ids[own.offsets[i] : own.offsets[i + 1]]
        same = np.array_equal(wanted, given)
        identical += same
        if len(before) < longest and (wanted >= 0).all() and not (before == unknown).any():
            proven += 1
            if not same:
                raise StageError(
                    f"the trimmed tokenizer reads {text[:60]!r}, which needs only kept tokens, as other tokens: "
                    f"{given[:12].tolist()} instead of {wanted[:12].tolist()}; leave student.vocabulary out"
                )
    return int(identical), proven


def _described(
    name: str, corpus: Corpus, by_teacher: _Reader, whole: _Reader, own: _Reader, kept: np.ndarray | None, longest: int
) -> TokenSplit:
    """Compare one split with what it was, and say so in numbers."""
    rows = own.rows(name)
    identical = proven = len(rows)
    if kept is not None:
        texts, unknown = texts_of(corpus, name), whole.tokenizer.unk_token_id
        identical, proven = prove_kept(whole.rows(name), rows, kept, unknown, longest, texts)
    return TokenSplit(
        rows=len(rows),
        token_ids=own.files[name][0].name,
        offsets=own.files[name][1].name,
        tokens_per_text=own.tokens_per_text(name),
        whole_tokens_per_text=whole.tokens_per_text(name),
        teacher_tokens_per_text=by_teacher.tokens_per_text(name),
        unknown_share=own.unknown_share(name),
        whole_unknown_share=whole.unknown_share(name),
        identical_rows=identical,
        proven_rows=proven,
    )


def _read(tokenizer: Any, corpus: Corpus, max_length: int, folder: Path) -> _Reader:
    """Tokenize every split into `folder`."""
    reader = _Reader(tokenizer, _files_in(folder, corpus))
    total = sum(split.rows for split in corpus.splits.values())
    with bar("the student's tokenizer reads", total, "texts") as advance:
        for name, files in reader.files.items():
            tokenize(tokenizer, texts_of(corpus, name), max_length, *files)
            advance(corpus.splits[name].rows)
    return reader


def _trimmed(whole: _Reader, kept: np.ndarray, corpus: Corpus, max_length: int, folder: Path) -> _Reader:
    """Write the tokenizer with the kept tokens alone, and what it makes of every split."""
    np.save(folder / "kept.npy", kept)
    write_trimmed(whole.tokenizer, kept.tolist(), folder / "tokenizer")
    return _read(load_tokenizer(folder / "tokenizer"), corpus, max_length, folder)


def _copied(whole: _Reader, corpus: Corpus, folder: Path) -> _Reader:
    """Take over a tokenizer and what it has read."""
    whole.tokenizer.save_pretrained(folder / "tokenizer")
    reader = _Reader(whole.tokenizer, _files_in(folder, corpus))
    for name, files in reader.files.items():
        for old, new in zip(whole.files[name], files, strict=True):
            shutil.copyfile(old, new)
    return reader


def _files_in(folder: Path, corpus: Corpus) -> dict[str, tuple[Path, Path]]:
    return {name: (folder / f"{name}.token_ids.npy", folder / f"{name}.offsets.npy") for name in corpus.splits}


def _own_start(options: StudentOptions, max_length: int, base: Path, folder: Path) -> OwnStart | None:
    """Fetch the checkpoint that the student starts from, if that is not the teacher's, into `folder`/checkpoint."""
    reference = own_checkpoint(options)
    if reference is None:
        return None
    source = resolve(reference, base, folder / "progress")
    config, tokenizer = read_config(source), load_tokenizer(source)
    longest = longest_input(config)
    if longest is not None and max_length > longest:
        raise ModelError(
            f"task.max_length: {max_length} tokens are more than the {longest} that the student has positions for; "
            f"write {longest} or less"
        )
    if len(tokenizer) > config.get("vocab_size", 0):
        raise ModelError(
            f"student.model: the tokenizer has {len(tokenizer)} ids, the model's table {config.get('vocab_size', 0)} "
            "rows; they are not of one checkpoint"
        )
    tokenizer.model_max_length = max_length
    copy_checkpoint(source, folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    said: Any = options
    return OwnStart(
        checkpoint="checkpoint",
        source=describe(reference),
        licence=said.licence,
        weights_sha256=sha256_of_tree(source, list(source.glob("*.safetensors"))),
    )
