"""What a checkpoint's config.json says; read without loading the model or its library."""

import json
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError


def read_config(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's config.json.

    Raises:
        ModelError: it is not there, or is no JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} holds a {type(config).__name__}, and must hold an object")
    return config


def has_head(config: dict[str, Any]) -> bool:
    """Whether a checkpoint was saved with a sequence classification head."""
    return any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or [])


def labels_in(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the class names of a checkpoint's head, in the order of its logits.

    transformers leaves its own two default names out of config.json.
    """
    names = config.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    return tuple(str(names[str(i)]) for i in range(len(names)))
