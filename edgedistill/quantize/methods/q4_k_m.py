"""Matrices as 4-bit codes in blocks of 256, some that suffer most as 6-bit ones: about 4.9 bits a weight.

What llama.cpp's `-hf` downloads where nothing else is asked for.

Source: https://github.com/ggml-org/llama.cpp/pull/1684
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _ggml
from edgedistill.quantize.methods._ggml import GgmlOptions

decide, needs, save = _ggml.decide, _ggml.needs, _ggml.save


class Options(GgmlOptions):
    """The scheme's name; types by tensor are those of `quantize/ggml_mixtures.py`."""

    method: Literal["q4_k_m"]

    SCHEME: ClassVar[str] = "q4_k_m"
