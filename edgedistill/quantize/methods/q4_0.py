"""Matrices as 4-bit codes, one scale for each 32 of a row: 4.5 bits a weight.

The oldest of the 4-bit schemes; its blocks divide rows that those of 256 do not.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/quantize/README.md
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _ggml
from edgedistill.quantize.methods._ggml import GgmlOptions

decide, needs, save = _ggml.decide, _ggml.needs, _ggml.save


class Options(GgmlOptions):
    """The scheme's name; types by tensor are those of `quantize/ggml_mixtures.py`."""

    method: Literal["q4_0"]

    SCHEME: ClassVar[str] = "q4_0"
