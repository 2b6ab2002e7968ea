"""Tiny checkpoints of every architecture and kind of tokenizer that GGUF files are written of."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_decoders import QWEN2_SPLIT, SPECIAL, TEMPLATE, VOCAB, documents

from edgedistill.models.ggml_tensors import GgmlTensor

SPLIT = {
    "qwen2": QWEN2_SPLIT,
    "llama-bpe": QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),
    "qwen35": QWEN2_SPLIT.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"),
}
BYTEWISE = ("gpt-2", "smollm", "qwen2", "qwen35", "llama-bpe", "smaug-bpe")
TEXTUAL = ("llama2", "gemma")
TEXT_VOCAB = 448
"""Ids of a tokenizer of TEXTUAL, some of which several merges make."""
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma3")
ODD_TEXTS = (
    "The cat sees the house.", "", " ", "  two  spaces ", "a\n\nb\n \n", "tab\tand\r\n", "12 123 1234 3.14", "a1b22",
    "I'll HE'S don't", "naïve café Ünïcödé", "你好，世界。", "👩‍👩‍👧 🚀 é", "e\u0301 combining", "½ ² ٣", "\u00a0x",
    "snake_case[0] == {y};", "<|im_start|>user\nHi 5<|im_end|>\n<|im_start|>assistant\n", "x" * 300, " 7 8  9\n1",
)  # fmt: skip


def write_checkpoint(folder: Path, architecture: str = "llama", tokenizer: str = "smollm", **changes: Any) -> Any:
    """Write a checkpoint with random weights, tokenizer and chat template, and return the model."""
    torch.manual_seed(0)
    model = _model(architecture, **{"vocab_size": TEXT_VOCAB if tokenizer in TEXTUAL else VOCAB} | changes)
    for name, weight in model.named_parameters():
        if name.endswith("bias") or weight.ndim == 1:  # where transformers starts them, nobody would miss them
            torch.nn.init.normal_(weight, mean=weight.detach().flatten()[0].item(), std=0.2)
    model.save_pretrained(folder)
    write_tokenizer(folder, tokenizer)
    return model


def _model(architecture: str, **changes: Any) -> Any:
    import transformers as t

    shape: dict[str, Any] = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "tie_word_embeddings": architecture in ("llama", "gemma3"),
    }  # fmt: skip
    own: dict[str, Any] = {
        "mistral": {"sliding_window": None, "head_dim": 32},
        "qwen3": {"head_dim": 32},
        "gemma3": {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8, "num_hidden_layers": 7},
    }
    config, model = {
        "llama": (t.LlamaConfig, t.LlamaForCausalLM),
        "mistral": (t.MistralConfig, t.MistralForCausalLM),
        "qwen2": (t.Qwen2Config, t.Qwen2ForCausalLM),
        "qwen3": (t.Qwen3Config, t.Qwen3ForCausalLM),
        "gemma3": (t.Gemma3TextConfig, t.Gemma3ForCausalLM),
        "gpt2": (t.GPT2Config, t.GPT2LMHeadModel),
    }[architecture]
    made: Any = model
    return made(config(**shape | own.get(architecture, {}) | changes)).eval()


def write_tokenizer(folder: Path, kind: str) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja; the first ids are those of SPECIAL."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    unknown = SPECIAL[0] if kind in BYTEWISE else "<unk>"
    names: dict[str, Any] = {"pad_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2]}
    made: Any = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(kind)), chat_template=TEMPLATE, unk_token=unknown, **names
    )
    made.save_pretrained(folder)


def change_tokenizer(folder: Path, change: Any) -> None:
    """Change tokenizer.json, as `change` changes its content."""
    file = folder / "tokenizer.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    change(written)
    file.write_text(json.dumps(written), encoding="utf-8")


def tensors_of(model: Any, stored_as: str = "F32") -> dict[str, GgmlTensor]:
    """Return a model's tensors, its matrices in this type of ggml's; a tied head is left out."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    def stored(weight: np.ndarray) -> GgmlTensor:
        kind = stored_as if weight.ndim == 2 else "F32"
        return GgmlTensor(kind, weight.shape, quantize(weight, GGMLQuantizationType[kind]))

    weights = {name: one.detach().numpy() for name, one in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    return {name: stored(weight) for name, weight in weights.items()}


@cache
def _trained(kind: str) -> str:
    return _trained_on_text(kind) if kind in TEXTUAL else _trained_on_bytes(kind)


def _trained_on_bytes(kind: str) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = SPLIT.get({"smaug-bpe": "llama-bpe"}.get(kind, kind))
    cutters: dict[str, Any] = {
        "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
        "smollm": pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
    }
    made = Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    made.pre_tokenizer = cutters.get(kind) or pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(str(split)), "isolated"), alone]
    )
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        show_progress=False, vocab_size=VOCAB, special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    numbers = [f"{n} {n}" for n in range(100, 200) for _ in range(10)]  # so that some tokens have several digits
    made.train_from_iterator([*documents(100), *numbers, "e\u0301 he's " * 500], trainer)
    return str(made.to_str())


def _trained_on_text(kind: str) -> str:
    """Return a tokenizer as converting one from SentencePiece makes it: every merge that the vocabulary allows."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    made = Tokenizer(models.BPE())
    spaces = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if kind == "llama2" else spaces
    special = [*SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(show_progress=False, vocab_size=TEXT_VOCAB, special_tokens=special, limit_alphabet=40)
    made.train_from_iterator([text.replace(" ", " ▁") for text in documents(300)], trainer)
    written = json.loads(made.to_str())
    vocab = written["model"]["vocab"]
    ordered = [token for token, i in sorted(vocab.items(), key=lambda item: item[1]) if i >= len(special)]
    merges = [[t[:i], t[i:]] for t in ordered for i in range(1, len(t)) if t[:i] in vocab and t[i:] in vocab]
    written["model"] |= {"merges": merges, "byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    written["added_tokens"] = [one for one in written["added_tokens"] if one["content"] in (*SPECIAL, "<unk>")]
    spelled = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    written["decoder"] = json.loads(decoders.Sequence(spelled).__getstate__())
    return json.dumps(written)
