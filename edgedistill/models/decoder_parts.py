"""Sizes and parts of the decoders that can be pruned: what each family has beside what all of them have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill.errors import ModelError

ATTENTION_OUTPUT, FEED_FORWARD_OUTPUT = "self_attn.o_proj", "mlp.down_proj"
"""In every layer: what reads the heads' outputs, and what reads the neurons."""
LAST_NORM = "norm"


@dataclass(frozen=True)
class DecoderSizes:
    """Of a decoder, in the words of its config.json; a head is as wide before pruning as after."""

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    head_dim: int

    @property
    def sharing(self) -> int:
        """Heads of queries that read the same keys and values: one group."""
        return self.num_attention_heads // self.num_key_value_heads


@dataclass(frozen=True)
class DecoderFamily:
    """What tells one family from another, as far as its parts are narrowed."""

    reading_norms: tuple[str, ...]  # of a layer; their outputs are what attention and feed-forward read
    writing_norms: tuple[str, ...] = ()  # of a layer; what they give is added to the stream
    unit: float = 0.0  # what a norm adds to its weight before it multiplies
    scaled_table: bool = False  # whether token vectors are multiplied by the root of hidden_size

    def norms(self, layers: int) -> tuple[str, ...]:
        """Return the names of all norms that are as wide as the stream."""
        in_layer = (*self.reading_norms, *self.writing_norms)
        return (*(f"layers.{layer}.{name}" for layer in range(layers) for name in in_layer), LAST_NORM)

    def read(self, norm: str) -> bool:
        """Whether a layer or the output head reads what a norm gives."""
        return norm == LAST_NORM or norm.split(".")[-1] in self.reading_norms


_LLAMA = DecoderFamily(("input_layernorm", "post_attention_layernorm"))
FAMILIES: Mapping[str, DecoderFamily] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma3_text": DecoderFamily(
        ("input_layernorm", "pre_feedforward_layernorm"),
        ("post_attention_layernorm", "post_feedforward_layernorm"),
        unit=1.0,
        scaled_table=True,
    ),
}
"""By model_type. All have rotary positions, RMSNorm, grouped queries and a gated feed-forward part."""


def family_of(config: Mapping[str, Any]) -> DecoderFamily:
    """Return the family of a checkpoint.

    Raises:
        ModelError: it is none that can be pruned; the text begins with the recipe's key.
    """
    kind = config.get("model_type", "")
    if kind not in FAMILIES:
        raise ModelError(
            f"student.kind: pruned knows the parts of {', '.join(FAMILIES)}, and the teacher's model_type is {kind!r}; "
            "choose student.kind: layers"
        )
    return FAMILIES[kind]


def sizes_in(config: Mapping[str, Any]) -> DecoderSizes:
    """Return the sizes that a config.json speaks of; what it leaves out is what transformers takes for it."""
    from transformers import AutoConfig

    said = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    whole: Any = AutoConfig.for_model(config["model_type"], **said)
    heads = int(whole.num_attention_heads)
    return DecoderSizes(
        hidden_size=int(whole.hidden_size),
        num_attention_heads=heads,
        num_key_value_heads=int(getattr(whole, "num_key_value_heads", None) or heads),
        intermediate_size=int(whole.intermediate_size),
        head_dim=int(getattr(whole, "head_dim", None) or whole.hidden_size // heads),
    )
