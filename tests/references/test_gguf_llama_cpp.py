"""llama.cpp computes of a file what transformers computes of its checkpoint, and reads texts in the same tokens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_llama import opened
from tiny_gguf import BYTEWISE, ODD_TEXTS, TEXTUAL, tensors_of, write_checkpoint
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from edgedistill.export import gguf_file, gguf_layout, gguf_tokenizer
from edgedistill.export.gguf_file import write_gguf
from edgedistill.export.gguf_pre_tokenizers import KNOWN, probes

llama_cpp: Any = pytest.importorskip("llama_cpp", reason="runs what was written; pip install 'edgedistill[gguf]'")

F32 = 0  # ggml's number for it; by default keys and values are rounded to F16
TOLERANCE = 2e-4
"""Of logits of size 1.6: sums in another order."""
GELU_TOLERANCE = 1e-2
"""ggml looks GELU up in a table of F16; gemma3 has 7 layers here, so that one of them sees everything."""
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
GEMMA = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "smollm", {}), ("llama", "llama-bpe", {"tie_word_embeddings": False, "head_dim": 32}),
    ("llama", "llama-bpe", {"rope_parameters": LLAMA3}), ("llama", "smollm", {"rope_parameters": YARN}),
    ("llama", "smollm", {"rope_parameters": LINEAR}), ("llama", "gpt-2", {"attention_bias": True, "mlp_bias": True}),
    ("mistral", "llama2", {}), ("mistral", "llama2", {"sliding_window": 64}),
    ("qwen2", "qwen2", {}), ("qwen2", "qwen2", {"rope_parameters": YARN, "num_key_value_heads": 4}),
    ("qwen3", "qwen2", {}), ("qwen3", "qwen2", {"tie_word_embeddings": True}),
    ("gemma3", "gemma", {}), ("gemma3", "gemma", {"rope_parameters": GEMMA, "final_logit_softcapping": 3.0}),
    ("gemma3", "gemma", {"layer_types": ["sliding_attention", "full_attention"] * 3 + ["sliding_attention"]}),
]  # fmt: skip


def write(folder: Path, architecture: str, tokenizer: str, **changes: Any) -> tuple[Any, Path]:
    model = write_checkpoint(folder, architecture, tokenizer, **changes)
    return model, write_file(folder, model)


def write_file(folder: Path, model: Any) -> Path:
    said = {"name": "tiny", "version": "1.0", "licence": "mit", "file_type": "F32", "facts": {}, "importance": None}
    write_gguf(folder / "model.gguf", folder, tensors_of(model), **said)
    return folder / "model.gguf"


def furthest(model: Any, file: Path) -> float:
    """Return the largest difference of logits over 48 tokens, between transformers and llama.cpp."""
    ids = torch.randint(3, 340, (1, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(ids).logits[0].numpy()
    runs = opened(file, n_ctx=64, n_batch=64, logits_all=True, type_k=F32, type_v=F32, flash_attn=False)
    runs.eval(ids[0].tolist())
    found = np.array(runs.scores[: ids.shape[1]])
    runs.close()
    return float(np.abs(wanted - found).max())


def misread(folder: Path, file: Path, texts: Sequence[str]) -> list[str]:
    """Return the texts that llama.cpp reads in other tokens than transformers."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    runs = opened(file, vocab_only=True)
    found = [runs.tokenize(text.encode(), add_bos=False, special=True) for text in texts]
    runs.close()
    return [text for text, ids in zip(texts, found, strict=True) if ids != tokenizer.encode(text)]


@pytest.mark.parametrize(("architecture", "tokenizer", "changes"), MODELS)
def test_the_same_logits(tmp_path: Path, architecture: str, tokenizer: str, changes: dict[str, Any]) -> None:
    model, file = write(tmp_path, architecture, tokenizer, **changes)
    assert furthest(model, file) < (GELU_TOLERANCE if architecture == "gemma3" else TOLERANCE)


@pytest.mark.parametrize("kind", [*BYTEWISE, *TEXTUAL])
def test_the_same_tokens(tmp_path: Path, kind: str) -> None:
    _, file = write(tmp_path, "llama", kind)
    texts = [text for text in (*ODD_TEXTS, *probes()[::7]) if not (kind in TEXTUAL and text == "")]
    assert misread(tmp_path, file, texts) == []


