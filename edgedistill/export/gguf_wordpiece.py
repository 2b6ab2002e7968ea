"""A BERT's WordPiece tokenizer as a GGUF file holds it, and which texts llama.cpp reads as other tokens.

llama.cpp writes a token that begins a word with a space's stand-in before it, and one that goes on without `##`. It
looks for the longest token as WordPiece does, but normalizes texts by tables and rules of its own; where it lowercases,
it also strips accents. What differs no setting can change, so it is told: `read_alike` says of which texts the ids are
the same for sure.

* A word of more than 100 characters is the unknown token to WordPiece; llama.cpp takes it apart all the same.
* Where it strips accents, llama.cpp keeps the first part alone of a character that decomposes, and drops every mark;
  BERT drops those without a width of their own. Hangul, and Indic and other scripts whose vowels are marks, lose by it.
* Form feed, vertical tab and U+0085 are spaces to llama.cpp, and nothing to BERT.
* Marks, punctuation and format characters younger than BERT's tables, and the few that changed their kind.
* U+2581, llama.cpp's own sign for the beginning of a word.

Source: llama.cpp, src/llama-vocab.cpp (llm_tokenizer_wpm_session); Devlin et al. 2019, arXiv:1810.04805 (tokenizer);
https://docs.rs/tokenizers (BertNormalizer, BertPreTokenizer, WordPiece).
"""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgedistill.errors import ModelError

WORD_BEGINS = "\u2581"
GOES_ON = "##"
LONGEST_WORD = 100  # characters
SPACES_OF_ONE = "\x0b\x0c\x85" + WORD_BEGINS
"""What llama.cpp ends a word at, and BERT does not."""
NUL = "\0"  # where llama.cpp ends a token
FRAME = ("cls", "sep")
NAMED = (*FRAME, "unk", "pad", "mask")


