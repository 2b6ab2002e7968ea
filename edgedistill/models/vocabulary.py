"""A student's own vocabulary: which of a checkpoint's tokens it keeps, and the checkpoint with these alone.

A language model's vocabulary is made for every text there is; an app's texts need a part of it, and in a small
student the table of all tokens is most of the file.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.files import clear
from edgedistill.models import sentence_transformers as layout
from edgedistill.models import tokenizer_json
from edgedistill.models.config_json import POSITIONS_AFTER_PADDING, read_config
from edgedistill.section import VocabularyOptions


def chosen(
    options: VocabularyOptions, tokenizer: Any, config: Mapping[str, Any], counts: np.ndarray,
    needed: frozenset[int] = frozenset(),
) -> np.ndarray:  # fmt: skip
    """Return the ids of the kept tokens, (kept,) int64, ascending: place i has the token whose new id is i.

    Args:
        tokenizer: transformers' fast tokenizer of the checkpoint.
        config: config.json of the checkpoint; the tokens that it names by id are kept, too.
        counts: (vocabulary,) int; how often each token occurs in the training texts.
        needed: ids that are kept whatever the texts have: what a chat template writes.

    Raises:
        ModelError: the tokenizer cannot be trimmed, or not to so few tokens; the text begins with the recipe's key.
    """
    written = json.loads(tokenizer.backend_tokenizer.to_str())
    ids = tokenizer_json.token_ids(written)
    seen = [token for token, i in ids.items() if counts[i] > 0]
    special = {*tokenizer.all_special_ids, *named_ids(config), *needed} & set(ids.values())
    made_from = tokenizer_json.parts(written)
    kept = _with_parts(special | tokenizer_json.indispensable(written, seen), made_from)
    if options.size is not None and len(kept) > options.size:
        raise ModelError(
            f"student.vocabulary.size: {options.size} is less than the {len(kept)} tokens that are always kept: "
            f"special tokens and single characters; write {len(kept)} or more"
        )
    for token in sorted(ids.values(), key=lambda i: (-counts[i], i)):
        if counts[token] < options.min_count:
            break
        more = _with_parts({token}, made_from) - kept
        if options.size is None or len(kept) + len(more) <= options.size:
            kept |= more
    return np.array(sorted(kept), dtype=np.int64)


def trimmed_checkpoint(checkpoint: Path, kept: np.ndarray, tokenizer: Path, folder: Path) -> Path:
    """Return `folder` with a copy of a checkpoint that has the kept rows of the token table alone.

    config.json is written last: where it is, an earlier try has finished, and nothing is done again.

    Args:
        kept: (kept,) int64; the row of each new id.
        tokenizer: folder with the trimmed tokenizer.

    Raises:
        ModelError: the token table is not found, or the model counts positions from a padding id that has changed.
    """
    from safetensors.torch import load_file, save_file

    if (folder / "config.json").exists():
        return folder
    config = _renumbered(read_config(checkpoint), kept)
    clear(folder)
    name, found = _table_name(checkpoint), 0
    for file in sorted(checkpoint.glob("*.safetensors")):
        tensors = load_file(file)
        for key in tensors:
            if key == name or key.endswith(f".{name}"):
                tensors[key] = tensors[key][kept].contiguous()
                found += 1
        save_file(tensors, folder / file.name, {"format": "pt"})
    if found != 1:
        raise ModelError(f"{checkpoint} has {found} token tables called {name}; leave student.vocabulary out")
    for index in checkpoint.glob("*.safetensors.index.json"):
        shutil.copyfile(index, folder / index.name)
    for file in tokenizer.iterdir():
        shutil.copyfile(file, folder / file.name)
    layout.copy(checkpoint, folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def _with_parts(tokens: Iterable[int], made_from: Mapping[int, Iterable[int]]) -> set[int]:
    """Return the tokens with all that they are merged from, and those from, and so on."""
    found, left = set(tokens), list(tokens)
    while left:
        new = set(made_from.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


def named_ids(config: Mapping[str, Any]) -> list[int]:
    """Return the tokens that a config.json names by id."""
    named = [value for key, value in config.items() if key.endswith("_token_id")]
    return [i for value in named for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)]


def _renumbered(config: dict[str, Any], kept: np.ndarray) -> dict[str, Any]:
    """Return a config.json with the size of the kept vocabulary, and the new ids of the tokens that it names."""
    new = {int(old): i for i, old in enumerate(kept)}

    def renumbered(value: Any) -> Any:
        return [new.get(i) for i in value] if isinstance(value, list) else new.get(value)

    padding = config.get("pad_token_id")
    if config.get("model_type") in POSITIONS_AFTER_PADDING and padding is not None and new.get(padding) != padding:
        raise ModelError(
            f"student.vocabulary: a model of type {config['model_type']} numbers positions from its padding's id, and "
            f"trimming would change that from {padding} to {new.get(padding)}; leave vocabulary out"
        )
    named = {key: renumbered(value) for key, value in config.items() if key.endswith("_token_id")}
    return {**config, **named, "vocab_size": len(kept)}


def _table_name(checkpoint: Path) -> str:
    """Return the name that the architecture gives its token table, below whatever stands before it in a file."""
    import torch
    from transformers import AutoConfig, AutoModel

    factory: Any = AutoModel  # carries no types
    with torch.device("meta"):
        encoder = factory.from_config(AutoConfig.from_pretrained(checkpoint, local_files_only=True))
    table = encoder.get_input_embeddings()
    return next(f"{name}.weight" for name, part in encoder.named_modules() if part is table)
