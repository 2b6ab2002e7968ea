"""What a checkpoint's config.json says; read without loading the model or its library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError

STATIC = "StaticClassifier"
"""The architecture that a checkpoint of a static student names."""
STATIC_EMBEDDER = "StaticEmbedder"
"""The architecture that a checkpoint of a static student names where it gives sentence vectors."""
SEVERAL = "multi_label_classification"
"""The `problem_type`, in transformers' words, of a classifier that gives each label a probability of its own."""
POSITIONS_AFTER_PADDING = {
    "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
"""Kinds of model that number their tokens from the padding's id + 1, as RoBERTa did in fairseq."""


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


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint says the next token, by how transformers names such classes."""
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.get("architectures") or [])


def labels_in(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the class names of a checkpoint's head, in the order of its logits.

    transformers leaves its own two default names out of config.json.
    """
    names = config.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    return tuple(str(names[str(i)]) for i in range(len(names)))


def other_head(config: dict[str, Any], kind: str, *, several: bool) -> str | None:
    """Return what is wrong where a checkpoint's own head says that it was trained for another task; None where nothing.

    Args:
        config: the checkpoint's.
        kind: the task's.
        several: whether several labels may hold at once there.
    """
    said = config.get("problem_type")
    if said is None or (said == SEVERAL) == several:
        return None
    cure = "choose another task.kind" if several else f"write task.kind: {SEVERAL}"
    return f"was trained as {said}, and '{kind}' is not that; {cure}, or add teacher.fit to train a new head"


def longest_input(config: dict[str, Any]) -> int | None:
    """Return the most tokens that a checkpoint has positions for; None where its config.json sets no limit."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1 or config.get("position_biased_input") is False:
        return None  # the last: DeBERTa's relative positions go on for ever
    if config.get("model_type") not in POSITIONS_AFTER_PADDING:
        return positions
    padding = config.get("pad_token_id")
    return positions - (padding if isinstance(padding, int) else 1) - 1
