"""Matrices in half precision, all else float32: what the other schemes of a GGUF file are measured against.

A name of its own, since float16 is the scheme of ONNX files.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/quantize/README.md
"""

from typing import ClassVar, Literal

from edgedistill.quantize.methods import _ggml
from edgedistill.quantize.methods._ggml import GgmlOptions

decide, needs, save = _ggml.decide, _ggml.needs, _ggml.save


class Options(GgmlOptions):
    """The scheme's name; types by tensor are those of `quantize/ggml_mixtures.py`."""

    method: Literal["gguf_f16"]

    SCHEME: ClassVar[str] = "gguf_f16"
