"""A transformers checkpoint as teacher; one without a head for the task is first fitted on the gold labels.

Fitting is a step of its own, cached and reported, because the teacher's own quality bounds the student's.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedistill.errors import DataError, ModelError
from edgedistill.recipe_sections import ModelReference, TrainingOptions
from edgedistill.section import TeacherOptions
from edgedistill.values import Corpus, Teacher, Training


class FitOptions(TrainingOptions):
    """How a checkpoint without a head learns the task; defaults as in BERT's own fine-tuning.

    Source: Devlin et al. 2019, arXiv:1810.04805, appendix A.3 (2 to 4 epochs, 2e-5 to 5e-5, batch 16 or 32).
    """

    method: Literal["full", "head"] = Field("full", description="Train every weight, or only what follows the layers.")
    epochs: int = Field(3, ge=1, description="Most passes over the labelled training rows.")
    learning_rate: float = Field(5e-5, gt=0, description="Peak, after warm-up; a head alone wants about 1e-3.")


class Options(TeacherOptions):
    """Where the checkpoint lies, what it may be used for, and whether it must be fitted."""

    kind: Literal["transformers"]
    model: ModelReference = Field(description="Where the checkpoint lies; name one of hub, path, package, archive.")
    licence: str = Field(
        examples=["Apache-2.0"], description="SPDX id of the licence that the checkpoint is under; goes into NOTICE."
    )
    fit: FitOptions | None = Field(
        None, examples=[{"epochs": 3}], description="Train a head for the task's labels on the gold labels."
    )

    SIGNALS: ClassVar[frozenset[str]] = frozenset({"labels", "logits", "embeddings"})
    TASKS: ClassVar[frozenset[str]] = frozenset(
        {"text_classification", "multi_label_classification", "sentence_embedding", "text_generation"}
    )
    TOKEN_TABLE: ClassVar[bool] = True


def digest(options: Options, base: Path) -> str:
    """Return what changes when the checkpoint's files change; cheap."""
    from edgedistill.models.resolve import digest

    return digest(options.model, base)


def labels_of(options: Options, base: Path, cache: Path) -> tuple[str, ...] | None:
    """Return the labels that the checkpoint's own head knows; None where it is to be fitted."""
    from edgedistill.models.config_json import has_head, labels_in, read_config
    from edgedistill.models.resolve import resolve

    if options.fit is not None:
        return None
    config = read_config(resolve(options.model, base, cache))
    if not has_head(config):
        raise ModelError(
            f"{options.model.path or options.model.hub or options.model.folder} has no classification head; "
            "add teacher.fit to train one on the gold labels, for example: fit: {method: full, epochs: 3}"
        )
    return labels_in(config)


