"""Distil a causal language model: make the student, check that it can learn, train it, hold it against its teacher."""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from edgedistill.decoder_values import DecoderSignals, DecoderStart, DecoderStudent, DecoderTokens
from edgedistill.distill.decoder.preflight import check
from edgedistill.distill.decoder.start import beginning
from edgedistill.files import sha256_of_tree
from edgedistill.models.load import load_tokenizer
from edgedistill.models.student import describe, make_decoder
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions, TaskOptions
from edgedistill.training.following import Following, known_of
from edgedistill.training.language import before, logits_of_row, recorded, rows_of
from edgedistill.training.loop import train
from edgedistill.training.positions import Answer
from edgedistill.values import Corpus, Teacher

STUDENTS = "edgedistill.models.students"


def make_student(options: StudentOptions, start: Path, seed: int, folder: Path) -> Any:
    """Return an untrained student that takes what it can from the checkpoint `start`; both as `beginning` has them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    return make_decoder(options, start, folder)


def answering(model: Any) -> Answer:
    """Put a model where it computes, and return what asks it about a row."""
    device = Accelerator().device
    return logits_of_row(model.to(device), device)


def distill(
    options: DistillOptions,
    student_options: StudentOptions,
    *,
    task: TaskOptions,
    teacher: Teacher,
    corpus: Corpus,
    tokens: DecoderTokens | None,
    signals: DecoderSignals,
    start: DecoderStart | None,
    folder: Path,
) -> DecoderStudent:
    """Return the trained student; its checkpoint lies in `folder`/checkpoint.

    Args:
        tokens: those that it keeps; None where that is all of the teacher's.
        start: what it starts from beside its teacher; None where that is all.

    Raises:
        TrainingError: a pre-flight check fails, or the loss stops being finite.
    """
    progress, read_with = folder / "progress", teacher if tokens is None else tokens
    made_from, measured = beginning(start, teacher, teacher.checkpoint, progress, tokens)
    student = make_student(student_options, made_from, options.seed, measured)
    tokenizer = load_tokenizer(read_with.path(read_with.checkpoint))
    rows = rows_of(signals, "train")
    objective = Following(options.losses, rows, rows_of(signals, "validation"), known_of(signals), signals.vocabulary)
    checks = check(student, tokenizer, task, options, corpus, signals, objective, rows)
    trained = train(student, rows.tokens, objective, options, progress / "training", "the student learns")
    checkpoint = folder / "checkpoint"
    student.save(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    held_out = {split: rows_of(signals, split) for split in corpus.evaluation_splits}
    evaluation, reference = recorded(
        answering(student), held_out, folder, "evaluation", signals.vocabulary, teacher=before(signals)
    )
    weights = list(checkpoint.rglob("*.safetensors"))
    return DecoderStudent(
        kind=student_options.kind,
        checkpoint="checkpoint",
        initialised_from=describe(student_options),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        weights_bytes=sum(file.stat().st_size for file in weights),
        training=trained,
        preflight=checks,
        evaluation=evaluation,
        reference=reference,
        weights_sha256=sha256_of_tree(checkpoint, weights),
    )
