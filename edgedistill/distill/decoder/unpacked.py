"""The weights of a teacher that is a GGUF file as floats, for a student that is cut out of them.

They are written to disk, and held against what llama.cpp says of the file: a student that starts from other weights
than its teacher's would learn, only worse, and nobody would know why.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import torch

from edgedistill.corpus.read import texts_of
from edgedistill.decoder_values import DecoderStart, Unpacked
from edgedistill.distill.decoder.asking import loaded
from edgedistill.errors import DataError, ModelError, StageError
from edgedistill.models.decoder import load_decoder
from edgedistill.models.gguf_checkpoint import unpack
from edgedistill.models.load import load_tokenizer
from edgedistill.runtimes._likeness import LIMITS, ROWS, compared
from edgedistill.training.decoder_rows import DecoderRows, rows_of_texts, write_rows
from edgedistill.training.language import logits_of_row
from edgedistill.values import Corpus, Teacher

PARTS = ("token_ids", "offsets", "counts", "texts")
HELD_AGAINST = 8192  # tokens, of which the first rows are asked about


def weights_of(teacher: Teacher, start: DecoderStart | None, checkpoint: PurePosixPath) -> Path:
    """Return the folder with a teacher's weights as PyTorch reads them: its own, or where those of a file were written.

    Args:
        start: None where the teacher's own checkpoint has them.
        checkpoint: of the teacher.
    """
    if start is None or start.unpacked is None:
        return teacher.path(checkpoint)
    return start.path(start.unpacked.checkpoint)


def written(teacher: Teacher, task: Any, corpus: Corpus, folder: Path) -> Unpacked:
    """Write a GGUF file's weights as floats to `folder`/unpacked, and prove that they are those of the file.

    Raises:
        ModelError: PyTorch with these weights says something else than llama.cpp does with the file.
    """
    if teacher.gguf is None:
        raise StageError(f"a teacher of kind {teacher.kind} has no GGUF file to be unpacked")
    rows = calibration_rows(task, teacher, corpus, folder, HELD_AGAINST).counted
    if not rows.positions:
        raise DataError("the calibration split has no token to hold the teacher's weights against its file; add texts")
    place = unpack(teacher.path(teacher.gguf), folder / "unpacked")
    answer = logits_of_row(load_decoder(place), torch.device("cpu"))
    vocabulary = max(load_tokenizer(place).get_vocab().values()) + 1
    in_llama_cpp = loaded(teacher, task.max_length, threads=1)
    kl, agreement, sure = compared(answer, in_llama_cpp.logits, rows, vocabulary)
    kl_limit, sure_limit = LIMITS["quantized"]
    if not (kl <= kl_limit and sure >= sure_limit):
        raise ModelError(
            f"the weights of {teacher.source} say something else in PyTorch than in llama.cpp: KL divergence "
            f"{kl:.3g} nats (limit {kl_limit:g}), same token at {sure:.1%} of sure positions (limit {sure_limit:.0%}); "
            "choose student.kind: pretrained, or teacher.kind: transformers"
        )
    positions = int(rows.starts[min(ROWS, len(rows.starts) - 1)])
    return Unpacked(checkpoint="unpacked", positions=positions, kl=kl, agreement=agreement)


def calibration_rows(
    task: Any, teacher: Teacher, corpus: Corpus, folder: Path, tokens: int, prefix: str = ""
) -> DecoderRows:
    """Return rows of the calibration split, at most so many tokens; their files lie in `folder`/progress."""
    tokenizer = load_tokenizer(teacher.path(teacher.checkpoint))
    files = {part: folder / "progress" / f"{prefix}{part}.npy" for part in PARTS}
    texts = rows_of_texts(tokenizer, texts_of(corpus, "calibration"), task.max_length, conversations=task.conversations)
    return write_rows(texts, files, tokenizer.pad_token_id, tokens)
