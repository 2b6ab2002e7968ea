"""Tensors as onnxruntime multiplies them: plain floats, or codes of 4 or 8 bits in blocks of columns.

They are kept under the checkpoint's own names, each matrix with its rows in its order and its codes packed as the
operators MatMulNBits and GatherBlockQuantized read them; which of them stand together in one node is export's matter.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.errors import ModelError

FLOAT = "F32"
BITS = {"INT4": 4, "INT8": 8}
PARTS = ("scales", "zero_points")


@dataclass(frozen=True)
class BlockTensor:
    """One tensor: weight[r, c] is (code - zero point) * scale of its block."""

    type: str  # F32, or INT4_<columns of a block>, INT8_<columns of a block>
    shape: tuple[int, ...]  # of its numbers, as PyTorch says it: (rows, columns) of a matrix
    data: np.ndarray  # float32 of that shape; or (rows, columns * bits / 8) uint8, the first code in the low bits
    scales: np.ndarray | None = None  # (rows, blocks) float32
    zero_points: np.ndarray | None = None  # (rows, blocks * bits / 8, rounded up) uint8; None: all in the middle

    def __post_init__(self) -> None:
        wanted = self.shape if self.type == FLOAT else (self.shape[0], self.shape[1] * self.bits // 8)
        if self.data.shape != wanted or self.data.dtype != (np.float32 if self.type == FLOAT else np.uint8):
            raise ModelError(
                f"{self.type} of shape {self.shape} is not stored as {self.data.dtype} of shape {self.data.shape}"
            )

    @property
    def bits(self) -> int:
        """Of a code; 32 of floats."""
        return BITS.get(self.type.partition("_")[0], 32)

    @property
    def block_size(self) -> int:
        """Columns that share a scale; 0 of floats."""
        return int(self.type.partition("_")[2] or 0)

    @property
    def stored_bytes(self) -> int:
        """Bytes of codes, scales and zero points, or of the floats."""
        return sum(part.nbytes for part in (self.data, self.scales, self.zero_points) if part is not None)

    def floats(self) -> np.ndarray:
        """Return the numbers that codes and scales stand for, float32 of `shape`."""
        if self.type == FLOAT or self.scales is None:
            return self.data
        blocks = self.scales.shape[1]
        middle = np.full(self.scales.shape, 1 << (self.bits - 1), dtype=np.uint8)
        zeros = middle if self.zero_points is None else _unpacked(self.zero_points, self.bits)[:, :blocks]
        codes = _unpacked(self.data, self.bits).reshape(len(self.data), blocks, self.block_size)
        centred = codes.astype(np.float32) - zeros[:, :, None]
        return np.asarray(centred * self.scales[:, :, None]).reshape(self.shape)


def _unpacked(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes, (rows, count) uint8, of bytes, (rows, count * bits / 8)."""
    if bits == 8:
        return codes
    return np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)


def save(tensors: Mapping[str, BlockTensor], file: Path) -> None:
    """Write tensors to a safetensors file; its metadata holds type and shape of each."""
    from safetensors.numpy import save_file

    said = {name: f"{one.type} {' '.join(map(str, one.shape))}" for name, one in tensors.items()}
    arrays = {name: one.data for name, one in tensors.items()}
    for part in PARTS:
        arrays |= {
            f"{name}.{part}": getattr(one, part) for name, one in tensors.items() if getattr(one, part) is not None
        }
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, file, metadata=said)


def load(file: Path) -> dict[str, BlockTensor]:
    """Return the tensors of a file that `save` wrote."""
    from safetensors import safe_open

    found: dict[str, BlockTensor] = {}
    with safe_open(file, framework="numpy") as opened:
        keys = set(opened.keys())
        for name, said in (opened.metadata() or {}).items():
            type_name, *shape = said.split()
            parts = {part: opened.get_tensor(f"{name}.{part}") for part in PARTS if f"{name}.{part}" in keys}
            found[name] = BlockTensor(type_name, tuple(map(int, shape)), opened.get_tensor(name), **parts)
    return found
