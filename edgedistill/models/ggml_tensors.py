"""Tensors as a GGUF file stores them: plain floats, or blocks of codes and scales that ggml packs into bytes.

They are kept under the checkpoint's own names and in its own order of rows; how GGUF calls them, and how it turns
the rows of an attention, is a matter of layout and belongs to export.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.errors import ModelError

FLOATS: dict[str, Any] = {"F32": np.float32, "F16": np.float16}


@dataclass(frozen=True)
class GgmlTensor:
    """One tensor."""

    type: str  # in ggml's words: F32, F16, Q8_0, Q4_K, ...
    shape: tuple[int, ...]  # of its numbers, as PyTorch says it: (rows, columns) of a matrix
    data: np.ndarray  # floats of that shape; or (rows, bytes of one row) uint8, blocks one after another

    def __post_init__(self) -> None:
        wanted = self.shape if self.type in FLOATS else (self.shape[0], row_bytes(self.type, self.shape[1]))
        if self.data.shape != wanted or self.data.dtype != FLOATS.get(self.type, np.uint8):
            raise ModelError(
                f"{self.type} of shape {self.shape} is not stored as {self.data.dtype} of shape {self.data.shape}"
            )

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over numbers; scales count."""
        return 8 * self.data.nbytes / float(np.prod(self.shape))

    @property
    def stored_bytes(self) -> int:
        """Bytes of the blocks, or of the floats."""
        return self.data.nbytes

    def floats(self) -> np.ndarray:
        """Return the numbers that the file stands for, float32 of `shape`."""
        if self.type in FLOATS:
            return self.data.astype(np.float32)
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        made: np.ndarray = dequantize(self.data, GGMLQuantizationType[self.type])
        return made.reshape(self.shape)


def row_bytes(type_name: str, columns: int) -> int:
    """Return the bytes of one row of blocks.

    Raises:
        ModelError: the columns do not divide into blocks.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
    if columns % block:
        raise ModelError(f"{columns} columns do not divide into {type_name}'s blocks of {block}")
    return columns // block * size


def save(tensors: Mapping[str, GgmlTensor], file: Path) -> None:
    """Write tensors to a safetensors file; its metadata holds what bytes do not say, type and shape."""
    from safetensors.numpy import save_file

    said = {name: f"{one.type} {' '.join(map(str, one.shape))}" for name, one in tensors.items()}
    save_file({name: np.ascontiguousarray(one.data) for name, one in tensors.items()}, file, metadata=said)


def load(file: Path) -> dict[str, GgmlTensor]:
    """Return the tensors of a file that `save` wrote."""
    from safetensors import safe_open

    found: dict[str, GgmlTensor] = {}
    with safe_open(file, framework="numpy") as opened:
        for name, said in (opened.metadata() or {}).items():
            type_name, *shape = said.split()
            found[name] = GgmlTensor(type_name, tuple(map(int, shape)), opened.get_tensor(name))
    return found
