"""What the methods share that store a decoder in ggml's types."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.provenance import versions
from edgedistill.quantize.methods._gate import DecoderGate
from edgedistill.section import MethodOptions

if TYPE_CHECKING:
    import numpy as np

    from edgedistill.decoder_values import TensorFacts
    from edgedistill.models.ggml_tensors import GgmlTensor
    from edgedistill.quantize.importance import Importance

GgmlType = Literal[
    "F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"
]


UNWEIGHTED = ("gguf_f16", "q8_0")  # schemes without a choice


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
    gate: DecoderGate | None = Field(
        DecoderGate(), description="How close to its float student the model must stay; null: anything."
    )
    repair: bool = Field(True, description="Where the gate is missed, store groups of tensors as 8 bits, one by one.")
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})
    WIDE: ClassVar[GgmlType] = "Q8_0"  # what a group of tensors gets where the gate is missed
    SCHEME: ClassVar[str]

    @property
    def reads_importance(self) -> bool:
        """Whether an encoder may choose by it: some types have nothing to choose."""
        return self.importance and (self.SCHEME not in UNWEIGHTED or bool(self.overrides))


def decide(
    options: GgmlOptions, model: Any, checkpoint_config: Mapping[str, Any], importance: "Importance | None"
) -> "tuple[dict[str, GgmlTensor], tuple[TensorFacts, ...], Mapping[str, np.ndarray] | None]":
    """Return every tensor as it is stored, what is to be said of each, and the importance matrix that was used.

    Args:
        model: float, in evaluation mode; left as it is.
        checkpoint_config: its config.json.
        importance: of its weights, where the options read it, see `reads_importance`.

    Raises:
        QuantizationError: a tensor cannot be stored so, or an extra is not installed.
    """
    from edgedistill.quantize.ggml_stage import ggml_weights

    return ggml_weights(options, model, checkpoint_config, importance)


def save(tensors: "Mapping[str, GgmlTensor]", file: Path) -> None:
    """Write what was decided."""
    from edgedistill.models import ggml_tensors

    ggml_tensors.save(tensors, file)


def needs(options: GgmlOptions) -> dict[str, Any]:
    """Return what the result depends on besides the options: the libraries that encode and name."""
    return versions("llama-cpp-python", "gguf")
