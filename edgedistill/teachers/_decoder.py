"""A causal language model as teacher: read as it comes, or first fitted on the answers of the training rows.

Fitting is supervised fine-tuning on gold: every token that counts, with its cross-entropy.
"""

from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError
from edgedistill.values import Corpus, Teacher, Training

TALKS = "name an instruct model, whose files have one, or leave conversations out and give texts"


def prepare(options: Any, task: Any, corpus: Corpus, base: Path, folder: Path) -> Teacher:
    """Return the teacher.

    Args:
        options: model, licence and fit, as `transformers.Options` has them.
        task: its options; max_length cuts the texts.
        base: the folder that relative paths start from.
        folder: of this stage; the checkpoint goes to `checkpoint/`, what it was before fitting to `base/`.

    Raises:
        ModelError: the checkpoint cannot be used for this task.
    """
    from edgedistill.files import sha256_of_tree
    from edgedistill.models.decoder import load_decoder
    from edgedistill.models.load import load_tokenizer
    from edgedistill.models.resolve import copy_checkpoint, copy_texts, describe, resolve

    progress = folder / "progress"
    progress.mkdir(exist_ok=True)
    source = resolve(options.model, base, progress)
    tokenizer = load_tokenizer(source)
    model = load_decoder(source)
    _check(tokenizer, model, task)
    fitted: Training | None = None
    if options.fit is not None:
        copy_checkpoint(source, folder / "base")
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
        labels=(),
        signals=options.SIGNALS,
        checkpoint="checkpoint",
        base="base" if fitted is not None else None,
        weights_sha256=sha256_of_tree(checkpoint, weights),
        source_weights_sha256=sha256_of_tree(source, list(source.glob("*.safetensors"))),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_bytes=sum(file.stat().st_size for file in weights),
        fit_method=None if options.fit is None else options.fit.method,
        fit=fitted,
    )


def _check(tokenizer: Any, model: Any, task: Any) -> None:
    """Check that the model has a vector for each token, a position for each place, and a template where one is needed.

    Raises:
        ModelError: it has not.
    """
    if len(tokenizer) > model.vocab_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} ids, the model's table {model.vocab_size} rows; "
            "they are not of one checkpoint"
        )
    positions = getattr(model.model.config, "max_position_embeddings", None)
    if positions is not None and task.max_length > positions:
        raise ModelError(f"task.max_length: {task.max_length} tokens are more than the teacher's {positions}; lower it")
    if task.conversations and tokenizer.chat_template is None:
        raise ModelError(f"the teacher's tokenizer has no chat template, and task.conversations needs one; {TALKS}")


def _fit(model: Any, tokenizer: Any, options: Any, task: Any, corpus: Corpus, progress: Path) -> Training:
    """Train `model` in place on what follows in the training rows."""
    from edgedistill import registry
    from edgedistill.corpus.read import texts_of
    from edgedistill.training.decoder_rows import rows_of_texts, write_rows
    from edgedistill.training.following import Following
    from edgedistill.training.loop import train

    if options.method == "head":
        raise ModelError("teacher.fit.method: 'head' trains what follows the layers, and a decoder has nothing there")
    read = {}
    for name, limit in (("train", task.train_tokens), ("validation", 2 * task.judged_positions)):
        files = {part: progress / f"{name}.{part}.npy" for part in ("token_ids", "offsets", "counts", "texts")}
        rows = rows_of_texts(tokenizer, texts_of(corpus, name), task.max_length, conversations=task.conversations)
        read[name] = write_rows(rows, files, tokenizer.pad_token_id, limit)
    gold = registry.load("edgedistill.distill.losses", "cross_entropy").Options(loss="cross_entropy")
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    objective = Following((gold,), read["train"], read["validation"], None, vocabulary)
    return train(model, read["train"].tokens, objective, options, progress / "training", "fitting the teacher")
