"""Decoders as names and shapes, a GGUF file that has just enough for llama.cpp to quantize, and llama.cpp doing it."""

import ctypes
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgedistill.quantize.ggml_mixtures import gguf_names
from edgedistill.quantize.rounded import StoredTensor, put
from edgedistill.training.rows import TokenRows

VOCAB = 100
ROWS = 4  # llama.cpp's quantizer looks at columns alone
FILE_TYPES = {
    "gguf_f16": "F16",
    "q8_0": "Q8_0",
    "q6_k": "Q6_K",
    "q5_k_m": "Q5_K_M",
    "q4_k_m": "Q4_K_M",
    "q4_0": "Q4_0",
    "iq4_nl": "IQ4_NL",
    "q3_k_m": "Q3_K_M",
    "q2_k": "Q2_K",
}
"""A method's word -> LLAMA_FTYPE_MOSTLY_..."""


def config_of(architecture: str = "llama", layers: int = 2, heads: int = 8, shared: int = 1) -> dict[str, Any]:
    """Return what is read of config.json; `shared` query heads read the same keys and values."""
    return {
        "model_type": architecture,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // shared,
    }


def shapes_of(
    config: Mapping[str, Any], columns: int = 256, inner: int | None = None, *, tied: bool = True
) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a checkpoint; an attention of phi3 has one matrix for queries, keys and values.

    Args:
        config: of `config_of`.
        columns: hidden size.
        inner: columns of the down projections; `columns` where nothing is said.
        tied: whether the token table is the output head too.
    """
    parts = {"self_attn.o_proj": columns, "mlp.down_proj": inner or columns}
    if config["model_type"] == "phi3":
        parts |= {"self_attn.qkv_proj": columns, "mlp.gate_up_proj": columns}
    else:
        parts |= dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), columns)
        parts |= dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), columns)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (ROWS, columns), "model.norm.weight": (columns,)}
    for layer in range(config["num_hidden_layers"]):
        before = f"model.layers.{layer}"
        shapes |= {f"{before}.{part}.weight": (ROWS, width) for part, width in parts.items()}
        shapes |= {f"{before}.{norm}.weight": (columns,) for norm in ("input_layernorm", "post_attention_layernorm")}
        if config["model_type"] == "qwen2":
            shapes |= {f"{before}.self_attn.{part}_proj.bias": (ROWS,) for part in "qkv"}
    return shapes if tied else {**shapes, "lm_head.weight": (ROWS, columns)}


def weights_of(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Return normal weights of these shapes."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_gguf(file: Path, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Path:
    """Write float32 weights as a GGUF file that nothing can run, and llama.cpp can quantize."""
    from gguf import GGUFWriter

    writer = GGUFWriter(file, str(config["model_type"]))
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(256)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(ROWS)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, called in gguf_names(config, weights).items():
        writer.add_tensor(called, weights[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def quantized_by_llama(
    file: Path,
    scheme: str,
    config: Mapping[str, Any],
    names: Iterable[str],
    importance: Mapping[str, np.ndarray] | None = None,
) -> dict[str, tuple[str, np.ndarray]]:
    """Return checkpoint name -> (type, numbers or bytes as they are stored) of what llama.cpp makes of `file`.

    Args:
        file: of `write_gguf`.
        scheme: one of FILE_TYPES.
        config: the file's.
        names: those of its tensors in the checkpoint.
        importance: checkpoint name of a weight -> (columns,) float32.
    """
    import llama_cpp
    from gguf import GGUFReader

    asked = llama_cpp.llama_model_quantize_default_params()
    asked.nthread, asked.ftype = 1, getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{FILE_TYPES[scheme]}")
    floats, known = ctypes.POINTER(ctypes.c_float), importance or {}
    said = [
        llama_cpp.llama_model_imatrix_data(called.encode(), known[name].ctypes.data_as(floats), len(known[name]))
        for name, called in gguf_names(config, known).items()
    ]
    if importance is not None:
        asked.imatrix = (llama_cpp.llama_model_imatrix_data * (len(said) + 1))(*said)  # the last one has no name
    made = file.with_suffix(f".{scheme}.gguf")
    assert llama_cpp.llama_model_quantize(str(file).encode(), str(made).encode(), ctypes.byref(asked)) == 0
    stored = {tensor.name: tensor for tensor in GGUFReader(made).tensors}
    names = gguf_names(config, names)
    return {name: (stored[called].tensor_type.name, np.array(stored[called].data)) for name, called in names.items()}


class TinyDecoder(nn.Module):
    """A language model of transformers with random weights, called with ids and mask alone."""

    def __init__(self, hidden: int = 64, *, tied: bool = True) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        super().__init__()
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=VOCAB, hidden_size=hidden, intermediate_size=hidden, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.1, tie_word_embeddings=tied,
        )  # fmt: skip
        self.model = LlamaForCausalLM(config).eval()

    @property
    def config(self) -> dict[str, Any]:
        """What its config.json would say."""
        said: dict[str, Any] = self.model.config.to_dict()
        return said

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits, (batch, tokens, vocabulary)."""
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits


def some_rows(count: int = 20, seed: int = 0) -> TokenRows:
    """Return rows of 2 to 17 tokens."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 18, count)
    return TokenRows(random.integers(1, VOCAB, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]), 0)


def simulated(model: Any, tensors: Mapping[str, StoredTensor]) -> Any:
    """Return a copy of a float model whose weights are what the tensors stand for."""
    rounded = deepcopy(model)
    put(tensors, rounded)
    return rounded
