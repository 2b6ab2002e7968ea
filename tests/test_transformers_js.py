"""Each file is found by transformers.js: its rules, written down once more, lead to the very file.

And no tokenizer has a rule left that JavaScript would read otherwise than tokenizers does.
"""

import json
import re
import sys
from pathlib import PurePosixPath
from typing import Any

import pytest
from finished_build import Finished
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import PreTokenizer, Sequence, Whitespace, WhitespaceSplit

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


def written(pre_tokenizer: PreTokenizer) -> Any:
    """Return what tokenizer.json says of it."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizer
    return json.loads(tokenizer.to_str())["pre_tokenizer"]


def loaded(said: Any) -> PreTokenizer:
    """Return the pre-tokenizer that tokenizer.json says."""
    whole = json.loads(Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).to_str())
    return Tokenizer.from_str(json.dumps({**whole, "pre_tokenizer": said})).pre_tokenizer


def test_every_character_splits_a_text_as_before() -> None:
    before, after = Whitespace(), loaded(transformers_js.read_alike(written(Whitespace())))
    surrogates = range(0xD800, 0xE000)
    characters = [chr(code) for code in range(sys.maxunicode + 1) if code not in surrogates]
    for start in range(0, len(characters), 4096):
        text = " ".join(f"a{one}b .{one}." for one in characters[start : start + 4096])
        assert after.pre_tokenize_str(text) == before.pre_tokenize_str(text), hex(ord(characters[start]))


@pytest.mark.parametrize("rule", [Whitespace(), Sequence([WhitespaceSplit(), Whitespace()])], ids=["alone", "sequence"])
def test_no_rule_is_left_that_javascript_reads_as_ascii(rule: PreTokenizer) -> None:
    said = json.dumps(transformers_js.read_alike(written(rule)))
    assert '"Whitespace"' not in said
    assert not re.search(r"\\\\[wsdb]", said), "these mean other characters there"


def test_other_rules_stay() -> None:
    for said in (None, written(WhitespaceSplit()), written(Sequence([WhitespaceSplit()]))):
        assert transformers_js.read_alike(said) == said


def test_an_artifact_has_no_such_rule(finished: Finished) -> None:
    teacher = finished.value("teacher")
    before, after = (
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["pre_tokenizer"]
        for folder in (teacher.path(teacher.checkpoint), finished.artifact)
    )
    assert before == {"type": "Whitespace"}
    assert after == transformers_js.read_alike(before) != before
