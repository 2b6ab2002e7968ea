r"""How transformers.js reads an artifact: which model file, and a tokenizer that it would read in its own way.

A model file is found by a word for its numbers, or by its name: `onnx/<name><suffix>.onnx`, where `model_file_name` is
the name and `dtype` decides the suffix; without a dtype, the one of `transformers.js_config` in config.json, that of
the device first.

The pre-tokenizer `Whitespace` is written there with `\w`, which to JavaScript is the letters of ASCII alone: it reads
`café` as two words, and tokenizers reads one.

Source: https://github.com/huggingface/transformers.js, src/utils/dtypes.js and src/models/session.js, read at 4.3;
@huggingface/tokenizers 0.2 from npm, WhitespacePreTokenizer; https://docs.rs/regex (Unicode: what is `\w` and `\s`).
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

DTYPES = {"": "fp32", "_fp16": "fp16", "_quantized": "q8", "_int8": "int8", "_uint8": "uint8", "_q4": "q4"}

_LETTER = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}"
_WHITESPACE = {
    "type": "Split",
    "pattern": {"Regex": rf"[{_LETTER}]+|[^{_LETTER}\p{{White_Space}}]+"},
    "behavior": "Removed",
    "invert": True,
}
"""What `Whitespace` does, in words that mean the same to tokenizers and to JavaScript."""


def options_for(file: PurePath) -> dict[str, str]:
    """Return the options with which `from_pretrained` and `pipeline` load this file; some names are no dtype."""
    suffix = file.stem.removeprefix("model")
    return {"dtype": DTYPES[suffix]} if suffix in DTYPES else {"model_file_name": file.stem, "dtype": "fp32"}


def settings(files: Sequence[PurePath]) -> dict[str, Any]:
    """Return what config.json says beside the checkpoint's own words: which file is loaded where an app names none.

    That is the first one of smaller numbers. WebGPU has no kernels for 8-bit codes, so there it stays the float one,
    which is transformers.js' own choice.

    Args:
        files: of all variants, the float one first.
    """
    words = [options["dtype"] for options in map(options_for, files) if "model_file_name" not in options]
    chosen = next((word for word in words if word != "fp32"), "fp32")
    return {"transformers.js_config": {"dtype": chosen, "device_config": {"webgpu": {"dtype": "fp32"}}}}


def read_alike(pre_tokenizer: Any) -> Any:
    """Return a tokenizer.json's pre-tokenizer in words that Python and JavaScript read alike.

    It splits every text as before: only `Whitespace` is replaced, by the same rule with its letters written out.
    """
    if not isinstance(pre_tokenizer, dict):
        return pre_tokenizer
    if pre_tokenizer.get("type") == "Whitespace":
        return _WHITESPACE
    if pre_tokenizer.get("type") == "Sequence":
        return {**pre_tokenizer, "pretokenizers": [read_alike(each) for each in pre_tokenizer["pretokenizers"]]}
    return pre_tokenizer
