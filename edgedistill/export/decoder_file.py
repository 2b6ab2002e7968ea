"""What a decoder's file says of itself, beside its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT_STUDENT = "float32"


@dataclass(frozen=True)
class Described:
    """A model that is to be laid out as one file, or as one folder."""

    name: str  # the recipe's
    version: str  # as the recipe has it, such as 1.0
    licence: str  # SPDX
    method: str  # float32, f16, or the quantization method
    parameters: int
    facts: Mapping[str, str]  # our provenance; written as edgedistill.<key>
    importance: Mapping[str, str] | None = None  # what an importance matrix was computed on
