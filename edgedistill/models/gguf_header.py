"""Whether a GGUF file can be read safely: every length in its header is checked against the file before it is believed.

gguf's own reader, and that of transformers on top of it, trust what a file says: an array said to hold 2^60 numbers is
appended to a list until memory ends. They are asked only after this.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from edgedistill.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 1 << 16  # tensors, or keys; the largest models have some thousand
MOST_ELEMENTS = 1 << 20  # of one array; the largest vocabularies have a quarter of it, merges half of it
MOST_DIMENSIONS = 4  # ggml's GGML_MAX_DIMS
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
SCALAR_BYTES = {kind: struct.calcsize(f"<{layout}") for kind, layout in SCALARS.items()}
ALIGNMENT = 32
Said: TypeAlias = str | int | float | bool  # one value of the metadata


class _Unsound(Exception):
    """What a file says of itself cannot be."""


class _Cursor:
    """A place in the file; reading moves it on, and never past the end."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, 0

    def skip(self, size_bytes: int) -> None:
        if size_bytes > len(self.content) - self.at:
            raise _Unsound(f"it ends at byte {len(self.content)}, and {size_bytes} more are to follow byte {self.at}")
        self.at += size_bytes

    def scalar(self, layout: str) -> int | float | bool:
        start = self.at
        self.skip(struct.calcsize(f"<{layout}"))
        value: int | float | bool = struct.unpack_from(f"<{layout}", self.content, start)[0]
        return value

    def number(self, layout: str) -> int:
        return int(self.scalar(layout))

    def string(self) -> str:
        size = self.number("Q")
        start = self.at
        self.skip(size)
        try:
            return self.content[start : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise _Unsound(f"the {size} bytes at {start} are no UTF-8 text") from None

    def count(self, what: str, most: int, layout: str = "Q") -> int:
        value = self.number(layout)
        if value > most:
            raise _Unsound(f"it says that it holds {value} {what}, and {most} are the most that is believed")
        return value


def check(file: Path) -> None:
    """Check that a file's header is whole, and that the file holds every tensor that the header lists.

    What a tensor or a text says is not looked at.

    Raises:
        ModelError: the file is no GGUF file, is cut off, or says of itself what cannot be.
    """
    metadata(file)


def metadata(file: Path) -> dict[str, Said]:
    """Return what a file says of itself by key, arrays left out, after the same check.

    Raises:
        ModelError: the file is no GGUF file, is cut off, or says of itself what cannot be.
    """
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _walk(_Cursor(content))
    except (_Unsound, OSError, ValueError) as error:  # the last: an empty file cannot be mapped
        raise ModelError(
            f"{file} is no sound GGUF file: {error}; fetch it again, and compare its sha256 with the source"
        ) from error


def _walk(cursor: _Cursor) -> dict[str, Said]:
    cursor.skip(len(MAGIC))
    found = cursor.content[: len(MAGIC)]
    if found != MAGIC:
        raise _Unsound(f"it starts with {found!r}, and must start with {MAGIC!r}")
    version = cursor.number("I")
    if version not in VERSIONS:
        raise _Unsound(f"its version is {version}, and {' or '.join(map(str, VERSIONS))} is needed, little-endian")
    tensors, keys = cursor.count("tensors", MOST_ENTRIES), cursor.count("metadata keys", MOST_ENTRIES)
    said: dict[str, Said] = {}
    for _ in range(keys):
        key, kind = cursor.string(), cursor.number("I")
        value = _value(cursor, key, kind)
        if value is not None:
            said[key] = value
    alignment = said.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise _Unsound(f"its general.alignment is {alignment}, and must be a power of two")
    ends = max((list(_tensor_ends(cursor, tensors))), default=0)
    data = -(-cursor.at // alignment) * alignment
    if data + ends > len(cursor.content):
        raise _Unsound(f"it ends at byte {len(cursor.content)}, and its tensors need {data + ends}: it is cut off")
    return said


def _value(cursor: _Cursor, key: str, kind: int) -> Said | None:
    """Return a value; None of an array, which is passed over."""
    if kind == STRING:
        return cursor.string()
    if kind in SCALARS:
        return cursor.scalar(SCALARS[kind])
    if kind == ARRAY:
        inner, count = cursor.number("I"), cursor.count(f"elements of {key}", MOST_ELEMENTS)
        if inner == STRING:
            for _ in range(count):
                cursor.string()
        elif inner in SCALAR_BYTES:
            cursor.skip(count * SCALAR_BYTES[inner])
        else:
            raise _Unsound(f"{key} is an array of type {inner}, which is none of an array")
        return None
    raise _Unsound(f"{key} has type {kind}, which is none of GGUF")


def _tensor_ends(cursor: _Cursor, count: int) -> Iterator[int]:
    """Yield where each tensor ends, in bytes after the start of all tensors' data."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    for _ in range(count):
        name = cursor.string()
        dimensions = cursor.count(f"dimensions of {name}", MOST_DIMENSIONS, "I")
        elements = 1
        for _ in range(dimensions):
            elements *= cursor.number("Q")
        kind, offset = cursor.number("I"), cursor.number("Q")
        if kind not in set(GGMLQuantizationType):
            raise _Unsound(f"tensor {name} has type {kind}, which ggml does not know")
        block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        yield offset + elements * block_bytes // block
