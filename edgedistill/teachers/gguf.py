"""A GGUF file that llama.cpp runs as teacher of language models: its weights are never made floats to be asked.

So a teacher can teach that would not fit into memory as float32, and what it says is what its users hear: the
quantized weights, multiplied with activations that llama.cpp rounds to 8 bits. It is not fitted: codes are not trained.
"""

import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from edgedistill.errors import ModelError
from edgedistill.recipe_sections import MOST_THREADS, ModelReference
from edgedistill.section import TeacherOptions
from edgedistill.teachers._decoder import TALKS
from edgedistill.values import Corpus, Teacher

UNFITTED = (
    "the weights of a GGUF file are quantized, and those are not trained; leave fit out, or choose kind: transformers "
    "with the same model, which makes floats of them first"
)


class Options(TeacherOptions):
    """Where the GGUF file lies, what it may be used for, and how many threads read with it."""

    kind: Literal["gguf"]
    model: ModelReference = Field(
        examples=[{"path": "../models", "file": "model-q8_0.gguf"}],
        description="Where the file lies; name one of hub, path, package, archive, and file.",
    )
    licence: str = Field(
        examples=["Apache-2.0"], description="SPDX id of the licence that the model is under; goes into NOTICE."
    )
    threads: int = Field(
        1,
        ge=1,
        le=MOST_THREADS,
        examples=[4],
        description="Of llama.cpp while the teacher reads; more than idle CPUs make it slower.",
    )
    fit: None = Field(None, description="Nothing but null: quantized weights are not trained.")

    SIGNALS: ClassVar[frozenset[str]] = frozenset({"logits"})
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})
    IN_PYTORCH: ClassVar[bool] = False
    EXTRA: ClassVar[str] = "gguf"
    IMPORTS: ClassVar[tuple[str, ...]] = ("gguf", "llama_cpp")

    @field_validator("fit", mode="before")
    @classmethod
    def _is_not_fitted(cls, fit: object) -> object:
        if fit is not None:
            raise ValueError(UNFITTED)
        return fit

    @field_validator("model")
    @classmethod
    def _names_a_file(cls, model: ModelReference) -> ModelReference:
        if model.file is None:
            raise ValueError("names no file; add the .gguf file in that place, for example: file: model-q8_0.gguf")
        return model


def digest(options: Options, base: Path) -> str:
    """Return what changes when the file changes; cheap."""
    from edgedistill.models.resolve import digest

    return digest(options.model, base)


def labels_of(options: Options, base: Path, cache: Path) -> tuple[str, ...]:  # noqa: ARG001 - it has none to look up
    """Return no labels: a language model has none."""
    return ()


def prepare(options: Options, task: Any, corpus: Corpus, base: Path, folder: Path) -> Teacher:  # noqa: ARG001
    """Return the teacher, once llama.cpp has loaded it.

    Args:
        task: its options.
        corpus: unused; nothing is fitted.
        base: the folder that relative paths start from.
        folder: of this stage; `checkpoint/` gets the file, and what it says of its model and tokenizer.

    Raises:
        ModelError: the file is not there, or cannot be used for this task.
    """
    from edgedistill.files import sha256_of
    from edgedistill.models.gguf_checkpoint import outline
    from edgedistill.models.gguf_contents import contents
    from edgedistill.models.load import load_tokenizer
    from edgedistill.models.resolve import copy_texts, describe, gguf_of
    from edgedistill.runtimes import llama_cpp

    progress = folder / "progress"
    progress.mkdir(exist_ok=True)
    source = gguf_of(options.model, base, progress)
    checkpoint = outline(source, folder / "checkpoint")
    file = checkpoint / source.name
    shutil.copyfile(source, file)
    copy_texts(source.parent, checkpoint)
    if task.conversations and load_tokenizer(checkpoint).chat_template is None:
        raise ModelError(f"{source.name} has no chat template, and task.conversations needs one; {TALKS}")
    llama_cpp.load(checkpoint, file.name, threads=options.threads, context_tokens=_context(checkpoint, task.max_length))
    held, digest_of_file = contents(file), sha256_of(file)
    return Teacher(
        kind=options.kind,
        source=describe(options.model),
        revision=options.model.revision,
        licence=options.licence,
        task=task.kind,
        labels=(),
        signals=options.SIGNALS,
        checkpoint="checkpoint",
        gguf=f"checkpoint/{file.name}",
        base=None,
        weights_sha256=digest_of_file,
        source_weights_sha256=digest_of_file,
        parameters=held.parameters,
        weights_bytes=held.weights_bytes,
        fit_method=None,
        fit=None,
    )


def _context(checkpoint: Path, tokens: int) -> int:
    """Return the tokens that the teacher is to read at once.

    Raises:
        ModelError: it was made for fewer.
    """
    from edgedistill.models.config_json import longest_input, read_config

    longest = longest_input(read_config(checkpoint))
    if longest is not None and tokens > longest:
        raise ModelError(f"task.max_length: {tokens} tokens are more than the teacher's {longest}; lower it")
    return tokens
