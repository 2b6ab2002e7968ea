"""A GGUF file's tokens and logits, as read here and as llama.cpp reads them."""

import ctypes
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_texts import ODD_TEXTS
from plain_llama import opened
from tiny_decoders import SPECIAL, documents, write_decoder, write_gguf

from edgedistill.models.decoder import load_decoder
from edgedistill.models.gguf_checkpoint import unpack
from edgedistill.models.gguf_tokenizer import KNOWN
from edgedistill.models.load import load_tokenizer

llama_cpp: Any = pytest.importorskip("llama_cpp", reason="it is the independent reader of GGUF files")


def ids_by_llama_cpp(model: Any, text: str) -> list[int]:
    """Return a text's ids; special tokens inside it are read as such, and what frames a text is added."""
    raw = text.encode()
    room = (ctypes.c_int32 * (len(raw) + 16))()
    vocab = llama_cpp.llama_model_get_vocab(model._model.model)
    count = llama_cpp.llama_tokenize(vocab, raw, len(raw), room, len(room), True, True)
    assert count >= 0
    return list(room[:count])


def unlike(tokenizer: Any, model: Any, texts: tuple[str, ...]) -> list[str]:
    """Return the texts that the two read differently."""
    return [text for text in texts if tokenizer(text)["input_ids"] != ids_by_llama_cpp(model, text)]


TEXTS = (*ODD_TEXTS, *documents(50))
TOKENS = 800


@cache
def across_words() -> dict[str, list[Any]]:
    """Return tokens and merges learned from whole texts: with these, every cut that is made or left out is seen."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        show_progress=False, vocab_size=TOKENS, special_tokens=list(SPECIAL), initial_alphabet=alphabet
    )
    made.train_from_iterator([text + text for text in ODD_TEXTS], trainer)
    model = json.loads(made.to_str())["model"]
    return {
        "tokens": sorted(model["vocab"], key=model["vocab"].get),
        "token_type": [3] * len(SPECIAL) + [1] * (TOKENS - len(SPECIAL)),
        "merges": [" ".join(pair) for pair in model["merges"]],
    }


@pytest.mark.parametrize("pre", KNOWN)
@pytest.mark.parametrize("starts", [None, True])
def test_tokens_are_those_of_llama_cpp(pre: str, starts: bool | None, tmp_path: Path) -> None:
    write_decoder(tmp_path / "a", layers=1, vocab_size=TOKENS)
    file = write_gguf(tmp_path / "a", tmp_path / "m.gguf", pre=pre, add_bos_token=starts, **across_words())
    tokenizer, model = load_tokenizer(unpack(file, tmp_path / "made")), opened(file, vocab_only=True)
    assert not unlike(tokenizer, model, TEXTS)
    for other in {*KNOWN} - {pre}:
        said = write_gguf(tmp_path / "a", tmp_path / "b.gguf", pre=other, add_bos_token=starts, **across_words())
        assert unlike(load_tokenizer(unpack(said, tmp_path / "other")), model, TEXTS), f"{other} is not {pre}"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("stored_as", ["F32", "Q8_0"])
def test_logits_are_those_of_llama_cpp(architecture: str, stored_as: str, tmp_path: Path) -> None:
    write_decoder(tmp_path / "a", architecture)
    file = write_gguf(tmp_path / "a", tmp_path / "m.gguf", stored_as=stored_as)
    ids = [int(one) for one in np.random.default_rng(0).integers(3, 352, 24)]
    model = opened(file, n_ctx=64, n_batch=64, logits_all=True, flash_attn=False)
    model.eval(ids)
    right = torch.from_numpy(np.array(model.scores[: len(ids)], dtype=np.float32))
    with torch.no_grad():
        decoder = load_decoder(unpack(file, tmp_path / "made"))
        logits = decoder(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))[0]
        other = load_decoder(unpack(write_gguf(tmp_path / "a", tmp_path / "m.gguf", stored_as="Q4_0"), tmp_path / "b"))
        wrong = other(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))[0]
    tolerance = {"F32": 0.01, "Q8_0": 0.1}[stored_as]  # of float16 keys; of activations that ggml rounds, too
    assert (logits - right).norm() / right.norm() < tolerance
    assert (wrong - right).norm() / right.norm() > tolerance, "a model that is not the file's own is seen"
