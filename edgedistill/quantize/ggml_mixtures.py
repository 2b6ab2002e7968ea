"""Which ggml type each tensor of a decoder gets: what llama.cpp's own mixtures choose, tensor by tensor.

A mixture such as Q4_K_M is a type for most matrices and a better one for those that suffer most: some of the values and
of the down projections, and the output head. Where a row does not divide into a type's blocks, llama.cpp takes another
type, and the choice keeps the reason. Rules of types and architectures that are not offered here are left out.

Counting goes through all layers, whatever a recipe overrides; llama.cpp's own `--tensor-type` counts past the tensors
that it names, so that it shifts the rule for all later ones.

Source: https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp, as in llama-cpp-python 0.3.36; the
mixtures are those of https://github.com/ggml-org/llama.cpp/pull/1684.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from edgedistill.errors import QuantizationError

SCHEMES = {
    "gguf_f16": "F16",
    "q8_0": "Q8_0",
    "q6_k": "Q6_K",
    "q5_k_m": "Q5_K",
    "q4_k_m": "Q4_K",
    "q4_0": "Q4_0",
    "iq4_nl": "IQ4_NL",
    "q3_k_m": "Q3_K",
    "q2_k": "Q2_K",
}
"""The type that each scheme gives a matrix which no rule below names."""
ARCHITECTURES = {
    "llama": "LLAMA",
    "mistral": "LLAMA",
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
    "smollm3": "SMOLLM3",
    "gemma": "GEMMA",
    "gemma2": "GEMMA2",
    "gemma3_text": "GEMMA3",
    "phi3": "PHI3",
    "olmo2": "OLMO2",
    "granite": "GRANITE",
    "stablelm": "STABLELM",
    "starcoder2": "STARCODER2",
}
"""model_type to gguf's MODEL_ARCH, where llama.cpp's general rules hold and matrices lie as PyTorch's linear layers."""
OTHER_BLOCKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
"""Blocks of 32 that stand in for blocks of 256."""
VALUES = ("attn_v", "attn_qkv")  # one matrix that makes values too counts as one that makes values
MANY_SHARE = 4  # heads that read the same keys and values, from which on values are small and get more bits


@dataclass(frozen=True)
class Choice:
    """The type of one tensor."""

    type: str
    wanted: str  # what the scheme, or the recipe, has for it
    reason: str  # why it is not the wanted one; empty where it is


@dataclass(frozen=True)
class _Model:
    """What the rules ask about a model."""

    layers: int
    shared: int  # query heads for each head of keys and values
    seventy_b: bool  # llama.cpp knows Llama 2 70B, and its like, by their 80 layers
    tied: bool  # whether the token table is the output head too
    has_importance: bool


@dataclass(frozen=True)
class _Place:
    """One matrix that may be quantized, among those of its kind."""

    kind: str  # attn_v, ffn_down, ...: what stands in its name behind the layer
    index: int  # how many of its kind come before
    count: int  # of its kind


def decide(
    config: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    scheme: str,
    overrides: Mapping[str, str],
    *,
    has_importance: bool,
) -> dict[str, Choice]:
    """Return what each tensor becomes. Vectors, norms and all that is no weight stay F32.

    Args:
        config: the checkpoint's config.json.
        shapes: of every tensor, by its name in the checkpoint; a head that is the token table is not named again.
        scheme: one of SCHEMES.
        overrides: pattern of names, with * and ?, to ggml type; of two that fit, the first one counts.
        has_importance: whether an importance matrix is used; two schemes then choose otherwise.

    Raises:
        QuantizationError: the architecture or a tensor is unknown, or a pattern fits no matrix.
    """
    names = gguf_names(config, shapes)
    matrices = {name: called for name, called in names.items() if _may_be_quantized(called, shapes[name])}
    _refuse_idle(overrides, matrices)
    model = _model(config, names.values(), has_importance)
    found = {name: Choice("F32", "F32", "") for name in names}
    for name, place in _places(matrices).items():
        wanted = next((overrides[pattern] for pattern in overrides if fnmatchcase(name, pattern)), None)
        found[name] = (
            _by_rule(place, shapes[name][1], scheme, model) if wanted is None else _fitting(wanted, shapes[name][1])
        )
    return found


