"""Tiny causal language models with random weights, a byte-level BPE tokenizer trained in code, and a GGUF of both."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCAB = 352
MAX_TOKENS = 128
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # padding, start and end of a turn
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SUBJECTS = ("the cat", "a dog", "my friend", "the old man", "every child", "the king", "no one")
VERBS = ("sees", "likes", "follows", "finds", "forgets", "hears")
OBJECTS = ("the house", "a red ball", "the river", "its shadow", "two birds", "the moon")
ARCHITECTURES = ("llama", "qwen2")
PRE_TOKENIZERS = ("smollm", "qwen2")
"""Ids of GGUF's tokenizer.ggml.pre."""
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def documents(count: int, seed: int = 0) -> list[str]:
    """Return texts of 1 to 8 sentences, which have structure that a tiny model can learn."""
    random = np.random.default_rng(seed)

    def sentence() -> str:
        said = f"{random.choice(SUBJECTS)} {random.choice(VERBS)} {random.choice(OBJECTS)}"
        return f"{said} {random.integers(2, 99)} times." if random.random() < 0.3 else f"{said}."

    return [" ".join(sentence().capitalize() for _ in range(random.integers(1, 9))) for _ in range(count)]


def write_decoder(
    folder: Path, architecture: str = "llama", *, pre: str = "smollm", layers: int = 2, seed: int = 0, **changes: Any
) -> Any:
    """Write a checkpoint with tokenizer and chat template, and return the model, in evaluation mode.

    Args:
        folder: made where it is missing.
        architecture: llama (tied tables), qwen2 (biases, a table of its own for logits), qwen3 (heads of their own
            width, normalised); keys and values are grouped in all.
        pre: how the tokenizer cuts words, an id of PRE_TOKENIZERS.
        layers: transformer blocks.
        seed: of the weights.
        changes: fields of transformers' configuration, such as vocab_size (VOCAB ids are known to the tokenizer).
    """
    torch.manual_seed(seed)
    model = model_of(architecture, layers, **changes)
    model.save_pretrained(folder)
    write_tokenizer(folder, pre)
    return model


def model_of(architecture: str = "llama", layers: int = 2, **changes: Any) -> Any:
    """Return a tiny causal language model with random weights."""
    import transformers as t

    shape: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_TOKENS,
        "initializer_range": 0.2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    made: dict[str, Any] = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**shape | {"tie_word_embeddings": True} | changes)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**shape | {"tie_word_embeddings": False} | changes)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**shape | {"head_dim": 128} | changes)),
    }
    model = made[architecture]().eval()
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):  # transformers starts them at zero, where nobody would miss them
            torch.nn.init.normal_(tensor, std=0.2)
    return model


def write_tokenizer(folder: Path, pre: str = "smollm") -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja: VOCAB ids, the first those of SPECIAL."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    start, end = SPECIAL[1:]
    names: dict[str, Any] = {"pad_token": SPECIAL[0], "bos_token": start, "eos_token": end, "unk_token": SPECIAL[0]}
    made: Any = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(pre)), model_max_length=MAX_TOKENS, chat_template=TEMPLATE, **names
    )
    made.save_pretrained(folder)


@cache
def _trained(pre: str) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    levels: dict[str, list[Any]] = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "qwen2": [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    }
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence(levels[pre]), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        show_progress=False,
        vocab_size=VOCAB,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator(documents(300), trainer)
    return str(made.to_str())


def write_gguf(checkpoint: Path, file: Path, *, pre: str = "smollm", stored_as: str = "F32", **metadata: Any) -> Path:
    """Write a checkpoint as one GGUF file, laid out as llama.cpp's own converter does.

    Args:
        checkpoint: that `write_decoder` wrote.
        file: where to.
        pre: what the file says of how its tokenizer cuts words.
        stored_as: ggml type of the matrices, such as F32, F16, Q8_0, Q4_0; vectors are F32 always.
        metadata: `tokenizer.ggml.` keys to write otherwise, such as bos_token_id; None leaves one out.

    Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, get_tensor_name_map
    from gguf.quants import quantize
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    architecture = config["model_type"]
    writer = GGUFWriter(file, architecture)
    _say_shape(writer, config)
    _say_tokenizer(writer, checkpoint, {"pre": pre, **metadata})
    names = get_tensor_name_map(MODEL_ARCH[architecture.upper()], config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, weights in load_file(checkpoint / "model.safetensors").items():
        projection = name.split(".")[-2]
        if architecture == "llama" and projection in heads:
            weights = _turned(weights, heads[projection])
        kind = GGMLQuantizationType[stored_as if weights.ndim == 2 else "F32"]
        called = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(called, quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _turned(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return rows as llama.cpp wants them of llama: the halves of each head interleaved, for its rotary positions."""
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _say_shape(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _say_tokenizer(writer: Any, checkpoint: Path, said: dict[str, Any]) -> None:
    from gguf import TokenType

    bpe = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    whole: dict[str, Any] = {
        "model": "gpt2",
        "tokens": tokens,
        "token_type": [int(TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL) for token in tokens],
        "merges": [pair if isinstance(pair, str) else " ".join(pair) for pair in bpe["merges"]],
        "padding_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "add_bos_token": False,
    } | said
    for key, value in whole.items():
        if isinstance(value, list):
            writer.add_array(f"tokenizer.ggml.{key}", value)
        elif isinstance(value, bool):
            writer.add_bool(f"tokenizer.ggml.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"tokenizer.ggml.{key}", value)
        elif value is not None:
            writer.add_string(f"tokenizer.ggml.{key}", value)
    writer.add_chat_template(TEMPLATE)
