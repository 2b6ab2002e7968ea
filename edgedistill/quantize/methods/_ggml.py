"""What the methods share that store a decoder in ggml's types."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from edgedistill.provenance import versions
from edgedistill.section import MethodOptions

GgmlType = Literal[
    "F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"
]


class GgmlOptions(MethodOptions):
    """Which tensors get another type than the scheme has for them, and what the encoder knows of their inputs."""

    importance: bool = Field(
        True,
        description="Choose scales and codes by the mean square of each column's inputs, over the calibration split.",
    )
    overrides: dict[str, GgmlType] = Field(
        {},
        description="Tensor name in the checkpoint, with * and ?, to the ggml type its matrix gets instead; the first "
        "that fits counts.",
    )
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})


def needs(options: GgmlOptions) -> dict[str, Any]:
    """Return what the result depends on besides the options: the libraries that encode and name."""
    return versions("llama-cpp-python", "gguf")
