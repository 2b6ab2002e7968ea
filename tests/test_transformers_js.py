"""Each file is found by transformers.js: its rules, written down once more, lead to the very file."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from edgedistill.export import transformers_js
from edgedistill.export.formats import onnx as layout

SUFFIXES = {  # DEFAULT_DTYPE_SUFFIX_MAPPING of transformers.js 4.3
    "fp32": "", "fp16": "_fp16", "int8": "_int8", "uint8": "_uint8", "q8": "_quantized", "q4": "_q4", "q2": "_q2",
    "q1": "_q1", "q4f16": "_q4f16", "q2f16": "_q2f16", "q1f16": "_q1f16", "bnb4": "_bnb4",
}  # fmt: skip
FILES = [layout.file_for(scheme) for scheme in layout.SUFFIXES]


def found(config: dict[str, Any], device: str, model_file_name: str = "model", dtype: str | None = None) -> str:
    """Return the file that transformers.js loads, as its getSession finds it."""
    own = config["transformers.js_config"]
    own = own | own.get("device_config", {}).get(device, {})
    word = dtype or own.get("dtype") or {"wasm": "q8"}.get(device, "fp32")
    return f"onnx/{model_file_name}{SUFFIXES[word]}.onnx"


@pytest.mark.parametrize("file", FILES, ids=str)
@pytest.mark.parametrize("device", ["cpu", "wasm", "webgpu"])
def test_the_options_for_a_file_lead_to_it(file: PurePosixPath, device: str) -> None:
    options = transformers_js.options_for(file)
    assert found(transformers_js.settings(FILES), device, **options) == str(file)


@pytest.mark.parametrize(
    ("schemes", "dtype"),
    [
        (("float32",), "fp32"),
        (("float32", "int8_dynamic"), "q8"),
        (("float32", "int4", "int8_dynamic"), "q4"),
        (("float32", "mixed"), "fp32"),
        (("float32", "mixed", "uint8_dynamic", "float16"), "uint8"),
    ],
)
def test_where_nothing_is_named_a_file_is_taken_that_is_there(schemes: tuple[str, ...], dtype: str) -> None:
    files = [layout.file_for(scheme) for scheme in schemes]
    config = transformers_js.settings(files)
    assert config["transformers.js_config"]["dtype"] == dtype
    for device in ("cpu", "wasm", "webgpu"):
        assert PurePosixPath(found(config, device)) in files
    assert found(config, "webgpu") == "onnx/model.onnx"


def test_without_the_settings_a_browser_would_look_for_a_file_that_is_not_there() -> None:
    files = [layout.file_for(scheme) for scheme in ("float32", "int4")]
    assert PurePosixPath(found({"transformers.js_config": {}}, "wasm")) not in files
    assert PurePosixPath(found(transformers_js.settings(files), "wasm")) in files


def test_words_of_dtypes_are_those_of_transformers_js() -> None:
    assert {word: suffix for suffix, word in transformers_js.DTYPES.items()}.items() <= SUFFIXES.items()
