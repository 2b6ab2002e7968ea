"""Distil: make the student, check that it can learn, train it on the teacher's cached outputs, measure it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from edgedistill.distill.objective import TeacherSignals
from edgedistill.distill.preflight import check
from edgedistill.distill.vectors import check_spread, truncated
from edgedistill.files import sha256_of_tree
from edgedistill.models.anatomy import layers_of, of_encoder
from edgedistill.models.config_json import read_config
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.models.size_warnings import size_warnings
from edgedistill.models.student import Head, anatomy, describe, make
from edgedistill.models.vocabulary import trimmed_checkpoint
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.student_values import Tokens
from edgedistill.tasks._task import task_of
from edgedistill.training.evaluate import evaluate
from edgedistill.training.loop import train
from edgedistill.training.predict import outputs_of
from edgedistill.training.signals import SplitSignals, projection_of, rows_of
from edgedistill.values import Corpus, Evaluation, Signals, Student, Teacher


def start_of(tokens: Tokens, checkpoint: Path, progress: Path) -> Path:
    """Return the checkpoint that a student is made from.

    Args:
        tokens: may name a checkpoint of the student's own, and the tokens that it keeps.
        checkpoint: the teacher's, or what the teacher was before it knew the task.
        progress: where a copy with the kept tokens alone is written.
    """
    whole = checkpoint if tokens.start is None else tokens.path(tokens.start.checkpoint)
    if tokens.kept is None:
        return whole
    kept = np.load(tokens.path(tokens.kept))
    return trimmed_checkpoint(whole, kept, tokens.path(tokens.tokenizer), progress / f"trimmed_{whole.name}")


def head_of(corpus: Corpus, signals: Signals) -> Head:
    """Return what a student is to say of a text."""
    several: bool = task_of(signals.task).Options.SEVERAL
    return Head(corpus.labels, signals.width, projection_of(signals), several=several)


def make_student(options: StudentOptions, start: Path, head: Head, seed: int, progress: Path) -> Any:
    """Return an untrained student that takes what it can from the checkpoint `start`."""
    progress.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    return make(options, start, head, progress)


def measured(
    student: Any, corpus: Corpus, signals: Signals, tokens: Tokens, folder: Path, name: str = "evaluation"
) -> Evaluation:
    """Return what a trained model says of the held-out splits, and its metric; it goes to `name` below `folder`."""
    device = Accelerator().device
    student.to(device)

    def answer(split: str) -> np.ndarray:
        return outputs_of(student, rows_of(tokens, split), device)

    return evaluate(answer, signals, corpus.evaluation_splits, folder, name)


def distill(
    options: DistillOptions,
    student_options: StudentOptions,
    *,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    tokens: Tokens,
    folder: Path,
) -> Student:
    """Return the trained student; its checkpoint lies in `folder`/checkpoint.

    Raises:
        TrainingError: a pre-flight check fails, or the loss stops being finite.
    """
    progress, taught_by = folder / "progress", teacher.path(teacher.checkpoint)
    start = start_of(tokens, taught_by, progress)
    head = head_of(corpus, signals)
    student = make_student(student_options, start, head, options.seed, progress)
    tokenizer = load_tokenizer(tokens.path(tokens.tokenizer))
    live_teacher = load_model(taught_by)
    checks = check(student, live_teacher, tokenizer, options, corpus, signals, tokens)
    del live_teacher
    train_split, validation = SplitSignals(signals, "train", tokens), SplitSignals(signals, "validation", tokens)
    objective = TeacherSignals(options.losses, train_split, validation, signals)
    trained = train(student, train_split.rows, objective, options, progress / "training", "the student learns")
    checkpoint = folder / "checkpoint"
    student.save(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    evaluation = measured(student, corpus, signals, tokens, folder)
    weights = list(checkpoint.rglob("*.safetensors"))
    classes, longest, config = len(corpus.labels), tokenizer.model_max_length, read_config(taught_by)
    width = 0 if classes else head.width
    counted = anatomy(student_options, read_config(start), classes, longest, width, turned=head.projection is not None)
    whole = of_encoder("teacher", config, layers_of(config), classes, longest)
    return Student(
        kind=student_options.kind,
        checkpoint="checkpoint",
        initialised_from=describe(student_options),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        weights_bytes=sum(file.stat().st_size for file in weights),
        flops_per_token=counted.flops_per_token,
        training=trained,
        preflight=checks,
        evaluation=evaluation,
        truncations=truncated(evaluation, signals, corpus.evaluation_splits, folder),
        spread=None if classes else check_spread(outputs_of(student, validation.rows), validation),
        weights_sha256=sha256_of_tree(checkpoint, weights),
        size_warnings=size_warnings(student_options, whole, counted, tokens.seen_in_train),
    )
