"""The tokenizer of a checkpoint as a GGUF file holds it: tokens, their types, merges or scores, special tokens.

Two kinds are written. Byte-level BPE (GPT-2's, Llama 3's, Qwen's, SmolLM's) keeps its merges; llama.cpp needs to be
told how texts are cut before them. BPE on whole characters with single bytes for what it lacks (Llama 2's, Gemma's,
once SentencePiece models) has no merges in GGUF: of all neighbours that make a token, llama.cpp joins those whose token
has the highest score. Both ways agree where the merges are all that the vocabulary allows and each token's stand
together, which is what converting from SentencePiece makes; the scores are then the order of the merges, and anything
else is refused.

What this does not do: llama.cpp does not normalise texts. One whose tokenizer.json says NFC is written, as llama.cpp's
converter does, and reads a text that is not in NFC in other tokens than transformers.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (tokenizer keys); llama.cpp, src/llama-vocab.cpp;
Kudo and Richardson 2018, arXiv:1808.06226 (SentencePiece).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError
from edgedistill.export.gguf_pre_tokenizers import pre_tokenizer_of

SPACE = "\u2581"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)
"""Tokens that llama.cpp's converter treats as control tokens though tokenizer.json does not call them special."""
REPLACE_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
CUT_AT_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
UNREACHED = -1e4
"""Score of a token that no merge makes."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, in GGUF's words."""

    model: str  # gpt2, or llama
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]  # gguf.TokenType
    merges: tuple[str, ...] | None  # of gpt2
    scores: tuple[float, ...] | None  # of llama
    special: Mapping[str, int]  # bos, eos, eot, unk, pad, ... -> id
    adds_bos: bool
    adds_eos: bool
    adds_space: bool  # in front of a text
    chat_template: Any  # text, or a list of named ones; None where there is none


def read_vocabulary(checkpoint: Path, size: int) -> Vocabulary:
    """Return the tokenizer of a checkpoint.

    Args:
        checkpoint: folder with tokenizer.json, and what else transformers wrote beside it.
        size: rows of the embedding; ids without a token get one that no text has.

    Raises:
        ModelError: there is none, it is of another kind, or llama.cpp could not read texts as it does.
    """
    from gguf import SpecialVocab

    written = _read(checkpoint)
    bytewise = _is_bytewise(written)
    special = SpecialVocab(checkpoint, load_merges=bytewise, n_vocab=size)
    if bytewise and not special.merges:
        raise ModelError(f"{checkpoint / 'tokenizer.json'} has no merges; llama.cpp could not join a single byte")
    tokens, types = _tokens(written, size, bytewise=bytewise)
    ids = {**special.special_token_ids, **_end_of_turn(checkpoint, special, tokens)}
    if "eos" not in ids:
        raise ModelError(f"{checkpoint} names no eos_token; llama.cpp would take an arbitrary one and never stop")
    begins, ends = _added(checkpoint, ids)
    return Vocabulary(
        model="gpt2" if bytewise else "llama",
        pre=pre_tokenizer_of(written) if bytewise else "default",
        tokens=tokens,
        types=types,
        merges=tuple(special.merges) if bytewise else None,
        scores=None if bytewise else _scores(written, tokens),
        special={"bos": ids["eos"], **ids},  # without one, llama.cpp takes its own default, which is another token here
        adds_bos=begins,
        adds_eos=ends,
        adds_space=not bytewise and _adds_space(written),
        chat_template=special.chat_template,
    )


