"""A student that is a checkpoint of its own: any encoder with its own tokenizer, taught by the teacher's logits.

A loss over whole texts does not ask the two models to read the same tokens, only to answer the same texts. A language
model is taught token by token: it may be any that reads what its teacher reads, which is proven before it is.

Source: Turc et al. 2019, "Well-Read Students Learn Better", arXiv:1908.08962, section 3 (a compact model that was
pretrained by itself, and is then distilled into).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedistill.errors import ModelError
from edgedistill.models.anatomy import Anatomy, layers_of, of_encoder
from edgedistill.models.config_json import STATIC
from edgedistill.recipe_sections import ModelReference
from edgedistill.section import StudentOptions


class Options(StudentOptions):
    """Where the checkpoint lies, and what it may be used for."""

    kind: Literal["pretrained"]
    model: ModelReference = Field(description="The checkpoint that the student starts from.")
    licence: str = Field(
        examples=["Apache-2.0"], description="SPDX id of the licence that the checkpoint is under; goes into NOTICE."
    )

    TASKS: ClassVar[frozenset[str]] = frozenset(
        {"text_classification", "multi_label_classification", "sentence_embedding", "text_generation"}
    )


def make(options: Options, teacher: Path, labels: tuple[str, ...], folder: Path) -> Any:
    """Return the checkpoint as a classifier: with its own head where that has these labels, else with a new one.

    Without labels it is a sentence embedder, which pools as its own folder says, else by the mean.

    Args:
        teacher: here the student's own checkpoint, which the stage before has fetched.
        labels: class names; seed torch before, for a new head.
        folder: unused; other kinds of student keep half-finished work there.
    """
    from edgedistill.models.config_json import has_head, labels_in, read_config
    from edgedistill.models.load import load_embedder, load_encoder_with_new_head, load_model, load_tokenizer
    from edgedistill.models.sentence_transformers import is_there

    written = read_config(teacher)
    student: Any
    if not labels:
        student = load_embedder(teacher, None if is_there(teacher) else "mean")
    elif has_head(written) and labels_in(written) == labels:
        student = load_model(teacher)
    else:
        student = load_encoder_with_new_head(teacher, labels)
    if student.model.config.pad_token_id is None:  # by which decoders find the end of a text in a batch
        student.model.config.pad_token_id = load_tokenizer(teacher).pad_token_id
    return student


def anatomy(options: Options, config: Mapping[str, Any], classes: int, tokens: int) -> Anatomy:
    """Count the student without loading it.

    Raises:
        ModelError: the checkpoint is a table of token vectors, which has no encoder.
    """
    if STATIC in (config.get("architectures") or []):
        raise ModelError("student.model: is a static student, which has no encoder; name a transformers checkpoint")
    return of_encoder("student", config, layers_of(config), classes, tokens)


def describe(options: Options) -> str:
    """Say in words what the student starts from."""
    from edgedistill.models.resolve import describe

    return f"a checkpoint of its own and not the teacher's: {describe(options.model)}"
