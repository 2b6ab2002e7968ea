"""A pre-tokenizer is found by what it does, each by its own, and an unknown one is refused."""

import json
from typing import Any

import pytest
from tiny_gguf import BYTEWISE, write_tokenizer

from edgedistill.errors import ModelError
from edgedistill.export.gguf_pre_tokenizers import KNOWN, pre_tokenizer_of, probes


def written(tmp_path: Any, kind: str) -> dict[str, Any]:
    write_tokenizer(tmp_path, kind)
    tokenizer: dict[str, Any] = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    return tokenizer


@pytest.mark.parametrize("kind", BYTEWISE)
def test_each_is_found_by_what_it_does(tmp_path: Any, kind: str) -> None:
    assert pre_tokenizer_of(written(tmp_path, kind)) == kind


def test_the_same_in_other_words_is_the_same(tmp_path: Any) -> None:
    tokenizer = written(tmp_path, "smollm")
    _, spelled = tokenizer["pre_tokenizer"]["pretokenizers"]
    alone = {"type": "Split", "pattern": {"Regex": r"\p{N}"}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [alone, spelled]}
    assert pre_tokenizer_of(tokenizer) == "smollm"


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        None,
    ],
    ids=["a space in front", "no cuts", "numbers whole", "none"],
)
def test_an_unknown_one_is_refused(tmp_path: Any, changed: Any) -> None:
    with pytest.raises(ModelError, match=r"llama.cpp has no pre-tokenizer known here .*: gpt-2 cuts .* otherwise"):
        pre_tokenizer_of({**written(tmp_path, "smollm"), "pre_tokenizer": changed})


def test_a_lost_digits_step_is_another_one(tmp_path: Any) -> None:
    tokenizer = written(tmp_path, "smollm")
    tokenizer["pre_tokenizer"] = tokenizer["pre_tokenizer"]["pretokenizers"][1]
    assert pre_tokenizer_of(tokenizer) == "gpt-2"


def test_whole_words_decide_between_two_that_cut_alike(tmp_path: Any) -> None:
    tokenizer = written(tmp_path, "llama-bpe")
    tokenizer["model"]["ignore_merges"] = False
    assert pre_tokenizer_of(tokenizer) == "smaug-bpe"


def test_names_and_probes_are_each_there_once() -> None:
    assert len({one.name for one in KNOWN}) == len({(one.expressions, one.whole_words) for one in KNOWN}) == len(KNOWN)
    assert len(set(probes())) == len(probes())
