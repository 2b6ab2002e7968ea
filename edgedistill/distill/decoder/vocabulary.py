"""Drop the tokens that a domain does not need from what the student is made of, and prove what reading costs.

Kept are all tokens that stand in the training texts often enough, what these are merged from, the chat template's,
all special tokens, and every byte, so that any text can be read. A text that needs only kept tokens is read as the same
tokens as before, and all others as other tokens of the same text: both are checked on every text of the corpus.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.corpus.read import texts_of
from edgedistill.decoder_values import DecoderStart, DecoderTokens, DecoderTokenSplit
from edgedistill.distill.decoder.unpacked import weights_of
from edgedistill.errors import StageError
from edgedistill.files import sha256_of
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.decoder_vocabulary import (
    first_pieces,
    of_generation,
    of_template,
    trimmed_decoder,
    written_of,
)
from edgedistill.models.load import load_tokenizer
from edgedistill.models.resolve import copy_texts
from edgedistill.models.tokenizer_json import token_ids, write_trimmed
from edgedistill.models.vocabulary import chosen
from edgedistill.progress import bar
from edgedistill.section import VocabularyOptions
from edgedistill.training.decoder_rows import rendered
from edgedistill.values import Corpus, Teacher

AT_ONCE = 256  # texts
PASSAGE = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
CURE = "leave student.vocabulary out"


def trim(
    options: VocabularyOptions, *, task: Any, teacher: Teacher, corpus: Corpus, start: DecoderStart | None, folder: Path
) -> DecoderTokens:  # fmt: skip
    """Return the teacher with the kept tokens alone; tokenizer and weights lie in `folder`/checkpoint.

    Args:
        options: which tokens are kept.
        task: its options.
        start: where the student has a checkpoint of its own, which reads as the teacher does, that is cut down too;
            where the teacher is a GGUF file, its weights as floats.

    Raises:
        ModelError: the vocabulary cannot be trimmed so.
        StageError: a text that needs only kept tokens is read otherwise than before, or one is not read whole.
    """
    checkpoint = teacher.path(teacher.checkpoint)
    whole = load_tokenizer(checkpoint)
    written = written_of(whole)
    counts = _counted(whole, corpus, task, max(token_ids(written).values()) + 1)
    needed = of_template(whole) | of_generation(checkpoint)
    kept = chosen(options, whole, read_config(checkpoint), counts, needed)
    write_trimmed(whole, kept.tolist(), folder / "progress" / "tokenizer")
    own = load_tokenizer(folder / "progress" / "tokenizer")
    readers = Readers(whole, own, kept)
    splits = {
        name: readers.compared(_texts(whole, corpus, name, task), documents=not task.conversations)
        for name in corpus.splits
    }
    np.save(folder / "kept.npy", kept)
    np.save(folder / "first.npy", first_pieces(written, written_of(own), kept))
    made = trimmed_decoder(weights_of(teacher, start, teacher.checkpoint), kept, own, folder / teacher.checkpoint)
    base = teacher.base and trimmed_decoder(teacher.path(teacher.base), kept, own, folder / teacher.base)
    if start is not None and start.start is not None:
        trimmed_decoder(start.path(start.start.checkpoint), kept, own, folder / start.start.checkpoint)
    copy_texts(checkpoint, made)
    return DecoderTokens(
        checkpoint=teacher.checkpoint,
        base=None if base is None else teacher.base,
        kept="kept.npy",
        first="first.npy",
        vocabulary=len(kept),
        whole_vocabulary=len(token_ids(written)),
        seen_in_train=int((counts > 0).sum()),
        parameters=sum(parameter.numel() for parameter in load_decoder(made).parameters()),
        tokenizer_sha256=sha256_of(made / "tokenizer.json"),
        splits=splits,
    )


@dataclass(frozen=True)
class Readers:
    """Two tokenizers, of which one has some of the other's tokens alone."""

    whole: Any
    own: Any
    kept: np.ndarray  # (kept,) int64; the old id of each new one

    @cached_property
    def _new(self) -> np.ndarray:
        """The new id of each old one; -1 where it was dropped."""
        new = np.full(max(self.whole.get_vocab().values()) + 1, -1)
        new[self.kept] = np.arange(len(self.kept))
        return new

    def compared(self, texts: Iterator[str], *, documents: bool) -> DecoderTokenSplit:
        """Return how both read texts, if they do as they must.

        Args:
            texts: with their special tokens in them.
            documents: they are looked at sentence by sentence, too.

        Raises:
            StageError: a text that needs only kept tokens is read otherwise, or what was read is another text.
        """
        said = dict.fromkeys(DecoderTokenSplit.model_fields, 0)
        while some := list(islice(texts, AT_ONCE)):
            for before, after in self._read(some):
                said["texts"] += 1
                said["tokens"] += len(after)
                said["whole_tokens"] += len(before)
                said["dropped_tokens"] += int((before < 0).sum())
            passages = [one for text in some for one in PASSAGE.split(text) if one] if documents else some
            for before, after in self._read(passages):
                said["passages"] += 1
                said["proven_passages"] += int((before >= 0).all())
                said["identical_passages"] += int(before.tolist() == after)
        return DecoderTokenSplit(**said)

    def _read(self, texts: list[str]) -> Iterator[tuple[np.ndarray, list[int]]]:
        """Yield what a text was read as, in new ids, -1 where the token was dropped; and what it is read as now."""
        if not texts:
            return
        both = [reads(texts, add_special_tokens=False, verbose=False)["input_ids"] for reads in (self.whole, self.own)]
        for text, old, after in zip(texts, *both, strict=True):
            before = self._new[np.asarray(old, dtype=np.int64)]
            meant, given = (
                reads.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                for reads, ids in ((self.whole, old), (self.own, after))
            )
            if given != meant:
                raise StageError(f"the trimmed tokenizer reads {text[:60]!r} as another text: {given[:60]!r}; {CURE}")
            if (before >= 0).all() and before.tolist() != after:
                raise StageError(
                    f"the trimmed tokenizer reads {text[:60]!r}, which needs only kept tokens, as other tokens: "
                    f"{after[:12]} instead of {before[:12].tolist()}; {CURE}"
                )
            yield before, after


def _texts(tokenizer: Any, corpus: Corpus, name: str, task: Any) -> Iterator[str]:
    """Yield the texts of a split as they are tokenized."""
    for text in texts_of(corpus, name):
        yield rendered(tokenizer, text) if task.conversations else text


def _counted(tokenizer: Any, corpus: Corpus, task: Any, ids: int) -> np.ndarray:
    """Return how often each token stands in the training texts, (ids,) int64."""
    counts = np.zeros(ids, dtype=np.int64)
    with bar("counting tokens", corpus.splits["train"].rows, "texts") as advance:
        texts = _texts(tokenizer, corpus, "train", task)
        while some := list(islice(texts, AT_ONCE)):
            read = tokenizer(some, add_special_tokens=not task.conversations, verbose=False)["input_ids"]
            counts += np.bincount(np.concatenate([np.asarray(one, dtype=np.int64) for one in read]), minlength=ids)
            advance(len(some))
    return counts
