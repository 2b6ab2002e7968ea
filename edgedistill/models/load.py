"""Loading classifiers and tokenizers from a folder; safetensors only, and no code from the folder is run."""

from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError
from edgedistill.models.classifier import STATIC, Classifier, StaticClassifier, TransformerClassifier
from edgedistill.models.config_json import has_head, read_config


def load_classifier(folder: Path) -> Classifier:
    """Return the classifier in `folder`, on the CPU, as float32.

    Raises:
        ModelError: the checkpoint has no classification head, or its files do not fit each other.
    """
    config = read_config(folder)
    if STATIC in (config.get("architectures") or []):
        return StaticClassifier.read(folder, config)
    if not has_head(config):
        raise ModelError(f"{folder} has no classification head; add teacher.fit to the recipe to train one")
    return TransformerClassifier(_from_pretrained(folder))


def load_encoder_with_new_head(folder: Path, labels: tuple[str, ...]) -> TransformerClassifier:
    """Return the checkpoint's encoder under a freshly initialised head for `labels`; seed torch before."""
    id2label = dict(enumerate(labels))
    label2id = {label: i for i, label in id2label.items()}
    return TransformerClassifier(_from_pretrained(folder, id2label=id2label, label2id=label2id))


def load_encoder(folder: Path, labels: tuple[str, ...]) -> Any:
    """Return the checkpoint's encoder alone, whether it was saved with a head or not."""
    headed = has_head(read_config(folder))
    return _from_pretrained(folder, **({} if headed else {"num_labels": len(labels)})).base_model.eval()


def _from_pretrained(folder: Path, **head: Any) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    quiet: Any = logging  # its functions carry no types
    verbosity = quiet.get_verbosity()
    quiet.set_verbosity_error()  # a new head is announced by us, in the report
    quiet.disable_progress_bar()
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            attn_implementation="eager",  # what the ONNX exporters read best; on short inputs as fast as sdpa
            **head,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{folder} cannot be loaded as a text classifier: {reason}") from error
    finally:
        quiet.set_verbosity(verbosity)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder`; its longest input is what tokenizer_config.json says.

    Raises:
        ModelError: there is none, or it exists only as Python code and not as a tokenizer.json.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{folder} has no tokenizer that can be loaded: {reason}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{folder} has no fast tokenizer (tokenizer.json); an app could not run it")
    return tokenizer
