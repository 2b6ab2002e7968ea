"""What a contract cannot know of a runtime of language models: how its file is written, what its cache takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_decoders import write_gguf

NEEDS = {"llama_cpp": "llama_cpp", "onnxruntime_genai": "onnxruntime_genai"}  # a runtime that another package brings


def _gguf(root: Path) -> str:
    return str(write_gguf(root, root / "model.gguf").relative_to(root))


def _genai(root: Path) -> str:
    from edgedistill.export.genai_builder import build

    return str(build(root, root / "genai").relative_to(root))


MADE: dict[str, Callable[[Path], str]] = {
    "llama_cpp": _gguf,
    "onnxruntime_genai": _genai,
    "pytorch_decoder": lambda root: "",
}
"""How to write a runtime's file beside a tiny checkpoint; returns its name."""


def _state_bytes(decoder: Any) -> int:
    """Return what llama.cpp needs to keep a row's cache elsewhere."""
    return int(decoder._lib.llama_state_seq_get_size(decoder._context, 0))


def _tensor_bytes(decoder: Any) -> int:
    return sum(part.nbytes for layer in decoder._cache.layers for part in (layer.keys, layer.values))


def _filled_bytes(decoder: Any) -> int:
    """Return the share of the allocated cache that is filled."""
    whole = sum(
        decoder._generator.get_output(f"present.{layer}.{part}").nbytes
        for layer in range(decoder._shape["num_hidden_layers"])
        for part in ("key", "value")
    )
    return int(whole * decoder._generator.token_count() // decoder.context_tokens)


CACHED: dict[str, Callable[[Any], int]] = {
    "llama_cpp": _state_bytes,
    "onnxruntime_genai": _filled_bytes,
    "pytorch_decoder": _tensor_bytes,
}
"""How to tell what a runtime's cache takes, as its library itself says it."""
