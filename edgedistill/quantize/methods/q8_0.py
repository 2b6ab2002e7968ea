"""Matrices as 8-bit codes, one scale for each 32 of a row: 8.5 bits a weight.

Nothing is chosen but the nearest code, so an importance matrix changes nothing.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/quantize/README.md
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _ggml
from edgedistill.quantize.methods._ggml import GgmlOptions

decide, needs, save = _ggml.decide, _ggml.needs, _ggml.save


class Options(GgmlOptions):
    """The scheme's name; types by tensor are those of `quantize/ggml_mixtures.py`."""

    method: Literal["q8_0"]

    SCHEME: ClassVar[str] = "q8_0"
