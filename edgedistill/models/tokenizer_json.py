"""A tokenizer.json with fewer tokens, that reads every text needing none of the dropped ones exactly as before.

That holds by the way each kind of tokenizer chooses its pieces, as long as some tokens stay:

* WordPiece takes the longest piece that fits, and WordLevel the word: with fewer to choose from, a kept choice stays.
* BPE applies its merges in order. A kept token keeps all that it can be merged from, so no merge on the way to it is
  lost, and a lost merge could only have led to a dropped token.
* Unigram takes the likeliest split. Dropping others leaves the likeliest where it was; the least likely piece stays,
  because an unknown character is scored by it.

Words whose token was dropped are still read, in smaller pieces: single characters that occur, those of ASCII, and
all bytes stay.

Source: https://huggingface.co/docs/tokenizers (components); Sennrich et al. 2016, arXiv:1508.07909, algorithm 1 (BPE);
Kudo 2018, arXiv:1804.10959, section 3.2 (unigram language model); Wu et al. 2016, arXiv:1609.08144, section 4.1
(word pieces).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError

KINDS = ("WordPiece", "BPE", "Unigram", "WordLevel")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
TEMPLATE = ".jinja"  # a chat template, which speaks of tokens by their text
ASCII = frozenset(map(chr, range(33, 127)))
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")

Written = Mapping[str, Any]


def token_ids(written: Written) -> dict[str, int]:
    """Return token -> id of a tokenizer.json, added tokens included.

    Raises:
        ModelError: it is of a kind that cannot be trimmed.
    """
    model = written["model"]
    if model.get("type") not in KINDS:
        raise ModelError(
            f"student.vocabulary: a tokenizer of kind {model.get('type')} cannot be trimmed, only {', '.join(KINDS)}; "
            "leave vocabulary out"
        )
    vocab = model["vocab"]
    own = {token: i for i, (token, _) in enumerate(vocab)} if model["type"] == "Unigram" else vocab
    return {**own, **{token["content"]: token["id"] for token in written["added_tokens"]}}


def indispensable(written: Written, seen: Iterable[str]) -> frozenset[int]:
    """Return the ids that every trimmed vocabulary keeps.

    These are the added and special tokens, all bytes, and single characters, with and without the marks of standing
    inside a word or at its end: those of the tokens seen, and those of ASCII, which cost little and which other texts
    will have (an @, a digit). A space that a token begins with, as SentencePiece writes it, is a character of its own.

    Args:
        seen: tokens that occur in the texts.
    """
    model, ids = written["model"], token_ids(written)
    added = {token["content"] for token in written["added_tokens"]}
    every_character = of_bytes(written)
    characters = {character for token in seen if token not in added for character in _bare(token, model)} | ASCII
    kept = {ids[token] for token in added} | set(_post_processed(written.get("post_processor")))
    for token, i in ids.items():
        bare = _bare(token, model)
        if (len(bare) == 1 and (every_character or bare in characters)) or _BYTE.fullmatch(token):
            kept.add(i)
    if model["type"] == "Unigram":
        kept.add(min(range(len(model["vocab"])), key=lambda i: model["vocab"][i][1]))  # scores what is unknown
        kept |= {model["unk_id"]} if model.get("unk_id") is not None else set()
    elif model.get("unk_token") is not None:
        kept.add(ids[model["unk_token"]])
    return frozenset(kept)


def parts(written: Written) -> dict[int, frozenset[int]]:
    """Return for each token of a BPE tokenizer what any of its merges makes it from; empty for other kinds."""
    model = written["model"]
    found: dict[int, set[int]] = {}
    if model["type"] == "BPE":
        for left, right, product in _merges(model):
            found.setdefault(model["vocab"][product], set()).update((model["vocab"][left], model["vocab"][right]))
    return {token: frozenset(made_from) for token, made_from in found.items()}


def trimmed(written: Written, kept: Sequence[int]) -> dict[str, Any]:
    """Return a tokenizer.json with these tokens alone; the one at place i has id i.

    Args:
        kept: ids, ascending, closed under `parts` and with all that is `indispensable`.
    """
    new = {old: i for i, old in enumerate(kept)}
    changed: dict[str, Any] = deepcopy(dict(written))
    changed["model"] = _trimmed_model(written["model"], new)
    changed["added_tokens"] = [{**token, "id": new[token["id"]]} for token in written["added_tokens"]]
    changed["post_processor"] = _renumbered(written.get("post_processor"), new)
    if written.get("padding") is not None:
        changed["padding"] = {**written["padding"], "pad_id": new[written["padding"]["pad_id"]]}
    return changed


def write_trimmed(tokenizer: Any, kept: Sequence[int], folder: Path) -> None:
    """Write a transformers tokenizer with these tokens alone into `folder`, and nothing that speaks of the others.

    Raises:
        ModelError: the written file gives a token another id than it was meant to have.
    """
    from tokenizers import Tokenizer

    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        if file.is_file() and file.name not in TOKENIZER_FILES and file.suffix != TEMPLATE:
            file.unlink()  # vocab.txt and its like, which nothing needs beside tokenizer.json
    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    new = {old: i for i, old in enumerate(kept)}
    file.write_text(json.dumps(trimmed(written, kept), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    said = json.loads(settings.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in said:
        said["added_tokens_decoder"] = {str(new[int(i)]): token for i, token in said["added_tokens_decoder"].items()}
    settings.write_text(json.dumps(said, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    meant = {token: new[i] for token, i in token_ids(written).items() if i in new}
    read = Tokenizer.from_file(str(file)).get_vocab()
    if read != meant:
        token = next(token for token in {**meant, **read} if meant.get(token) != read.get(token))
        raise ModelError(
            f"the trimmed tokenizer gives {token!r} id {read.get(token)} instead of {meant.get(token)}; "
            "leave student.vocabulary out"
        )


def _bare(token: str, model: Written) -> str:
    """Return a token without the marks of standing inside a word, or at its end."""
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    bare = token.removeprefix(prefix).removesuffix(suffix)
    return bare or token


def of_bytes(written: Written) -> bool:
    """Whether every single character stands for a byte, so that none may be dropped."""
    return '"ByteLevel"' in json.dumps([written.get("pre_tokenizer"), written.get("decoder")])


def _merges(model: Written) -> Iterator[tuple[str, str, str]]:
    """Yield each merge of a BPE model in order: left, right, product."""
    prefix = model.get("continuing_subword_prefix") or ""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right, left + right.removeprefix(prefix)


def _trimmed_model(model: Written, new: Mapping[int, int]) -> dict[str, Any]:
    if model["type"] == "Unigram":
        vocab = [entry for i, entry in enumerate(model["vocab"]) if i in new]
        unknown = model.get("unk_id")
        return {**model, "vocab": vocab, "unk_id": None if unknown is None else new[unknown]}
    kept = {token: new[i] for token, i in model["vocab"].items() if i in new}
    if model["type"] != "BPE":
        return {**model, "vocab": kept}
    merges = [[left, right] for left, right, product in _merges(model) if {left, right, product} <= kept.keys()]
    return {**model, "vocab": kept, "merges": merges}


def _post_processed(processor: Any) -> Iterator[int]:
    """Yield the ids that a post-processor adds to a text."""
    said = processor or {}
    for part in said.get("processors", ()):  # of a Sequence
        yield from _post_processed(part)
    for token in (said.get("special_tokens") or {}).values():  # of TemplateProcessing
        yield from token["ids"]
    for end in said.keys() & {"sep", "cls"}:  # of BertProcessing and RobertaProcessing
        yield said[end][1]


def _renumbered(processor: Any, new: Mapping[int, int]) -> Any:
    """Return a post-processor that adds the same tokens by their new ids."""
    if processor is None:
        return None
    changed = dict(processor)
    if "processors" in processor:
        changed["processors"] = [_renumbered(part, new) for part in processor["processors"]]
    if "special_tokens" in processor:
        changed["special_tokens"] = {
            name: {**token, "ids": [new[i] for i in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    for end in processor.keys() & {"sep", "cls"}:
        changed[end] = [processor[end][0], new[processor[end][1]]]
    return changed
