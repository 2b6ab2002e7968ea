"""A student of any kind, as its recipe wants it: made and counted by its kind, then what composes with every kind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill import registry
from edgedistill.models.anatomy import Anatomy, layers_of
from edgedistill.recipe_sections import ModelReference
from edgedistill.section import StudentOptions, TeacherOptions

STUDENTS = "edgedistill.models.students"


def own_checkpoint(options: StudentOptions) -> ModelReference | None:
    """Return the checkpoint that the student starts from instead of the teacher's; None for most kinds."""
    return getattr(options, "model", None)


def starts_apart(options: StudentOptions, teacher: TeacherOptions) -> bool:
    """Whether a decoder starts from more than its teacher: a checkpoint of its own, weights as floats, measurements."""
    return own_checkpoint(options) is not None or options.CALIBRATED or cut_from_codes(options, teacher)


def cut_from_codes(options: StudentOptions, teacher: TeacherOptions) -> bool:
    """Whether a decoder needs its teacher's weights, and PyTorch cannot read them as they are."""
    cut = own_checkpoint(options) is None or options.vocabulary is not None
    return cut and not teacher.IN_PYTORCH


@dataclass(frozen=True)
class Head:
    """What a student says of a text: a logit for each label, or a sentence vector."""

    labels: tuple[str, ...]  # empty: a vector
    width: int  # numbers in the answer
    projection: Any = None  # (teacher's width, width) float32: how the teacher's vectors are turned; None: not at all
    several: bool = False  # whether several labels may hold at once


def make(options: StudentOptions, start: Path, head: Head, folder: Path) -> Any:
    """Return an untrained student; seed torch before.

    Args:
        start: the checkpoint to make it from, its vocabulary trimmed already where that is asked for.
        head: what it is to say.
        folder: where half-finished work is kept.
    """
    student = registry.load(STUDENTS, options.kind).make(options, start, head.labels, folder)
    if head.labels:
        student.several = head.several
    else:
        import torch

        from edgedistill.models.embedder import projected

        projected(student, head.width, None if head.projection is None else torch.from_numpy(head.projection))
    if options.embedding_rank is not None:
        from edgedistill.models.factorised import factorise

        factorise(student, options.embedding_rank)
    return student


def make_decoder(options: StudentOptions, start: Path, folder: Path) -> Any:
    """Return an untrained language model; seed torch before.

    Args:
        start: the checkpoint to make it from; the student's own is taken as it is.
        folder: where half-finished work is kept, or what was measured of `start` lies.
    """
    from edgedistill.models.decoder import load_decoder

    if own_checkpoint(options) is not None:
        return load_decoder(start)
    return registry.load(STUDENTS, options.kind).make(options, start, (), folder)


def decoder_anatomy(options: StudentOptions, config: Mapping[str, Any], tokens: int) -> Anatomy:
    """Count a language model without making it; as `anatomy`."""
    from edgedistill.models.decoder_anatomy import of_decoder

    if own_checkpoint(options) is not None:
        return of_decoder("student", config, layers_of(config), tokens)
    counted: Anatomy = registry.load(STUDENTS, options.kind).anatomy(options, config, 0, tokens)
    return counted


def changed_widths(options: StudentOptions, config: Mapping[str, Any]) -> dict[str, int]:
    """Return what a decoder's config.json says otherwise than that of the checkpoint which it is made of; not layers.

    Raises:
        ModelError: there can be no such student.
    """
    told = getattr(registry.load(STUDENTS, options.kind), "changed", None)
    return {} if told is None else dict(told(options, config))


def unfit(options: StudentOptions, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (the recipe's key, what is wrong), where a kind can tell more than the first thing that is."""
    told = getattr(registry.load(STUDENTS, options.kind), "problems", None)
    if told is not None:
        yield from told(options, config)


def anatomy(
    options: StudentOptions,
    config: Mapping[str, Any],
    classes: int,
    tokens: int,
    width: int = 0,
    *,
    turned: bool = False,
) -> Anatomy:
    """Count the student without making it.

    Args:
        config: config.json of the checkpoint that it starts from; its `vocab_size` is that of the student.
        classes: columns of the head; 0 for a sentence embedder.
        tokens: length of the input at which the cost of attention is counted.
        width: numbers in a sentence's vector; 0 for a classifier.
        turned: whether the vectors lie in other directions than the teacher's.

    Raises:
        ModelError: there can be no such student; the text begins with the recipe's key.
    """
    counted: Anatomy = registry.load(STUDENTS, options.kind).anatomy(options, config, classes, tokens)
    if width and (turned or counted.layers == 0 or counted.hidden_size != width):
        counted = counted.projected(width, tokens)
    return counted if options.embedding_rank is None else counted.factorised(options.embedding_rank)


def describe(options: StudentOptions) -> str:
    """Say in words what the student starts from, and what was done to its token table."""
    said: list[str] = [registry.load(STUDENTS, options.kind).describe(options)]
    if options.vocabulary is not None:
        said.append("with only the tokens that its texts need")
    if options.embedding_rank is not None:
        said.append(f"its token table as two factors of rank {options.embedding_rank}")
    return ", ".join(said)


def most_tokens(options: StudentOptions, config: Mapping[str, Any]) -> int:
    """Return the largest vocabulary that the student can have, before anybody has counted the texts' tokens."""
    whole: int = config["vocab_size"]
    limit = options.vocabulary.size if options.vocabulary is not None else None
    return whole if limit is None else min(limit, whole)