def gguf_names(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return each tensor's name in a GGUF file, such as blk.0.attn_v.weight, by its name in the checkpoint.

    Raises:
        QuantizationError: the architecture is none of ARCHITECTURES, or GGUF has no name for a tensor.
    """
    from gguf import MODEL_ARCH, get_tensor_name_map

    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise QuantizationError(
            f"a model of type {kind!r} has no known mixture of ggml types; these have: {', '.join(ARCHITECTURES)}"
        )
    known = get_tensor_name_map(MODEL_ARCH[ARCHITECTURES[kind]], int(config["num_hidden_layers"]))
    found = {name: known.get_name(name, try_suffixes=(".weight", ".bias")) for name in names}
    for name, called in found.items():
        if called is None:
            raise QuantizationError(f"{name} has no name in a GGUF file of a {kind} model; take it from the checkpoint")
    return {name: str(called) for name, called in found.items()}


def _may_be_quantized(called: str, shape: tuple[int, ...]) -> bool:
    if len(shape) > 2:
        raise QuantizationError(
            f"{called} has the shape {shape}, and only matrices are encoded: experts are not known here"
        )
    return len(shape) == 2 and called.endswith(".weight") and not called.endswith("_norm.weight")


def _refuse_idle(overrides: Mapping[str, str], matrices: Mapping[str, str]) -> None:
    for pattern in overrides:
        if not any(fnmatchcase(name, pattern) for name in matrices):
            some = ", ".join(list(matrices)[:9])
            raise QuantizationError(f"overrides: {pattern!r} fits no matrix; the first ones are: {some}")


def _model(config: Mapping[str, Any], names: Any, has_importance: bool) -> _Model:
    layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    shared = heads // int(config.get("num_key_value_heads") or heads)
    architecture = ARCHITECTURES[str(config["model_type"])]
    seventy_b = layers == 80 and (architecture == "QWEN2" or (architecture == "LLAMA" and shared > 1))
    return _Model(layers, shared, seventy_b, "output.weight" not in names, has_importance)


def _places(matrices: Mapping[str, str]) -> dict[str, _Place]:
    """Return each matrix's place among its kind, in the order of layers."""
    parts = {name: called.split(".") for name, called in matrices.items()}
    kinds = {name: "attn_v" if part[-2] in VALUES else part[-2] for name, part in parts.items()}
    layers = {name: int(part[1]) if part[0] == "blk" else -1 for name, part in parts.items()}
    counts, seen, places = Counter(kinds.values()), Counter[str](), {}
    for name in sorted(matrices, key=lambda name: (layers[name], matrices[name])):
        places[name] = _Place(kinds[name], seen[kinds[name]], counts[kinds[name]])
        seen[kinds[name]] += 1
    return {name: places[name] for name in matrices}


def _by_rule(place: _Place, columns: int, scheme: str, model: _Model) -> Choice:
    """Return what the scheme has for one matrix, or what stands in for it."""
    usual = SCHEMES[scheme]
    if usual == "F16":
        return _fitting(usual, columns)
    if place.kind == "output" or (model.tied and place.kind == "token_embd"):
        return _of_output(columns, usual)
    if place.kind == "attn_v":
        return _fitting(_of_values(place, scheme, model) or usual, columns)
    if place.kind == "ffn_down":
        return _fitting(_of_down(place.index, scheme, model) or usual, columns)
    if place.kind == "attn_output":
        return _fitting({"q2_k": "Q3_K", "q3_k_m": "Q4_K"}.get(scheme, usual), columns)
    return _fitting(usual, columns)


def _of_output(columns: int, usual: str) -> Choice:
    """Return the head's type; whether blocks of 256 fit, the usual type decides, and Q6_K itself after that."""
    wanted = "Q8_0" if usual == "Q8_0" else "Q6_K"
    if columns % block_of(usual) and wanted != "Q8_0":
        return Choice(_fitting("Q8_0", columns).type, wanted, _why(columns, usual))
    return _fitting(wanted, columns)


def _of_values(place: _Place, scheme: str, model: _Model) -> str | None:
    """Return the type of a matrix that makes values; None for the usual one."""
    found = None
    if scheme == "q2_k":
        found = "Q4_K" if model.shared >= MANY_SHARE else "Q3_K"
    elif scheme == "q3_k_m":
        found = "Q5_K" if place.index < 2 else "Q4_K"
    elif scheme == "iq4_nl" and model.shared >= MANY_SHARE:
        found = "Q5_K"
    elif scheme in ("q4_k_m", "q5_k_m") and more_bits(place.index, place.count):
        found = "Q6_K"
    return "Q5_K" if model.seventy_b and (found or SCHEMES[scheme]) in ("Q3_K", "Q4_K") else found


def _of_down(index: int, scheme: str, model: _Model) -> str | None:
    """Return the type of a down projection; None for the usual one."""
    early, layers = index < model.layers // 8, model.layers
    special = {
        "q2_k": "Q3_K",
        "q3_k_m": "Q5_K" if index < layers // 16 else "Q4_K",
        "q4_k_m": "Q6_K" if more_bits(index, layers) else None,
        "q5_k_m": "Q6_K" if more_bits(index, layers) else None,
        "iq4_nl": "Q5_K" if early and not model.has_importance else None,
        "q4_0": "Q4_1" if early and model.has_importance else None,
    }
    return special.get(scheme)


def more_bits(index: int, count: int) -> bool:
    """Whether a layer is one of those that get more bits: the first eighth, the last one, and every third between."""
    first = count // 8
    return index < first or index >= 7 * count // 8 or (index - first) % 3 == 2


def _fitting(wanted: str, columns: int) -> Choice:
    """Return the wanted type where rows divide into its blocks, else the first that stands in for it, at last F16."""
    if columns % block_of(wanted) == 0:
        return Choice(wanted, wanted, "")
    instead = OTHER_BLOCKS.get(wanted, "F16")
    return Choice(instead if columns % block_of(instead) == 0 else "F16", wanted, _why(columns, wanted))


def _why(columns: int, type_name: str) -> str:
    return f"{columns} columns do not divide into {type_name}'s blocks of {block_of(type_name)}"


def block_of(type_name: str) -> int:
    """Return how many numbers of a row make one block of a ggml type."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return int(GGML_QUANT_SIZES[GGMLQuantizationType[type_name]][0])
