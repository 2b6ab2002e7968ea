"""What the methods share that store a decoder in blocks of columns, for onnxruntime."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.quantize.methods._gate import DecoderGate
from edgedistill.section import MethodOptions

if TYPE_CHECKING:
    import numpy as np

    from edgedistill.decoder_values import TensorFacts
    from edgedistill.models.block_tensors import BlockTensor
    from edgedistill.quantize.importance import Importance

BlockWidth = Literal["int4", "int8", "float32"]


class BlockOptions(MethodOptions):
    """How many columns share a scale, whether a block has a zero point of its own, which matrices get another width."""

    group_size: Literal[16, 32, 64, 128, 256] = Field(
        32,
        examples=[128],
        description="Columns that share a scale; fewer are more exact, and each scale takes 4 bytes. A matrix whose "
        "columns do not divide gets the largest that they divide into, and the report names it.",
    )
    importance: bool = Field(
        True,
        description="Search for the scales of linear layers by the mean square of each column's inputs, over the "
        "calibration split; a range may then leave out the farthest weights. Else each range holds all of its weights.",
    )
    symmetric: bool = Field(False, description="Codes around a fixed zero point; else each block has its own.")
    overrides: dict[str, BlockWidth] = Field(
        {},
        examples=[{"model.embed_tokens.weight": "int8"}],
        description="Tensor name in the checkpoint, with * and ?, to the width its matrix gets instead; the first that "
        "fits counts. A table that is the head too has one width for both.",
    )
    gate: DecoderGate | None = Field(
        DecoderGate(), description="How close to its float student the model must stay; null: anything."
    )
    repair: bool = Field(True, description="Where the gate is missed, store groups of tensors as 8 bits, one by one.")
    TASKS: ClassVar[frozenset[str]] = frozenset({"text_generation"})
    WIDE: ClassVar[BlockWidth] = "int8"  # what a group of tensors gets where the gate is missed
    WIDTH: ClassVar[BlockWidth] = "int4"

    @property
    def reads_importance(self) -> bool:
        """Whether scales are searched for by it."""
        return self.importance


def decide(
    options: BlockOptions, model: Any, checkpoint_config: Mapping[str, Any], importance: "Importance | None"
) -> "tuple[dict[str, BlockTensor], tuple[TensorFacts, ...], Mapping[str, np.ndarray] | None]":
    """Return every tensor as it is stored, what is to be said of each, and the importance matrix that was used.

    Args:
        model: float, in evaluation mode; left as it is.
        checkpoint_config: not read.
        importance: of its weights, where the options read it, see `reads_importance`.

    Raises:
        QuantizationError: a tensor cannot be stored so.
    """
    from edgedistill.quantize.block_stage import block_weights

    return block_weights(options, model, importance)


def save(tensors: "Mapping[str, BlockTensor]", file: Path) -> None:
    """Write what was decided."""
    from edgedistill.models import block_tensors

    block_tensors.save(tensors, file)


def needs(options: BlockOptions) -> dict[str, Any]:
    """Return what the result depends on besides the options: nothing."""
    return {}
