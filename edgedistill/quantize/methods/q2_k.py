"""Matrices as 2-bit codes in blocks of 256, those that suffer most as 3-bit ones: about 3.2 bits a weight.

Little is left of small models; measure before it is shipped.

Source: https://github.com/ggml-org/llama.cpp/pull/1684
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _ggml
from edgedistill.quantize.methods._ggml import GgmlOptions

decide, needs, save = _ggml.decide, _ggml.needs, _ggml.save


class Options(GgmlOptions):
    """The scheme's name; types by tensor are those of `quantize/ggml_mixtures.py`."""

    method: Literal["q2_k"]

    SCHEME: ClassVar[str] = "q2_k"
