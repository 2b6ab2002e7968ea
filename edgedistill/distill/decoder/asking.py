"""Asking a teacher of language models: a checkpoint in PyTorch, or a GGUF file in llama.cpp.

A file is asked row by row, so that beside its mapped weights no more is in memory than one row's logits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill import registry
from edgedistill.corpus.read import texts_of
from edgedistill.decoder_values import ReadAlike
from edgedistill.errors import ModelError, StageError
from edgedistill.models.config_json import longest_input, read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.load import load_tokenizer
from edgedistill.runtimes._likeness import same_chats, same_ids
from edgedistill.runtimes._odd_texts import ODD_DECODER_TEXTS
from edgedistill.training.decoder_rows import DecoderRows, rendered
from edgedistill.training.folding import Folding
from edgedistill.training.language import logits_of_row
from edgedistill.training.positions import Answer
from edgedistill.training.precision import accelerator_for
from edgedistill.values import Corpus, Teacher

COMPARED = 1000  # texts of each split
SPARE_TOKENS = 16  # a row of kept tokens may be a few more in the teacher's own

Said = Callable[[DecoderRows, np.ndarray, Folding | None], torch.Tensor]
"""Rows and which of them; what is kept of the teacher's tokens -> its logits at all their positions, float32."""


@dataclass(frozen=True)
class Asked:
    """A teacher, ready to answer."""

    row: Answer  # what it says after each id of a row, ids its own
    positions: Said
    read_alike: ReadAlike | None  # None: the tokenizer that made the ids is the teacher's own


def asked(teacher: Teacher, corpus: Corpus, options: Any, threads: int) -> Asked:
    """Return the teacher where it runs.

    Args:
        options: the task's.
        threads: of llama.cpp; PyTorch has its own.

    Raises:
        ModelError: llama.cpp reads a text as other ids than the tokenizer that is made of the same file.
        TrainingError: the device lacks the precision that the recipe asks for.
    """
    if teacher.gguf is None:
        return _in_pytorch(teacher.path(teacher.checkpoint), options.cache.mixed_precision)
    decoder = loaded(teacher, options.max_length, threads)
    return Asked(decoder.logits, _of(decoder), read_alike(teacher, decoder, corpus, options))


def loaded(teacher: Teacher, tokens: int, threads: int) -> Any:
    """Return a teacher's GGUF file in llama.cpp, ready for rows of so many tokens."""
    if teacher.gguf is None:
        raise StageError(f"a teacher of kind {teacher.kind} has no GGUF file to be asked")
    file = teacher.path(teacher.gguf)
    longest = longest_input(read_config(teacher.path(teacher.checkpoint))) or tokens
    context = min(longest, tokens + SPARE_TOKENS)
    runtime: Any = registry.load("edgedistill.runtimes", "llama_cpp")
    return runtime.load(file.parent, file.name, threads=threads, context_tokens=context)


def read_alike(teacher: Teacher, decoder: Any, corpus: Corpus, options: Any) -> ReadAlike:
    """Return how many texts llama.cpp reads as the tokenizer does that rows are made with: all, or it is an error.

    Raises:
        ModelError: one has other ids, or a conversation is rendered otherwise.
    """
    tokenizer = load_tokenizer(teacher.path(teacher.checkpoint))
    texts: Iterable[str] = (text for split in corpus.splits for text in islice(texts_of(corpus, split), COMPARED))
    if options.conversations:
        texts = (rendered(tokenizer, text) for text in texts)
    try:
        return ReadAlike(
            corpus_texts=same_ids(tokenizer, decoder, texts),
            odd_texts=same_ids(tokenizer, decoder, ODD_DECODER_TEXTS),
            conversations=same_chats(tokenizer, decoder) if options.conversations else 0,
        )
    except StageError as error:
        raise ModelError(
            f"llama.cpp and the tokenizer made of {teacher.source} do not read alike: {error}; choose "
            "teacher.kind: transformers with the model's own checkpoint"
        ) from error


def _in_pytorch(checkpoint: Path, mixed_precision: Any) -> Asked:
    accelerator = accelerator_for(mixed_precision)
    device = accelerator.device
    model = load_decoder(checkpoint).to(device)

    @torch.no_grad()
    def positions(rows: DecoderRows, batch: np.ndarray, folding: Folding | None) -> torch.Tensor:
        padded, mask = rows.tokens.padded(batch)
        if folding is not None:
            padded = folding.kept[padded]
        places, befores, _ = rows.targets(batch)
        ids, read = (torch.from_numpy(array).to(device) for array in (padded, mask))
        with accelerator.autocast():
            said: torch.Tensor = model(ids, read, kept=torch.from_numpy(rows.kept(batch)))[places, befores]
        return said.float().cpu()

    return Asked(logits_of_row(model, device), positions, None)


def _of(decoder: Any) -> Said:
    def positions(rows: DecoderRows, batch: np.ndarray, folding: Folding | None) -> torch.Tensor:
        read = [rows.counted.row(int(number)) for number in batch]
        said = [
            decoder.logits_at(row.ids if folding is None else folding.ids(row.ids), row.places.tolist())
            for row in read
            if len(row.places)
        ]
        found = np.concatenate(said) if said else np.empty((0, decoder.vocabulary), dtype=np.float32)
        if not np.isfinite(found).all():
            raise StageError(
                "the teacher's logits in llama.cpp are not finite; its file may be damaged: fetch it again"
            )
        return torch.from_numpy(found)

    return positions
