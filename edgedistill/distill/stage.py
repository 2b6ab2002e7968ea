"""Distil: make the student, check that it can learn, train it on the teacher's cached outputs, measure it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from edgedistill import registry
from edgedistill.distill.objective import TeacherSignals
from edgedistill.distill.preflight import check
from edgedistill.files import sha256_of_tree
from edgedistill.models.anatomy import Anatomy
from edgedistill.models.config_json import read_config
from edgedistill.models.load import load_classifier, load_tokenizer
from edgedistill.recipe_sections import DistillOptions
from edgedistill.section import StudentOptions
from edgedistill.training.evaluate import evaluate
from edgedistill.training.loop import train
from edgedistill.training.predict import logits_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import Corpus, Evaluation, Signals, Student, Teacher

STUDENTS = "edgedistill.models.students"


def make_student(options: StudentOptions, start: Path, labels: Sequence[str], seed: int, progress: Path) -> Any:
    """Return an untrained student that takes what it can from the checkpoint `start`."""
    progress.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    return registry.load(STUDENTS, options.kind).make(options, start, tuple(labels), progress)


def measured(student: Any, corpus: Corpus, signals: Signals, folder: Path, name: str = "evaluation") -> Evaluation:
    """Return a trained model's logits and metric on the held-out splits; they go to `name` below `folder`."""
    device = Accelerator().device
    student.to(device)

    def answer(split: str) -> np.ndarray:
        return logits_of(student, SplitSignals(signals, split).rows, len(corpus.labels), device)

    return evaluate(answer, signals, corpus.evaluation_splits, folder, name)


def distill(
    options: DistillOptions,
    student_options: StudentOptions,
    *,
    teacher: Teacher,
    corpus: Corpus,
    signals: Signals,
    folder: Path,
) -> Student:
    """Return the trained student; its checkpoint lies in `folder`/checkpoint.

    Raises:
        TrainingError: a pre-flight check fails, or the loss stops being finite.
    """
    progress, start = folder / "progress", teacher.path(teacher.checkpoint)
    student = make_student(student_options, start, corpus.labels, options.seed, progress)
    tokenizer = load_tokenizer(start)
    live_teacher = load_classifier(start)
    checks = check(student, live_teacher, tokenizer, options, corpus, signals)
    del live_teacher
    train_split, validation = SplitSignals(signals, "train"), SplitSignals(signals, "validation")
    objective = TeacherSignals(options.losses, train_split, validation)
    trained = train(student, train_split.rows, objective, options, progress / "training", "the student learns")
    checkpoint = folder / "checkpoint"
    student.save(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    evaluation = measured(student, corpus, signals, folder)
    weights = list(checkpoint.glob("*.safetensors"))
    return Student(
        kind=student_options.kind,
        checkpoint="checkpoint",
        initialised_from=registry.load(STUDENTS, student_options.kind).describe(student_options),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        weights_bytes=sum(file.stat().st_size for file in weights),
        flops_per_token=student_anatomy(
            student_options, start, len(corpus.labels), tokenizer.model_max_length
        ).flops_per_token,
        training=trained,
        preflight=checks,
        evaluation=evaluation,
        weights_sha256=sha256_of_tree(checkpoint, weights),
    )


def student_anatomy(options: StudentOptions, teacher: Path, classes: int, tokens: int) -> Anatomy:
    """Count the student from the teacher's config.json, without making it."""
    anatomy: Anatomy = registry.load(STUDENTS, options.kind).anatomy(options, read_config(teacher), classes, tokens)
    return anatomy
