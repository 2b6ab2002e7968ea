r"""Which of llama.cpp's pre-tokenizers cuts texts as a tokenizer.json does.

llama.cpp holds its pre-tokenizers in code and a file names one. A wrong name loads and answers, with slightly other
tokens: a digit more or less in a piece, a space on the other side. So the name is found by behaviour, not by that of
the model: the pieces must be equal on every text of up to three characters out of all classes that such expressions
tell apart, and on longer ones. With equal pieces the ids are equal too, as both then apply the same merges.

Source: llama.cpp, src/llama-vocab.cpp (llm_tokenizer_bpe), written here in the words of the tokenizers library.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgedistill.errors import ModelError

CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
GPT_2 = CONTRACTIONS + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _four(letters: str, digits: str) -> str:
    """Return GPT-4's expression, with what counts as letters, and how many digits make a piece."""
    others = rf" ?[^\s{letters}\p{{N}}]+[\r\n]*"
    return rf"(?i:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?[{letters}]+|{digits}|{others}|{SPACES}"


@dataclass(frozen=True)
class PreTokenizer:
    """One that llama.cpp has."""

    name: str
    expressions: tuple[str, ...]  # each cuts what the one before it left
    whole_words: bool  # whether a piece that is a token is taken as it is, without merges (ignore_merges)


KNOWN = (
    PreTokenizer("gpt-2", (GPT_2,), whole_words=False),
    PreTokenizer("smollm", (r"\p{N}", GPT_2), whole_words=False),
    PreTokenizer("qwen2", (_four(r"\p{L}", r"\p{N}"),), whole_words=False),
    PreTokenizer("qwen35", (_four(r"\p{L}\p{M}", r"\p{N}"),), whole_words=False),
    PreTokenizer("llama-bpe", (_four(r"\p{L}", r"\p{N}{1,3}"),), whole_words=True),
    PreTokenizer("smaug-bpe", (_four(r"\p{L}", r"\p{N}{1,3}"),), whole_words=False),
)
CHARACTERS = (
    "a",
    "Z",
    "é",
    "你",
    "1",
    "½",
    " ",
    "\u00a0",
    "\n",
    "\r",
    "\t",
    "'",
    ".",
    "_",
    "\u0301",
    "€",
    "😀",
    "\u200d",
)
TEXTS = (
    "12 123 1234 12345678 3.14 1,000", "a1b22c333", "  two  spaces ", "tabs\t\tand \n\n lines\r\n", "x \n y\n\n\n z",
    "I'll we're HE'S it'D 'tis don't 'LL", "snake_case(x)[0] == {y};", "--- ... !!! ?!", "naïve café Ünïcödé",
    "你好，世界。안녕 привет", "हिन्दी ไทย עברית", "👩‍👩‍👧 🚀🚀 é", "٣٤٥ Ⅷ ² ½",
    "a\u3000b\u2028c", " leading", "trailing ", "",
)  # fmt: skip


def pre_tokenizer_of(written: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for how a byte-level BPE tokenizer cuts texts.

    Args:
        written: a tokenizer.json.

    Raises:
        ModelError: llama.cpp has none that cuts so.
    """
    whole_words = bool(written["model"].get("ignore_merges"))
    rightly = [one for one in KNOWN if one.whole_words == whole_words]
    pieces = _pieces(json.dumps(written.get("pre_tokenizer")))
    wrong = {one.name: _first_difference(pieces, _pieces(_in_words_of_tokenizers(one))) for one in rightly}
    found = [name for name, where in wrong.items() if where is None]
    if not found:
        told = ", ".join(f"{name} cuts {where!r} otherwise" for name, where in wrong.items())
        raise ModelError(f"llama.cpp has no pre-tokenizer known here that cuts texts as tokenizer.json does: {told}")
    return found[0]


@cache
def probes() -> tuple[str, ...]:
    """Return the texts that pre-tokenizers are compared on."""
    short = ("".join(characters) for n in (1, 2, 3) for characters in itertools.product(CHARACTERS, repeat=n))
    return (*short, *TEXTS)


def _in_words_of_tokenizers(one: PreTokenizer) -> str:
    cuts: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in one.expressions
    ]
    spelled = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return json.dumps({"type": "Sequence", "pretokenizers": [*cuts, spelled]})


@cache
def _pieces(written: str) -> tuple[tuple[str, ...], ...]:
    """Return what a pre-tokenizer, as JSON, makes of each probe."""
    from tokenizers import Tokenizer, models

    empty = json.loads(Tokenizer(models.BPE()).to_str())
    cutter = Tokenizer.from_str(json.dumps({**empty, "pre_tokenizer": json.loads(written)})).pre_tokenizer
    if cutter is None:
        return tuple((text,) for text in probes())
    return tuple(tuple(piece for piece, _ in cutter.pre_tokenize_str(text)) for text in probes())


def _first_difference(ours: tuple[tuple[str, ...], ...], theirs: tuple[tuple[str, ...], ...]) -> str | None:
    differing: Iterator[str] = (text for text, one, other in zip(probes(), ours, theirs, strict=True) if one != other)
    return next(differing, None)
