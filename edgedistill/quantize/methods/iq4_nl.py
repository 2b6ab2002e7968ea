"""Matrices as 4-bit codes for 16 unevenly spaced numbers, one scale for each 32 of a row: 4.5 bits a weight.

Nearer to the weights than q4_0 in as many bytes; its blocks divide rows that those of 256 do not.

Source: https://github.com/ggml-org/llama.cpp/pull/5590
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _ggml
from edgedistill.quantize.methods._ggml import GgmlOptions

decide, needs, save = _ggml.decide, _ggml.needs, _ggml.save


class Options(GgmlOptions):
    """The scheme's name; types by tensor are those of `quantize/ggml_mixtures.py`."""

    method: Literal["iq4_nl"]

    SCHEME: ClassVar[str] = "iq4_nl"