@dataclass(frozen=True)
class WordPieces:
    """A tokenizer, in GGUF's words."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]  # gguf.TokenType
    special: Mapping[str, int]  # some of NAMED -> id
    lowercase: bool


def read_word_pieces(folder: Path, size: int) -> WordPieces:
    """Return the tokenizer of a folder.

    Args:
        folder: with tokenizer.json and tokenizer_config.json.
        size: rows of the token table; ids without a token get one that no text has.

    Raises:
        ModelError: there is none, it is of another kind, or llama.cpp has no setting for how it reads.
    """
    from gguf import TokenType

    lowercase = read_lowercase(folder)
    written, settings = _json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json")
    special = _special(written, settings)
    added = {one["id"]: one["content"] for one in written["added_tokens"]}
    texts = {i: token for token, i in written["model"]["vocab"].items()} | added
    if beyond := [i for i in texts if i >= size]:
        raise ModelError(f"tokenizer.json has a token {beyond[0]}, and the model's token table {size} rows")

    def kind(i: int) -> int:
        return TokenType.CONTROL if i in added else TokenType.NORMAL if i in texts else TokenType.UNUSED

    types = tuple(kind(i) for i in range(size))
    tokens = tuple(
        _spelled(texts[i]) if k == TokenType.NORMAL else texts.get(i, f"[PAD{i}]") for i, k in enumerate(types)
    )
    if len({token.partition(NUL)[0] for token in tokens}) < size:
        raise ModelError("tokenizer.json has several tokens that llama.cpp would call the same")
    return WordPieces(tokens, types, special, lowercase)


def add_word_pieces(writer: Any, pieces: WordPieces, token_types: int) -> None:
    """Add a tokenizer's keys to a gguf.GGUFWriter.

    Args:
        writer: the file's.
        pieces: the tokenizer.
        token_types: rows of the model's table of token types, of which llama.cpp reads the first.
    """
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces.tokens)
    writer.add_token_types(pieces.types)
    writer.add_token_type_count(token_types)
    add = {
        "cls": writer.add_bos_token_id,  # llama.cpp's word for what it puts first
        "sep": writer.add_sep_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
        "mask": writer.add_mask_token_id,
    }
    for name, token in pieces.special.items():  # llama.cpp's defaults are ids of the original BERT
        add[name](token)
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", pieces.lowercase)
    writer.add_bool("tokenizer.ggml.normalizer.strip_accents", pieces.lowercase)


def read_alike(text: str, *, lowercase: bool) -> bool:
    """Whether llama.cpp reads a text as the same tokens for sure, whatever the vocabulary; see above for what is not.

    Args:
        text: any.
        lowercase: whether the tokenizer lowercases, and strips accents with it.
    """
    longest = max(map(len, text.split()), default=0)
    return longest <= LONGEST_WORD and all(_is_alike(one, lowercase=lowercase) for one in set(text))


@cache
def _is_alike(one: str, *, lowercase: bool) -> bool:
    """Whether both sides treat a character alike: as a letter, a sign of its own, a space, a mark, or nothing."""
    kind, first = unicodedata.category(one), unicodedata.ucd_3_2_0.category(one)
    if one in SPACES_OF_ONE or kind in ("Cn", "Cs") or (kind[0] in "CMP" and kind != first):
        return False
    if kind[0] not in "CMP" and first != "Cn" and kind[0] != first[0]:
        return False
    return not lowercase or (kind not in ("Mc", "Me") and len(_stripped(one)) <= 1)


def _stripped(one: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFD", one) if unicodedata.category(part) != "Mn")


def read_lowercase(folder: Path) -> bool:
    """Return whether a folder's tokenizer lowercases.

    Raises:
        ModelError: there is none, it is of another kind, or llama.cpp has no setting for how it reads.
    """
    written = _json(folder / "tokenizer.json")
    if refused := [*_refused(written)]:
        raise ModelError(f"llama.cpp cannot read texts as {folder / 'tokenizer.json'} does: {'; '.join(refused)}")
    return bool(written["normalizer"]["lowercase"])


def _spelled(token: str) -> str:
    return token[len(GOES_ON) :] if token.startswith(GOES_ON) else WORD_BEGINS + token


def _json(file: Path) -> Mapping[str, Any]:
    try:
        said: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    return said


def _refused(written: Mapping[str, Any]) -> Iterator[str]:
    model = written["model"]
    if model.get("type") != "WordPiece":
        yield f"it is of kind {model.get('type')}, and a BERT's is WordPiece"
        return
    wanted = {"continuing_subword_prefix": GOES_ON, "max_input_chars_per_word": LONGEST_WORD}
    yield from (
        f"{key} is {model.get(key)!r}, not {value!r}" for key, value in wanted.items() if model.get(key) != value
    )
    yield from _refused_cuts(written.get("normalizer") or {}, written.get("pre_tokenizer") or {})
    for one in written["added_tokens"]:
        if not one["special"] or one["single_word"] or one["normalized"]:
            yield f"the added token {one['content']!r} is not special, or found by rules of its own"


def _refused_cuts(normalizer: Mapping[str, Any], cutter: Mapping[str, Any]) -> Iterator[str]:
    if (normalizer.get("type"), cutter.get("type")) != ("BertNormalizer", "BertPreTokenizer"):
        yield "normalizer and pre_tokenizer are not BertNormalizer and BertPreTokenizer"
        return
    yield from (f"normalizer.{key} is false" for key in ("clean_text", "handle_chinese_chars") if not normalizer[key])
    if normalizer["strip_accents"] not in (None, normalizer["lowercase"]):
        yield "it strips accents without lowercasing, or lowercases without stripping them"


def _special(written: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of the tokens that tokenizer_config.json names, once the frame of a text is known to be of them.

    Raises:
        ModelError: cls, sep or unk is not named, or something else is put around a text.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps({**written, "truncation": None, "padding": None}))
    said = {name: settings.get(f"{name}_token") for name in NAMED}
    texts = {name: one["content"] if isinstance(one, dict) else one for name, one in said.items() if one is not None}
    ids = {name: tokenizer.token_to_id(text) for name, text in texts.items()}
    found: dict[str, int] = {name: i for name, i in ids.items() if i is not None}
    plain, whole = (tokenizer.encode("a", add_special_tokens=add).ids for add in (False, True))
    if not {*FRAME, "unk"} <= found.keys() or whole != [found["cls"], *plain, found["sep"]]:
        raise ModelError(
            "tokenizer.json does not put cls_token before a text and sep_token behind it, as llama.cpp does"
        )
    if written["model"].get("unk_token") != texts["unk"]:
        raise ModelError(
            f"tokenizer.json says {written['model'].get('unk_token')!r} for what it lacks, not {texts['unk']!r}"
        )
    return found