def prepare(options: Options, task: Any, corpus: Corpus, base: Path, folder: Path) -> Teacher:
    """Return the teacher, ready to answer for exactly the corpus' labels; without any, with sentence vectors.

    Args:
        task: its options; max_length cuts the texts.
        base: the folder that relative paths start from.
        folder: of this stage; the checkpoint goes to `checkpoint/`, what it was before fitting to `base/`.

    Raises:
        ModelError: the checkpoint cannot be used, or its labels are not the corpus'.
        DataError: there is nothing to fit it on.
    """
    if task.GOLD_IN_TEXT:
        from edgedistill.teachers import _decoder

        return _decoder.prepare(options, task, corpus, base, folder)

    import torch

    from edgedistill.files import sha256_of_tree
    from edgedistill.models.load import load_encoder_with_new_head, load_tokenizer
    from edgedistill.models.resolve import copy_checkpoint, copy_texts, describe, resolve

    progress = folder / "progress"
    progress.mkdir(exist_ok=True)
    source = resolve(options.model, base, progress)
    tokenizer = load_tokenizer(source)
    tokenizer.model_max_length = task.max_length
    fitted: Training | None = None
    if not corpus.labels:
        model = _embedder(source, tokenizer, task)
    elif options.fit is None:
        model = _with_known_labels(source, corpus.labels, task)
    else:
        torch.manual_seed(options.fit.seed)
        model = load_encoder_with_new_head(source, corpus.labels)
        copy_checkpoint(source, folder / "base")
        tokenizer.save_pretrained(folder / "base")
    if corpus.labels:
        model.several = task.SEVERAL
    _check_reads(model, tokenizer, task.max_length)
    if options.fit is not None:
        fitted = _fit(model, tokenizer, options.fit, task, corpus, progress)
    checkpoint = folder / "checkpoint"
    model.save(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    copy_texts(source, checkpoint)
    weights = sorted(checkpoint.rglob("*.safetensors"))
    return Teacher(
        kind=options.kind,
        source=describe(options.model),
        revision=options.model.revision,
        licence=options.licence,
        task=task.kind,
        labels=corpus.labels,
        signals=options.SIGNALS,
        checkpoint="checkpoint",
        base="base" if fitted is not None else None,
        weights_sha256=sha256_of_tree(checkpoint, weights),
        source_weights_sha256=sha256_of_tree(source, list(source.glob("*.safetensors"))),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_bytes=sum(file.stat().st_size for file in weights),
        fit_method=options.fit.method if options.fit is not None else None,
        fit=fitted,
    )


def _embedder(source: Path, tokenizer: Any, task: Any) -> Any:
    """Return the teacher of sentence vectors, once it is known that its own users read texts as it is done here."""
    from edgedistill.models import sentence_transformers
    from edgedistill.models.load import load_embedder

    if sentence_transformers.is_there(source):
        sentence_transformers.check_used_alike(source, task.pooling)
        if sentence_transformers.lowers_case(source) and tokenizer("Abc")["input_ids"] != tokenizer("abc")["input_ids"]:
            raise ModelError(
                f"{source / sentence_transformers.READING} has texts in lower case (do_lower_case), and the tokenizer "
                "does not do it; choose a teacher whose tokenizer.json does"
            )
    return load_embedder(source, task.pooling)


def _with_known_labels(source: Path, labels: tuple[str, ...], task: Any) -> Any:
    from edgedistill.models.config_json import other_head, read_config
    from edgedistill.models.load import load_model

    other = other_head(read_config(source), task.kind, several=task.SEVERAL)
    if other is not None:
        raise ModelError(f"the teacher's head {other}")

    model = load_model(source)
    if model.labels != labels:
        raise ModelError(
            f"the teacher's labels are {list(model.labels)}, the corpus' are {list(labels)}; "
            "name task.labels in the teacher's order, or add teacher.fit to train a new head"
        )
    return model


def _check_reads(model: Any, tokenizer: Any, max_length: int) -> None:
    """Check that the model has a vector for every token id, and for every position of the longest input.

    Raises:
        ModelError: it has not; without this, training would stop at the first text that shows it.
    """
    import torch

    if model.model.config.pad_token_id is None:  # by which decoders find the end of a text in a batch
        model.model.config.pad_token_id = tokenizer.pad_token_id
    ids, rows = len(tokenizer), model.model.get_input_embeddings().num_embeddings
    if ids > rows:
        raise ModelError(f"the tokenizer has {ids} ids, the model's table {rows} rows; they are not of one checkpoint")
    token = tokenizer.unk_token_id or 0
    with torch.no_grad():
        try:
            model.eval()(*_of_length(2, token))
        except Exception as error:  # an architecture may raise anything
            raise ModelError(f"the teacher cannot read two short texts: {type(error).__name__}: {error}") from error
        try:
            model(*_of_length(max_length, token))
        except (IndexError, RuntimeError) as error:
            raise ModelError(
                f"task.max_length: {max_length} tokens are more than the teacher has positions for; lower it"
            ) from error


def _of_length(tokens: int, token: int) -> tuple[Any, Any]:
    """Return ids and mask of two texts of this length."""
    import torch

    ids = torch.full((2, tokens), token)
    return ids, torch.ones_like(ids)


def _fit(model: Any, tokenizer: Any, options: FitOptions, task: Any, corpus: Corpus, progress: Path) -> Training:
    """Train `model` in place on the labelled training rows."""
    import numpy as np

    from edgedistill.corpus.read import labels_of, texts_of
    from edgedistill.training.gold import GoldLabels
    from edgedistill.training.loop import train
    from edgedistill.training.rows import tokenize

    labels, held_out_labels = labels_of(corpus, "train"), labels_of(corpus, "validation")
    known = np.flatnonzero(labels >= 0)
    if len(known) == 0 or not (held_out_labels >= 0).any():
        raise DataError("teacher.fit needs gold labels in train and validation; give labelled rows, or leave fit out")
    if options.method == "head":
        _freeze_layers(model)
    texts, held_out_texts = texts_of(corpus, "train", labelled=True), texts_of(corpus, "validation")
    rows = tokenize(tokenizer, texts, task.max_length, progress / "ids.npy", progress / "offsets.npy")
    held_out = tokenize(tokenizer, held_out_texts, task.max_length, progress / "v_ids.npy", progress / "v_offsets.npy")
    objective = GoldLabels(labels[known], held_out, held_out_labels, task.kind)
    trained = train(model, rows, objective, options, progress / "training", "fitting the teacher")
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return trained


def _freeze_layers(model: Any) -> None:
    """Leave only what follows the embeddings and the layers to be trained: pooler and head."""
    encoder = model.model.base_model
    for name, part in encoder.named_children():
        part.requires_grad_(name == "pooler")
