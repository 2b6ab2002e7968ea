"""Distil: make the student, check that it can learn, train it on the teacher's cached outputs, measure it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from edgedistill.distill.objective import TeacherSignals
from edgedistill.distill.preflight import check
from edgedistill.files import sha256_of_tree
from edgedistill.models.anatomy import layers_of, of_encoder
from edgedistill.models.config_json import read_config
from edgedistill.models.load import load_classifier, load_tokenizer
from edgedistill.models.size_warnings import size_warnings
from edgedistill.models.student import anatomy, describe, make
from edgedistill.models.vocabulary import trimmed_checkpoint
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.student_values import Tokens
from edgedistill.training.evaluate import evaluate
from edgedistill.training.loop import train
from edgedistill.training.predict import logits_of
from edgedistill.training.signals import SplitSignals, rows_of
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


def make_student(options: StudentOptions, start: Path, labels: Sequence[str], seed: int, progress: Path) -> Any:
    """Return an untrained student that takes what it can from the checkpoint `start`."""
    progress.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    return make(options, start, tuple(labels), progress)


def measured(
    student: Any, corpus: Corpus, signals: Signals, tokens: Tokens, folder: Path, name: str = "evaluation"
) -> Evaluation:
    """Return a trained model's logits and metric on the held-out splits; they go to `name` below `folder`."""
    device = Accelerator().device
    student.to(device)

    def answer(split: str) -> np.ndarray:
        return logits_of(student, rows_of(tokens, split), len(corpus.labels), device)

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
    student = make_student(student_options, start, corpus.labels, options.seed, progress)
    tokenizer = load_tokenizer(tokens.path(tokens.tokenizer))
    live_teacher = load_classifier(taught_by)
    checks = check(student, live_teacher, tokenizer, options, corpus, signals, tokens)
    del live_teacher
    train_split, validation = SplitSignals(signals, "train", tokens), SplitSignals(signals, "validation", tokens)
    objective = TeacherSignals(options.losses, train_split, validation)
    trained = train(student, train_split.rows, objective, options, progress / "training", "the student learns")
    checkpoint = folder / "checkpoint"
    student.save(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    evaluation = measured(student, corpus, signals, tokens, folder)
    weights = list(checkpoint.glob("*.safetensors"))
    classes, longest, config = len(corpus.labels), tokenizer.model_max_length, read_config(taught_by)
    counted = anatomy(student_options, read_config(start), classes, longest)
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
        weights_sha256=sha256_of_tree(checkpoint, weights),
        size_warnings=size_warnings(student_options, whole, counted, tokens.seen_in_train),
    )