def add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    """Add a tokenizer's keys to a gguf.GGUFWriter."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    for name, token in vocabulary.special.items():
        if add := getattr(writer, f"add_{name}_token_id", None):  # GGUF has no cls, which no decoder needs
            add(token)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(vocabulary.adds_eos)
    writer.add_add_space_prefix(vocabulary.adds_space)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _read(checkpoint: Path) -> Mapping[str, Any]:
    file = checkpoint / "tokenizer.json"
    try:
        written: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    if written["model"].get("type") != "BPE":
        raise ModelError(f"{file} is of kind {written['model'].get('type')}; GGUF files are written of BPE alone")
    odd = [one["content"] for one in written["added_tokens"] if one["lstrip"] or one["rstrip"] or one["single_word"]]
    if odd:
        raise ModelError(f"{file}: {odd[0]!r} takes spaces around it along, which llama.cpp has no setting for")
    return written


def _is_bytewise(written: Mapping[str, Any]) -> bool:
    """Whether every character of a token stands for a byte; False where tokens are text, and bytes a way out.

    Raises:
        ModelError: it is neither, or changes texts in a way that llama.cpp does not.
    """
    model, normalizer = written["model"], written.get("normalizer")
    if '"ByteLevel"' in json.dumps([written.get("pre_tokenizer"), normalizer]):
        if normalizer is not None and normalizer["type"] != "NFC":
            raise ModelError(f"tokenizer.json changes texts by {normalizer['type']}, and llama.cpp does not")
        return True
    if not model.get("byte_fallback"):
        raise ModelError("tokenizer.json is BPE neither of bytes nor with bytes for what it lacks (byte_fallback)")
    return False


def _adds_space(written: Mapping[str, Any]) -> bool:
    """Whether a tokenizer of text puts a space in front.

    Raises:
        ModelError: it treats spaces as llama.cpp does not.
    """
    normalizer, cutter = written.get("normalizer"), written.get("pre_tokenizer")
    if cutter in (None, CUT_AT_SPACES):
        if normalizer == REPLACE_SPACES:
            return False
        steps = (normalizer or {}).get("normalizers")
        if steps == [{"type": "Prepend", "prepend": SPACE}, REPLACE_SPACES]:
            return True
    elif normalizer is None and cutter["type"] == "Metaspace" and not cutter["split"]:
        schemes = {"never": False, "always": True}
        if cutter["prepend_scheme"] in schemes:
            return schemes[cutter["prepend_scheme"]]
    raise ModelError(
        f"tokenizer.json treats spaces as llama.cpp does not: normalizer {json.dumps(normalizer)}, "
        f"pre_tokenizer {json.dumps(cutter)}"
    )


def _tokens(written: Mapping[str, Any], size: int, *, bytewise: bool) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the text and the type of each id below `size`."""
    from gguf import TokenType

    model, added = written["model"], {one["id"]: one for one in written["added_tokens"]}
    texts = {i: token for token, i in model["vocab"].items()} | {i: one["content"] for i, one in added.items()}
    if beyond := [i for i in texts if i >= size and i not in added]:
        raise ModelError(f"tokenizer.json has a token {beyond[0]}, and the model's embedding {size} rows")

    def kind(i: int) -> int:
        text = texts.get(i)
        if text is None:
            return TokenType.UNUSED
        if text == model.get("unk_token") and not bytewise:
            return TokenType.UNKNOWN
        if i in added:
            control = added[i]["special"] or LOOKS_SPECIAL.fullmatch(text)
            return TokenType.CONTROL if control else TokenType.USER_DEFINED
        return TokenType.BYTE if not bytewise and BYTE.fullmatch(text) else TokenType.NORMAL

    types = tuple(kind(i) for i in range(size))
    named = (texts.get(i, f"[PAD{i}]") for i in range(size))
    plain = (t.replace(SPACE, " ") if k == TokenType.USER_DEFINED else t for t, k in zip(named, types, strict=True))
    return tuple(plain), types


def _scores(written: Mapping[str, Any], tokens: tuple[str, ...]) -> tuple[float, ...]:
    """Return scores by which joining neighbours is applying the merges in order.

    Raises:
        ModelError: no scores do so.
    """
    vocab = written["model"]["vocab"]
    pairs = {tuple(one.split(" ") if isinstance(one, str) else one): None for one in written["model"]["merges"]}
    ranks: dict[str, int] = {}
    last = None
    for left, right in pairs:
        made = left + right
        if made != last and made in ranks:
            raise ModelError(f"tokenizer.json has merges that make {made!r} apart from each other; no scores say that")
        ranks.setdefault(made, len(ranks))
        last = made
    if lost := next((pair for pair in _splits(ranks, vocab) if pair not in pairs), None):
        raise ModelError(f"tokenizer.json does not merge {lost[0]!r} and {lost[1]!r}, which llama.cpp would")
    return tuple(-float(ranks[token]) if token in ranks else UNREACHED - len(ranks) for token in tokens)


def _splits(ranks: Mapping[str, int], vocab: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield every pair of tokens that together make a token."""
    for made in ranks:
        yield from ((made[:i], made[i:]) for i in range(1, len(made)) if made[:i] in vocab and made[i:] in vocab)


def _added(checkpoint: Path, ids: Mapping[str, int]) -> tuple[bool, bool]:
    """Return whether a text is begun with bos, and ended with eos.

    Raises:
        ModelError: something else is added.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    plain, whole = (tokenizer.encode("a", add_special_tokens=add).ids for add in (False, True))
    for begins in (False, True):
        for ends in (False, True):
            if whole == [ids.get("bos")] * begins + plain + [ids["eos"]] * ends:
                return begins, ends
    raise ModelError(f"{checkpoint / 'tokenizer.json'} adds to a text more than bos in front and eos behind: {whole}")


def _end_of_turn(checkpoint: Path, special: Any, tokens: tuple[str, ...]) -> dict[str, int]:
    """Return what ends an answer where that is not eos: generation_config.json names it, and the template has it."""
    file = checkpoint / "generation_config.json"
    said = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.exists() else None
    ends = [i for i in said if i != special.special_token_ids.get("eos")] if isinstance(said, list) else []
    template = json.dumps(special.chat_template, ensure_ascii=False) if special.chat_template else ""
    return next(({"eot": i} for i in ends if i < len(tokens) and tokens[i] in template), {})