def test_every_pre_tokenizer_is_tried() -> None:
    assert {one.name for one in KNOWN} == set(BYTEWISE)


def test_wrong_rows_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_layout, "turn", lambda rows, heads: np.arange(rows))
    model, file = write(tmp_path, "llama", "smollm")
    assert furthest(model, file) > 100 * TOLERANCE


def test_lost_rope_factors_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_layout, "rope_factors", lambda decoder: None)
    model, file = write(tmp_path, "llama", "smollm", rope_parameters=LLAMA3)
    assert furthest(model, file) > 100 * TOLERANCE


@pytest.mark.parametrize("lost", ["add_sliding_window", "add_sliding_window_pattern", "add_rope_freq_base_swa"])
def test_lost_windows_are_seen(tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf

    monkeypatch.setattr(gguf.GGUFWriter, lost, lambda self, value: None)
    kinds = ["full_attention", "sliding_attention"] * 3 + ["full_attention"]
    rope = {**GEMMA, "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}
    model, file = write(tmp_path, "gemma3", "gemma", layer_types=kinds, rope_parameters=rope)
    assert furthest(model, file) > 10 * GELU_TOLERANCE


@pytest.mark.parametrize(("kind", "named"), [("gpt-2", "smollm"), ("llama-bpe", "qwen2"), ("qwen35", "qwen2")])
def test_a_wrong_pre_tokenizer_is_seen(tmp_path: Path, kind: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_tokenizer, "pre_tokenizer_of", lambda written: named)
    _, file = write(tmp_path, "llama", kind)
    assert misread(tmp_path, file, ODD_TEXTS)


def test_a_wrong_token_type_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gguf import TokenType

    right = gguf_tokenizer._tokens

    def all_normal(*args: Any, **kwargs: Any) -> Any:
        tokens, types = right(*args, **kwargs)
        return tokens, (TokenType.NORMAL,) * len(types)

    monkeypatch.setattr(gguf_tokenizer, "_tokens", all_normal)
    _, file = write(tmp_path, "llama", "smollm")
    assert misread(tmp_path, file, ODD_TEXTS)


def test_missing_merges_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = gguf_file.add_vocabulary

    def half(writer: Any, vocabulary: Any) -> None:
        from dataclasses import replace

        right(writer, replace(vocabulary, merges=vocabulary.merges[: len(vocabulary.merges) // 2]))

    monkeypatch.setattr(gguf_file, "add_vocabulary", half)
    _, file = write(tmp_path, "llama", "smollm")
    assert misread(tmp_path, file, ODD_TEXTS)


def test_scores_in_another_order_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = gguf_tokenizer._scores
    monkeypatch.setattr(gguf_tokenizer, "_scores", lambda *args: tuple(-score for score in right(*args)))
    _, file = write(tmp_path, "llama", "gemma")
    assert misread(tmp_path, file, ODD_TEXTS)


def test_special_tokens_and_template_are_found(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, "llama", "smollm")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 1], "temperature": 0.5}))
    runs = opened(write_file(tmp_path, model), vocab_only=True)
    assert (runs.token_bos(), runs.token_eos()) == (1, 2)
    vocab = llama_cpp.llama_model_get_vocab(runs.model)
    assert llama_cpp.llama_vocab_eot(vocab) == 1  # a token that the template has, and eos is another
    assert llama_cpp.llama_vocab_is_eog(vocab, 2)
    assert "im_start" in runs.metadata["tokenizer.chat_template"]
    assert runs.metadata["general.sampling.temp"] == "0.500000"
    runs.close()


@pytest.mark.parametrize("begins", [False, True])
def test_a_text_begins_as_the_tokenizer_has_it(tmp_path: Path, begins: bool) -> None:
    model = write_checkpoint(tmp_path, "llama", "smollm")
    if begins:
        file = tmp_path / "tokenizer.json"
        made = Tokenizer.from_file(str(file))
        made.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
        made.save(str(file))
    runs = opened(write_file(tmp_path, model), vocab_only=True)
    assert llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(runs.model)) == begins
    runs.close()
