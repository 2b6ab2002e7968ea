"""GGUF: one file with weights, tokenizer, chat template and what they are, for llama.cpp and all that is built on it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from edgedistill.section import FormatOptions

RUNTIME = "llama_cpp"


class Options(FormatOptions):
    """A GGUF file for each method, and one of the float student."""

    format: Literal["gguf"]

    STORES: ClassVar[frozenset[str]] = frozenset(
        {
            "float32", "gguf_f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "iq4_nl", "q3_k_m", "q2_k",
        }
    )  # fmt: skip
    EXTRA: ClassVar[str] = "gguf"
    IMPORTS: ClassVar[tuple[str, ...]] = ("gguf", "llama_cpp")
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})


def refuses(config: Mapping[str, Any]) -> list[str]:
    """Return why a model with this config.json cannot be laid out; known before it is trained. Empty if it can."""
    from edgedistill.export.gguf_architecture import refused

    return refused(config)
