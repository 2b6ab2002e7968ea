"""What llama.cpp must know of a decoder to compute what transformers computes: sizes, attention, rotary positions.

A setting that llama.cpp has no key for is refused rather than dropped: the file would load, and say something else.

Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (keys); llama.cpp, src/models/*.cpp (what it reads);
Peng et al. 2023, arXiv:2309.00071 (YaRN); Chen et al. 2023, arXiv:2306.15595 (linear scaling of positions).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.models.config_json import read_config

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3"}
"""transformers' model_type -> the architecture whose graph llama.cpp runs for it."""
ACTIVATIONS = {"llama": "silu", "qwen2": "silu", "qwen3": "silu", "gemma3": "gelu_pytorch_tanh"}
SCALINGS = {
    "llama": ("default", "linear", "yarn", "llama3"),
    "qwen2": ("default", "linear", "yarn"),
    "qwen3": ("default", "linear", "yarn"),
    "gemma3": ("default", "linear"),
}
GEMMA3_PATTERN = 6
"""llama.cpp's own: every sixth layer of a gemma3 sees everything, the others a window."""
GEMMA3_27B_LAYERS = 62
"""With so many layers llama.cpp scales gemma3's attention by hidden_size / heads instead of head_dim."""


@dataclass(frozen=True)
class GgufDecoder:
    """A checkpoint's configuration, and the GGUF architecture that it is written as."""

    architecture: str
    config: Any  # transformers' configuration of the checkpoint, its defaults filled in

    @property
    def head_dim(self) -> int:
        """Columns of one head's queries."""
        said: int | None = getattr(self.config, "head_dim", None)
        return int(said or self.config.hidden_size // self.config.num_attention_heads)

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values; fewer than those of queries where several share one."""
        return int(getattr(self.config, "num_key_value_heads", None) or self.config.num_attention_heads)

    @property
    def rope(self) -> Mapping[str, Any]:
        """Rotary positions of the layers that see everything: rope_theta, rope_type and its settings."""
        said: Mapping[str, Any] = self.config.rope_parameters
        full: Mapping[str, Any] = said.get("full_attention", said)
        return full

    @property
    def window(self) -> int | None:
        """Tokens that a layer with sliding attention sees; None where no layer slides."""
        window: int | None = getattr(self.config, "sliding_window", None)
        kinds = getattr(self.config, "layer_types", None)
        slides = window is not None and (kinds is None or "sliding_attention" in kinds)
        return window if slides else None


def read_decoder(checkpoint: Path) -> GgufDecoder:
    """Return what a checkpoint's config.json says.

    Raises:
        ModelError: llama.cpp has no such architecture here, or could not compute it as it is configured.
    """
    from transformers import AutoConfig

    kind = str(read_config(checkpoint).get("model_type"))
    if kind not in ARCHITECTURES:
        raise ModelError(f"GGUF files are written of {', '.join(ARCHITECTURES)}, and {checkpoint} is of type {kind!r}")
    config: Any = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
    decoder = GgufDecoder(ARCHITECTURES[kind], config)
    if refused := _all_refused(decoder):
        raise ModelError(f"llama.cpp cannot compute {checkpoint} as it is configured: {'; '.join(refused)}")
    return decoder


def refused(written: Mapping[str, Any]) -> list[str]:
    """Return why llama.cpp could not compute a decoder with this config.json, as far as that tells; empty if it can."""
    from transformers import AutoConfig

    kind = str(written.get("model_type"))
    if kind not in ARCHITECTURES:
        return [f"GGUF files are written of {', '.join(ARCHITECTURES)}, and this is a {kind!r}"]
    said = {key: value for key, value in written.items() if key not in ("model_type", "architectures")}
    config: Any = AutoConfig.for_model(kind, **said)
    return _all_refused(GgufDecoder(ARCHITECTURES[kind], config))


def _all_refused(decoder: GgufDecoder) -> list[str]:
    return [*_refused(decoder), *_refused_gemma3(decoder)]


def _refused(decoder: GgufDecoder) -> Iterator[str]:
    config, architecture = decoder.config, decoder.architecture
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation != ACTIVATIONS[architecture]:
        yield f"hidden_act {activation!r} is not {ACTIVATIONS[architecture]!r}"
    if architecture in ("qwen3", "gemma3") and config.attention_bias:
        yield f"attention_bias is true, and its {architecture} has none"
    if architecture == "qwen2" and decoder.head_dim * config.num_attention_heads != config.hidden_size:
        yield f"head_dim {decoder.head_dim} times {config.num_attention_heads} heads is not {config.hidden_size}"
    yield from _refused_rope(decoder)


def _refused_rope(decoder: GgufDecoder) -> Iterator[str]:
    rope, known = decoder.rope, SCALINGS[decoder.architecture]
    if rope["rope_type"] not in known:
        yield f"rope_type {rope['rope_type']!r} is none of {', '.join(known)}"
    if rope.get("partial_rotary_factor") not in (None, 1, 1.0):
        yield f"partial_rotary_factor {rope['partial_rotary_factor']} is not 1"
    lost = [name for name in ("attention_factor", "mscale", "mscale_all_dim") if rope.get(name) is not None]
    if lost or rope.get("truncate") is False:
        yield f"rope_parameters.{', '.join(lost or ['truncate'])} has no key in GGUF that means the same"


def _refused_gemma3(decoder: GgufDecoder) -> Iterator[str]:
    if decoder.architecture != "gemma3":
        return
    config = decoder.config
    wide = config.num_hidden_layers == GEMMA3_27B_LAYERS
    wanted = config.hidden_size // config.num_attention_heads if wide else decoder.head_dim
    if config.query_pre_attn_scalar != wanted:
        yield f"query_pre_attn_scalar {config.query_pre_attn_scalar} is not {wanted}"
    if config.attn_logit_softcapping is not None:
        yield "attn_logit_softcapping is set, and its gemma3 has none"
    if config.rope_parameters["sliding_attention"]["rope_type"] != "default":
        yield "rope_parameters.sliding_attention is scaled, and its gemma3 scales full attention only"


def add_architecture(writer: Any, decoder: GgufDecoder) -> None:
    """Add a decoder's keys to a gguf.GGUFWriter, those that llama.cpp's converter adds."""
    config = decoder.config
    longest = config.max_position_embeddings
    if decoder.architecture == "gemma3":
        _add_gemma3(writer, decoder)
    elif decoder.window is not None:  # no key for it: within the window, sliding and full attention are the same
        longest = min(longest, decoder.window)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(longest)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(decoder.key_value_heads)
    writer.add_key_length(decoder.head_dim)
    writer.add_value_length(decoder.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if decoder.architecture == "llama":
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(decoder.head_dim)
    _add_rope(writer, decoder.rope)


def _add_rope(writer: Any, rope: Mapping[str, Any]) -> None:
    from gguf import RopeScalingType

    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] not in ("linear", "yarn"):
        return  # llama3 is a tensor
    writer.add_rope_scaling_type(RopeScalingType(rope["rope_type"]))
    writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if rope.get("beta_fast") is not None:
            writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        if rope.get("beta_slow") is not None:
            writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])


def _add_gemma3(writer: Any, decoder: GgufDecoder) -> None:
    config = decoder.config
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if decoder.window is None:
        return
    writer.add_sliding_window(decoder.window)
    writer.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])
    sliding = [kind == "sliding_attention" for kind in config.layer_types]
    if sliding != [i % GEMMA3_PATTERN < GEMMA3_PATTERN - 1 for i in range(len(sliding))]:
        writer.add_sliding_window_pattern(sliding)  # read by newer builds; the usual pattern needs none of them


def rope_factors(decoder: GgufDecoder) -> np.ndarray | None:
    """Return what each frequency of Llama 3's positions is divided by, (head_dim / 2,) float32; None for others.

    Source: https://github.com/meta-llama/llama-models, models/llama3/model.py, apply_scaling.
    """
    import torch

    rope = decoder.rope
    if rope["rope_type"] != "llama3":
        return None
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    context = rope["original_max_position_embeddings"]
    exponents = torch.arange(0, decoder.head_dim, 2, dtype=torch.float32) / decoder.head_dim
    lengths = 2 * math.pi / (1.0 / (rope["rope_theta"] ** exponents))  # tokens of one turn
    smooth = (context / lengths - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    factors = torch.where(lengths < context / high, 1.0, torch.where(lengths > context / low, factor, between))
    made: np.ndarray = factors.to(torch.float32).numpy()
    return made
