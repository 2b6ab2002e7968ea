"""How a decoder's tensors lie in a GGUF file: other names, and for two architectures other rows or other numbers.

* llama: ggml's rotary positions turn neighbouring rows of a head, transformers' turn rows half a head apart. The rows
  of query and key weights are put in ggml's order; a row of blocks moves as one of floats does, and no number changes.
* gemma3: transformers adds 1 to the weight of a norm when it computes, llama.cpp does not. It is added in float32,
  which rounds: read back, such a weight is the original to half a unit in the last place of 1 + weight.
* A head tied to the embedding is left out where both are stored alike; llama.cpp then uses the embedding.

Source: llama.cpp, convert_hf_to_gguf.py (LlamaModel.permute, Gemma3Model.norm_shift); Su et al. 2021, arXiv:2104.09864.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.export.gguf_architecture import GgufDecoder, rope_factors
from edgedistill.models.ggml_tensors import GgmlTensor

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
ROPE_FACTORS = "rope_freqs.weight"
OUTER = ("model.embed_tokens", "model.norm", "lm_head")
INNER = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "self_attn.q_norm",
    "self_attn.k_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
SUFFIXES = (".weight", ".bias")


def gguf_names(architecture: str, layers: int) -> dict[str, str]:
    """Return the checkpoint's name -> GGUF's, of every tensor that such a decoder may have."""
    import gguf

    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    known = gguf.get_tensor_name_map(number, layers)
    modules = [*OUTER, *(f"model.layers.{i}.{part}" for i in range(layers) for part in INNER)]
    found = {name: known.get_name(name, SUFFIXES) for module in modules for name in (module + end for end in SUFFIXES)}
    return {name: called for name, called in found.items() if called is not None}


def laid_out(decoder: GgufDecoder, tensors: Mapping[str, GgmlTensor]) -> dict[str, GgmlTensor]:
    """Return tensors as the file holds them, under GGUF's names and in the order of the model.

    Raises:
        ModelError: a tensor is missing, unknown, of another shape than config.json says, or a vector is not F32.
    """
    shapes = _shapes(decoder)
    tied = bool(decoder.config.tie_word_embeddings)
    if problems := [*_problems(shapes, tensors, tied=tied)]:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"the tensors are not those of config.json: {'; '.join(problems[:3])}{more}")
    names = gguf_names(decoder.architecture, decoder.config.num_hidden_layers)
    heads = decoder.config.num_attention_heads, decoder.key_value_heads
    factors = rope_factors(decoder)
    made = {} if factors is None else {ROPE_FACTORS: GgmlTensor("F32", factors.shape, factors)}
    for name in shapes:
        if name in tensors and not (tied and name == HEAD and _alike(tensors[name], tensors[EMBEDDING])):
            made[names[name]] = _to_ggml(decoder.architecture, name, tensors[name], heads)
    return made


def restored(
    architecture: str, layers: int, heads: tuple[int, int], stored: Mapping[str, GgmlTensor]
) -> dict[str, GgmlTensor]:
    """Return a file's tensors as the checkpoint has them.

    Args:
        heads: of queries, and of keys and values.
        stored: under GGUF's names.

    Raises:
        ModelError: a tensor's name is none that such a decoder has.
    """
    names = {called: name for name, called in gguf_names(architecture, layers).items()}
    if unknown := [called for called in stored if called not in names and called != ROPE_FACTORS]:
        raise ModelError(f"a GGUF file of {architecture} with {layers} layers has no tensor {unknown[0]!r}")
    own = {called: one for called, one in stored.items() if called != ROPE_FACTORS}
    return {names[called]: _from_ggml(architecture, names[called], one, heads) for called, one in own.items()}


def is_shifted(architecture: str, name: str) -> bool:
    """Whether a weight, by its name in the checkpoint, is stored with 1 added."""
    return architecture == "gemma3" and name.endswith("norm.weight")


def _shapes(decoder: GgufDecoder) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of what transformers would load, of a model without memory."""
    import torch
    from transformers import AutoModelForCausalLM

    made: Any = AutoModelForCausalLM  # carries no types
    with torch.device("meta"):
        return {name: tuple(one.shape) for name, one in made.from_config(decoder.config).state_dict().items()}


def _problems(shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, GgmlTensor], *, tied: bool) -> Iterator[str]:
    for name, shape in shapes.items():
        if name in tensors:
            if tensors[name].shape != shape:
                yield f"{name} has shape {tensors[name].shape} instead of {shape}"
            elif len(shape) == 1 and tensors[name].type != "F32":
                yield f"{name} is {tensors[name].type}, and llama.cpp computes norms and biases in F32"
        elif not (tied and name == HEAD):
            yield f"{name} is missing"
    yield from (f"{name} is unknown" for name in tensors if name not in shapes)


def _alike(one: GgmlTensor, other: GgmlTensor) -> bool:
    return one.type == other.type and np.array_equal(one.data, other.data)


def _turned(architecture: str, name: str, heads: tuple[int, int]) -> int | None:
    """Return how many heads' rows are turned in a tensor; None where they stay."""
    module = name.rpartition(".")[0]
    of = {"self_attn.q_proj": heads[0], "self_attn.k_proj": heads[1]} if architecture == "llama" else {}
    return next((count for end, count in of.items() if module.endswith(end)), None)


def _to_ggml(architecture: str, name: str, one: GgmlTensor, heads: tuple[int, int]) -> GgmlTensor:
    count = _turned(architecture, name, heads)
    if count is not None:
        return replace(one, data=one.data[turn(one.shape[0], count)])
    return replace(one, data=one.data + np.float32(1)) if is_shifted(architecture, name) else one


def _from_ggml(architecture: str, name: str, one: GgmlTensor, heads: tuple[int, int]) -> GgmlTensor:
    count = _turned(architecture, name, heads)
    if count is not None:
        return replace(one, data=one.data[np.argsort(turn(one.shape[0], count))])
    return replace(one, data=one.data - np.float32(1)) if is_shifted(architecture, name) else one


def turn(rows: int, heads: int) -> np.ndarray:
    """Return which row of the checkpoint stands at each place in the file, (rows,) int64.

    Row i of the first half of a head is followed by row i of its second half: ggml's pairs.
    """
    return np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(rows)
