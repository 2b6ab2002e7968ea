"""Matrices as 5-bit codes in blocks of 256, some that suffer most as 6-bit ones: about 5.7 bits a weight.

Source: https://github.com/ggml-org/llama.cpp/pull/1684
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _ggml
from edgedistill.quantize.methods._ggml import GgmlOptions

decide, needs, save = _ggml.decide, _ggml.needs, _ggml.save


class Options(GgmlOptions):
    """The scheme's name; types by tensor are those of `quantize/ggml_mixtures.py`."""

    method: Literal["q5_k_m"]

    SCHEME: ClassVar[str] = "q5_k_m"
