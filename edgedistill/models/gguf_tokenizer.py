"""The tokenizer inside a GGUF file as one of transformers, made of what the file says and of nothing else.

transformers has a reader of its own for these; it goes by the name of the architecture and forgets how words are cut
(tokenizer.ggml.pre), so that digits are merged that the model never saw merged.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer; how words are cut by each id, and what
holds where a key is missing: llama.cpp, src/llama-vocab.cpp (llama_vocab::impl::load and llm_tokenizer_bpe).
"""

from collections.abc import Mapping
from typing import Any

from edgedistill.errors import ModelError

Metadata = Mapping[str, Any]

BYTE_LEVEL = "gpt2"  # tokenizer.ggml.model of a byte-level BPE
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # of tokenizer.ggml.token_type: what is found in a text before any word is cut
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%s}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
CUTS: dict[str, str] = {"qwen2": WORDS.replace("{1,%s}", ""), "llama-bpe": WORDS % 3}
"""Id -> the regular expression of the model's own tokenizer.json, for those that have one."""
ALIASES = {"deepseek-r1-qwen": "qwen2", "megrez": "qwen2", "llama3": "llama-bpe", "llama-v3": "llama-bpe"}
KNOWN = ("gpt-2", "smollm", *CUTS)
WHOLE_WORDS_FIRST = STARTS_WITH_BOS = frozenset({"llama-bpe"})
"""Where a word that is a token is not taken apart; where a text starts with BOS unless the file says otherwise."""


def tokenizer_of(metadata: Metadata) -> Any:
    """Return the tokenizer of a GGUF file's metadata, with its chat template.

    Raises:
        ModelError: there is none, it is of a kind that is not known here, or its parts do not fit each other.
    """
    from transformers import PreTrainedTokenizerFast

    tokens = list(_needed(metadata, "tokenizer.ggml.tokens", list))
    pre = _pre_tokenizer(metadata)
    made = _byte_level(metadata, tokens, pre)
    named = {f"{role}_token": tokens[index] for role, index in special_ids(metadata, tokens).items()}
    starts, ends = (
        bool(metadata.get(f"tokenizer.ggml.add_{role}_token", role == "bos" and pre in STARTS_WITH_BOS))
        for role in ("bos", "eos")
    )
    _frame(made, [named.get("bos_token")] * starts, [named.get("eos_token")] * ends)
    settings: dict[str, Any] = {
        **named,
        "model_max_length": int(_needed(metadata, f"{metadata['general.architecture']}.context_length", int)),
        "clean_up_tokenization_spaces": False,
        "add_bos_token": starts,
        "add_eos_token": ends,
        "chat_template": metadata.get("tokenizer.chat_template"),
    }
    untyped: Any = PreTrainedTokenizerFast
    return untyped(tokenizer_object=made, **settings)


def special_ids(metadata: Metadata, tokens: list[str]) -> dict[str, int]:
    """Return the ids of bos, eos, unk and pad, of those that the file names; padding that it does not name is eos.

    Raises:
        ModelError: one is no id of the vocabulary, or there is neither padding nor eos.
    """
    keys = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}
    found = {
        role: metadata[f"tokenizer.ggml.{key}"] for role, key in keys.items() if f"tokenizer.ggml.{key}" in metadata
    }
    for role, index in found.items():
        if not isinstance(index, int) or not 0 <= index < len(tokens):
            raise ModelError(f"its {keys[role]} is {index}, and its vocabulary has {len(tokens)} tokens")
    if "eos" not in found:
        raise ModelError("it names no tokenizer.ggml.eos_token_id, so that nothing could end a text")
    return {"pad": found["eos"], **found}


def _needed(metadata: Metadata, key: str, kind: type) -> Any:
    value = metadata.get(key)
    if not isinstance(value, kind) or not value:
        said = "has none" if value is None else f"says {value!r:.40}"
        raise ModelError(f"it needs {key}, and {said}; take a GGUF file that holds a model with its tokenizer")
    return value


def _pre_tokenizer(metadata: Metadata) -> str:
    """Return how words are cut, one of KNOWN.

    Raises:
        ModelError: the tokenizer is not of a kind that is known here.
    """
    kind: str = _needed(metadata, "tokenizer.ggml.model", str)
    if kind != BYTE_LEVEL:
        raise ModelError(f"its tokenizer is a {kind!r}, and only {BYTE_LEVEL!r} can be read, a byte-level BPE")
    said: str = _needed(metadata, "tokenizer.ggml.pre", str)
    pre = ALIASES.get(said, said)
    if pre not in KNOWN:
        raise ModelError(f"it cuts words by {said!r}, and these are known: {', '.join(sorted({*KNOWN, *ALIASES}))}")
    return pre


def _byte_level(metadata: Metadata, tokens: list[str], pre: str) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    vocab = {token: index for index, token in enumerate(tokens)}
    merges = [_pair(text) for text in _needed(metadata, "tokenizer.ggml.merges", list)]
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    if len(vocab) != len(tokens) or len(kinds) != len(tokens):
        raise ModelError(f"it has {len(tokens)} tokens, {len(vocab)} different ones, and {len(kinds)} token types")
    lost = next((pair for pair in merges if not {*pair, "".join(pair)} <= vocab.keys()), None)
    if lost is not None:
        raise ModelError(f"it merges {lost[0]!r} and {lost[1]!r}, and its vocabulary lacks one of them or the result")
    made = Tokenizer(models.BPE(vocab, merges, ignore_merges=pre in WHOLE_WORDS_FIRST))
    byte_level: Any = pre_tokenizers.ByteLevel  # carries no types
    levels = {
        "gpt-2": [byte_level(add_prefix_space=False)],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), byte_level(add_prefix_space=False)],
    }
    cut = levels.get(pre) or [
        pre_tokenizers.Split(Regex(CUTS[pre]), "isolated"),
        byte_level(add_prefix_space=False, use_regex=False),
    ]
    made.pre_tokenizer = pre_tokenizers.Sequence(cut)
    made.decoder = decoders.ByteLevel()
    made.add_tokens(
        [
            AddedToken(token, special=kind != USER_DEFINED, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in (UNKNOWN, CONTROL, USER_DEFINED)
        ]
    )
    return made


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _frame(made: Any, before: list[str | None], after: list[str | None]) -> None:
    """Have every text start and end with these tokens, if any."""
    from tokenizers.processors import TemplateProcessing

    if None in before:
        raise ModelError("its texts are to start with BOS, and it names no tokenizer.ggml.bos_token_id")
    frame = [token for token in (*before, *after) if token is not None]
    if frame:
        single = [*before, "$A", *after]
        made.post_processor = TemplateProcessing(
            single=single,
            pair=[*single, *before, "$B:1", *after],
            special_tokens=[(token, made.token_to_id(token)) for token in dict.fromkeys(frame)],
        )
