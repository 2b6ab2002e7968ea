"""Small tokenizers of every kind, trained in code on a few hundred short texts, as transformers loads them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

MAX_TOKENS = 64
SYLLABLES = ("ka", "lo", "mi", "ter", "un", "sta", "ble", "good", "film", "s", "ing", "ed", "re", "ä", "ß", "o", "n't")
KINDS = ("wordpiece", "bytes", "suffixed", "prefixed", "bpe_with_bytes", "unigram", "words")
CLASSES = {"wordpiece": "BertTokenizer", "bytes": "RobertaTokenizer", "unigram": "XLMRobertaTokenizer"}
"""Kinds that transformers has a class of its own for, which may read the files in its own way."""


@cache
def texts(count: int = 300, seed: int = 0) -> tuple[str, ...]:
    """Return different texts of made-up words; frequent syllables make frequent words."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(SYLLABLES) + 1)

    def word() -> str:
        return "".join(random.choice(SYLLABLES, size=random.integers(1, 4), p=share / share.sum()))

    return tuple(
        " ".join(word() for _ in range(random.integers(1, 9))) + random.choice(["", ".", "!"]) for _ in range(count)
    )


def _wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        texts(), trainers.WordPieceTrainer(show_progress=False, vocab_size=220, special_tokens=_SPECIAL["wordpiece"])
    )
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def _bytes() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            show_progress=False, vocab_size=420, special_tokens=_SPECIAL["bytes"], initial_alphabet=alphabet
        ),
    )
    made.post_processor = processors.RobertaProcessing(
        ("</s>", made.token_to_id("</s>")), ("<s>", made.token_to_id("<s>")), add_prefix_space=False
    )
    return made


def _merged(**marks: str) -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="[UNK]", **marks))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        texts(), trainers.BpeTrainer(show_progress=False, vocab_size=200, special_tokens=_SPECIAL["wordpiece"], **marks)
    )
    return made


def _bpe_with_bytes() -> Tokenizer:
    """BPE on whole characters; one that it lacks is read byte by byte, as in Llama's and Gemma's tokenizers."""
    written = json.loads(_merged().to_str())
    vocab = written["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    written["model"] |= {"byte_fallback": True, "fuse_unk": True}
    return Tokenizer.from_str(json.dumps(written))


def _unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(
        texts(),
        trainers.UnigramTrainer(
            show_progress=False, vocab_size=160, special_tokens=_SPECIAL["bytes"], unk_token="<unk>"
        ),
    )
    ends = [(token, made.token_to_id(token)) for token in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return made


def _words() -> Tokenizer:
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(
        texts(), trainers.WordLevelTrainer(show_progress=False, vocab_size=200, special_tokens=_SPECIAL["wordpiece"])
    )
    return made


_SPECIAL = {
    "wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "bytes": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}
_MADE = {
    "wordpiece": _wordpiece,
    "bytes": _bytes,
    "suffixed": lambda: _merged(end_of_word_suffix="</w>"),
    "prefixed": lambda: _merged(continuing_subword_prefix="##"),
    "bpe_with_bytes": _bpe_with_bytes,
    "unigram": _unigram,
    "words": _words,
}


@cache
def _trained(kind: str) -> str:
    return _MADE[kind]().to_str()


def write(kind: str, folder: Path) -> Any:
    """Write a tokenizer of this kind, and return it as it is loaded; a token was added that its model does not have."""
    from edgedistill.models.load import load_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    made = Tokenizer.from_str(_trained(kind))
    made.add_tokens(["<extra>"])
    made.save(str(folder / "tokenizer.json"))
    sharp = kind in ("bytes", "unigram")
    names = ("pad", "unk", "cls", "sep", "mask")
    tokens = ("<pad>", "<unk>", "<s>", "</s>", "<mask>") if sharp else ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    settings = {f"{name}_token": token for name, token in zip(names, tokens, strict=True)}
    settings |= {"model_max_length": MAX_TOKENS, "tokenizer_class": CLASSES.get(kind, "PreTrainedTokenizerFast")}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return load_tokenizer(folder)
