"""What a checkpoint's config.json says; read without loading the model or its library."""

import json
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError


def read_config(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's config.json.

    Raises:
        ModelError: it is not there, or is no JSON.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from error
    return config


def has_head(config: dict[str, Any]) -> bool:
    """Whether a checkpoint was saved with a sequence classification head."""
    return any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or [])
