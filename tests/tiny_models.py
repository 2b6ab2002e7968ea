"""Tiny checkpoints of several architectures, with random weights, made in code."""

from pathlib import Path
from typing import Any

import torch
from tiny_artifact import LABELS, VOCAB, write_tokenizer

NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
ARCHITECTURES = ("bert", "roberta", "distilbert", "electra")
HIDDEN = 32


def config_of(architecture: str, layers: int = 4, **changes: Any) -> Any:
    """Return a transformers configuration for a tiny classifier."""
    import transformers as t

    names: dict[str, Any] = {"vocab_size": VOCAB, "max_position_embeddings": 48, "initializer_range": 0.3, **NAMES}
    shape = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        **names,
    }
    made: dict[str, Any] = {
        "bert": lambda: t.BertConfig(**shape | changes),
        "roberta": lambda: t.RobertaConfig(**shape | {"type_vocab_size": 1, "pad_token_id": 0} | changes),
        "electra": lambda: t.ElectraConfig(**shape | {"embedding_size": 16} | changes),
        "distilbert": lambda: t.DistilBertConfig(
            **names | {"dim": HIDDEN, "n_layers": layers, "n_heads": 2, "hidden_dim": 48} | changes
        ),
    }
    return made[architecture]()


def model_of(config: Any) -> Any:
    """Return a classifier with random weights, as PyTorch and transformers make it."""
    from transformers import AutoModelForSequenceClassification

    made: Any = AutoModelForSequenceClassification  # carries no types
    return made.from_config(config, attn_implementation="eager").eval()


def write_model(folder: Path, architecture: str = "bert", *, headed: bool = True, seed: int = 0, **changes: Any) -> Any:
    """Write a checkpoint with its tokenizer, and return the model; without a head it is the encoder alone."""
    torch.manual_seed(seed)
    model = model_of(config_of(architecture, **changes))
    (model if headed else model.base_model).save_pretrained(folder)
    write_tokenizer(folder)
    return model
