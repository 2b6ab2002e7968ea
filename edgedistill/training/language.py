"""Holding a language model against the held-out splits of a run, and against the models that came before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.decoder_values import DecoderEvaluation, DecoderSignals, DecoderStudent
from edgedistill.progress import bar
from edgedistill.training.decoder_quality import summary
from edgedistill.training.decoder_rows import DecoderRows, mapped_rows
from edgedistill.training.folding import Folding, read_folding
from edgedistill.training.positions import Answer, positions_of, write_reference


@dataclass(frozen=True)
class Before:
    """A model of the same run that came before, on one split."""

    log_probs: np.ndarray  # (positions, vocabulary) float16, memory-mapped
    positions: np.ndarray  # (positions,) of POSITION


def before(value: DecoderSignals | DecoderStudent) -> dict[str, Before]:
    """Return what the teacher, or the float student, said of each held-out split."""
    return {
        split: Before(
            np.load(value.path(file), mmap_mode="r"), np.load(value.path(value.evaluation.positions[split]))
        )
        for split, file in value.reference.items()
    }  # fmt: skip


def rows_of(signals: DecoderSignals, name: str) -> DecoderRows:
    """Return one split's rows."""
    said = signals.splits[name]
    files = {part: signals.path(getattr(said, part)) for part in ("token_ids", "offsets", "counts", "texts")}
    return mapped_rows(files, signals.pad_token_id, whole=signals.conversations)


def folding_of(signals: DecoderSignals) -> Folding | None:
    """Return how the teacher's tokens become those of the rows; None where they are the same."""
    whole = signals.whole
    return None if whole is None else read_folding(signals.path(whole.kept), signals.path(whole.first))


def logits_of_row(model: Any, device: torch.device) -> Answer:
    """Return what asks a model in PyTorch about one row: ids -> logits after each, (tokens, vocabulary) float32."""

    @torch.no_grad()
    def answer(ids: Sequence[int]) -> np.ndarray:
        given = torch.tensor([list(ids)], device=device)
        said: np.ndarray = model(given, torch.ones_like(given))[0].float().cpu().numpy()
        return said

    model.eval()
    return answer


def evaluated(
    answer: Answer,
    held_out: Mapping[str, DecoderRows],
    folder: Path,
    name: str,
    vocabulary: int,
    *,
    teacher: Mapping[str, Before] | None = None,
    student: Mapping[str, Before] | None = None,
) -> DecoderEvaluation:
    """Write what a model says of each split to `name`/<split>.npy below `folder`, and what it adds up to.

    Args:
        answer: the model.
        held_out: rows by split.
        vocabulary: ids that the tokenizer knows.
        teacher: what it is held against.
        student: the float student, where the model is made of it.
    """
    (folder / name).mkdir(exist_ok=True)
    files, quality = {}, {}
    for split, rows in held_out.items():
        of_teacher, of_student = (None if one is None else one[split] for one in (teacher, student))
        files[split] = f"{name}/{split}.npy"
        with bar(f"{name.replace('_', ' ')} on {split}", rows.counted.positions, "positions") as advance:
            positions = positions_of(
                answer, rows.counted, vocabulary, advance=advance,
                teacher=None if of_teacher is None else of_teacher.log_probs,
                student=None if of_student is None else of_student.log_probs,
            )  # fmt: skip
        np.save(folder / files[split], positions)
        quality[split] = _summary(positions, rows, of_teacher, of_student)
    return DecoderEvaluation(positions=files, quality=quality)


def recorded(
    answer: Answer,
    held_out: Mapping[str, DecoderRows],
    folder: Path,
    name: str,
    vocabulary: int,
    *,
    teacher: Mapping[str, Before] | None = None,
) -> tuple[DecoderEvaluation, dict[str, str]]:
    """As `evaluated`, and keep all log-probabilities, so that what comes later can be held against this model.

    Returns:
        What it adds up to; and by split the file, relative to `folder`, of (positions, vocabulary) float16.
    """
    progress = folder / "progress"
    for place in (folder / name, progress):
        place.mkdir(exist_ok=True)
    files, references, quality = {}, {}, {}
    for split, rows in held_out.items():
        files[split], references[split] = f"{name}/{split}.npy", f"{name}/{split}.log_probs.npy"
        of_teacher = None if teacher is None else teacher[split]
        positions = write_reference(
            answer, rows.counted, vocabulary, folder / references[split], folder / files[split], progress,
            f"{name.replace('_', ' ')} on {split}", teacher=None if of_teacher is None else of_teacher.log_probs,
        )  # fmt: skip
        quality[split] = _summary(positions, rows, of_teacher, None)
    return DecoderEvaluation(positions=files, quality=quality), references


def _summary(positions: np.ndarray, rows: DecoderRows, teacher: Before | None, student: Before | None) -> Any:
    return summary(
        positions,
        rows.counted.starts,
        tokens=rows.counted.tokens,
        teacher=None if teacher is None else teacher.positions,
        student=None if student is None else student.positions,
        whole=rows.whole,
    )
