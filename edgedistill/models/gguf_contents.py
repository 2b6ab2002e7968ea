"""What a GGUF file holds: how many numbers, in how many bytes, and what most of them are stored as."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgedistill.models import gguf_header

FILE_TYPE = "general.file_type"


@dataclass(frozen=True)
class Contents:
    """The weights of a GGUF file, counted; none of them is read."""

    parameters: int
    weights_bytes: int  # of the tensors, as they are stored
    scheme: str  # in llama.cpp's words, such as Q4_K_M


def contents(file: Path) -> Contents:
    """Return what a file holds.

    Raises:
        ModelError: the file is no GGUF file, is cut off, or says of itself what cannot be.
    """
    from gguf import GGUFReader

    said = gguf_header.metadata(file).get(FILE_TYPE)
    tensors = GGUFReader(file).tensors
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    return Contents(
        parameters=sum(sizes.values()),
        weights_bytes=sum(int(tensor.n_bytes) for tensor in tensors),
        scheme=_named(said) or max(sizes, key=sizes.__getitem__, default="none"),
    )


def _named(file_type: object) -> str:
    """Return llama.cpp's word for a file's mixture of types; empty where it has none, or the file does not say."""
    from gguf import LlamaFileType

    known = {int(kind): kind.name for kind in LlamaFileType}
    word = known.get(file_type, "") if isinstance(file_type, int) else ""
    return word.removeprefix("MOSTLY_").removeprefix("ALL_") if word != "GUESSED" else ""
