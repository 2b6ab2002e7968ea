"""A causal language model with some of its tokens alone: the rows of table and head, and every id that it names.

Of a dropped token the first piece matters, too: where a teacher would have said the token, a student that lacks it
begins to spell it.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.files import clear
from edgedistill.models import tokenizer_json
from edgedistill.models.vocabulary import named_ids

KEY = "student.vocabulary"
ID_LISTS = ("suppress_tokens", "begin_suppress_tokens")
ID_TREES = ("bad_words_ids", "force_words_ids", "forced_decoder_ids", "sequence_bias")
SAID = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "a"})


def written_of(tokenizer: Any) -> dict[str, Any]:
    """Return the tokenizer.json of a decoder.

    Raises:
        ModelError: it is of a kind that no decoder is trimmed with.
    """
    written: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    model = written["model"]
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        raise ModelError(f"{KEY}: a language model is trimmed where its tokenizer is plain BPE; leave vocabulary out")
    return written


def of_template(tokenizer: Any) -> frozenset[int]:
    """Return the ids that the chat template writes around what is said, its default system prompt among them."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        return frozenset()
    talks = [SAID[:1], SAID, ({"role": "system", "content": "a"}, *SAID)]
    found: set[int] = set()
    for talk in talks:
        for more in (False, True):
            try:
                text = tokenizer.apply_chat_template(list(talk), tokenize=False, add_generation_prompt=more)
            except TemplateError:  # some refuse a system prompt
                continue
            found |= set(tokenizer(text, add_special_tokens=False)["input_ids"])
    return frozenset(found)


def of_generation(checkpoint: Path) -> frozenset[int]:
    """Return the ids that generation_config.json names, such as all that end an answer."""
    file = checkpoint / "generation_config.json"
    return frozenset(named_ids(json.loads(file.read_text(encoding="utf-8")))) if file.exists() else frozenset()


def trimmed_decoder(checkpoint: Path, kept: np.ndarray, tokenizer: Any, folder: Path) -> Path:
    """Return `folder` with a copy of a causal language model that has the kept tokens alone.

    Args:
        checkpoint: of the whole one.
        kept: (kept,) int64; the row of each new id.
        tokenizer: the trimmed one.

    Raises:
        ModelError: the architecture has the vocabulary in other places than table and head, or names tokens elsewhere.
    """
    import torch

    from edgedistill.models.decoder import load_decoder

    full = load_decoder(checkpoint).model
    new = {int(old): i for i, old in enumerate(kept)}
    config = deepcopy(full.config)
    config.vocab_size = len(kept)
    _renumber(config, new)
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        small = type(full)(config)
    rows = torch.from_numpy(kept)
    places = [part for part in (full.get_input_embeddings(), full.get_output_embeddings()) if part is not None]
    names = {name for name, part in full.named_modules(remove_duplicate=False) if any(part is one for one in places)}
    state = {
        name: tensor[rows] if name.rpartition(".")[0] in names else tensor for name, tensor in full.state_dict().items()
    }
    try:
        small.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{KEY}: {type(full).__name__} has a row for each token elsewhere than in its table and its head; "
            "leave vocabulary out"
        ) from error
    small.generation_config = deepcopy(full.generation_config)
    _renumber(small.generation_config, new)
    clear(folder)
    small.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def first_pieces(whole: Mapping[str, Any], own: Mapping[str, Any], kept: np.ndarray) -> np.ndarray:
    """Return for each old id the new id of what a reader of the kept tokens alone reads first of it, (ids,) int64.

    That of a kept token is its own; -1 where the whole tokenizer has no token.

    Args:
        whole: tokenizer.json before tokens were dropped.
        own: that with the kept ones alone.
        kept: (kept,) int64; the old id of each new one.
    """
    from tokenizers import Tokenizer

    around = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    pieces = Tokenizer.from_str(json.dumps({**own, **dict.fromkeys(around), "added_tokens": []}))
    ids = tokenizer_json.token_ids(whole)
    found = np.full(max(ids.values()) + 1, -1, dtype=np.int64)
    found[kept] = np.arange(len(kept))
    dropped = [token for token, i in ids.items() if found[i] < 0]
    for token, read in zip(dropped, pieces.encode_batch(dropped), strict=True):
        if not read.ids:
            raise ModelError(f"{KEY}: the kept tokens cannot spell {token!r}; leave vocabulary out")
        found[ids[token]] = read.ids[0]
    return found


def _renumber(config: Any, new: Mapping[int, int]) -> None:
    """Give a config the new ids of the tokens that it names.

    Raises:
        ModelError: it names some in a way that is not known here.
    """
    said = config.to_dict()
    if odd := [key for key in ID_TREES if said.get(key)]:
        raise ModelError(f"{KEY}: the teacher's configuration names tokens in {odd[0]}; remove that, or vocabulary")
    for key, value in said.items():
        if key.endswith("_token_id") and value is not None:
            several = isinstance(value, list)
            setattr(config, key, [new[i] for i in value if i in new] if several else new.get(value))
        elif key in ID_LISTS and value:
            setattr(config, key, [new[i] for i in value if i in new])
