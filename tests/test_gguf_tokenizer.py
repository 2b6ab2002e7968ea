"""What a file says of a tokenizer: types, special tokens, what is added; and what it cannot say is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType
from tiny_decoders import SPECIAL, TEMPLATE, VOCAB
from tiny_gguf import TEXT_VOCAB, change_tokenizer, write_tokenizer

from edgedistill.errors import ModelError
from edgedistill.export.gguf_tokenizer import read_vocabulary

Change = Callable[[dict[str, Any]], None]
ADDED = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": False}


@pytest.fixture
def smollm(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path, "smollm")
    return tmp_path


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path, "gemma")
    return tmp_path


def test_tokens_have_their_types(smollm: Path) -> None:
    def add(tokenizer: dict[str, Any]) -> None:
        for i, content in enumerate(("<think>", "<|odd|>", "<|im_pad|>")):
            tokenizer["added_tokens"].append({"id": VOCAB + i, "content": content, **ADDED})
        tokenizer["added_tokens"][-1]["special"] = True

    change_tokenizer(smollm, add)
    read = read_vocabulary(smollm, VOCAB + 5)
    assert read.model == "gpt2"
    assert read.types[:3] == (TokenType.CONTROL,) * 3
    assert set(read.types[3:VOCAB]) == {TokenType.NORMAL}
    assert read.types[VOCAB:] == (
        TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.CONTROL, TokenType.UNUSED, TokenType.UNUSED
    )  # fmt: skip
    assert read.tokens[VOCAB:] == ("<think>", "<|odd|>", "<|im_pad|>", f"[PAD{VOCAB + 3}]", f"[PAD{VOCAB + 4}]")
    assert read.scores is None
    assert read.merges


def test_text_has_bytes_unknown_and_scores(gemma: Path) -> None:
    def add(tokenizer: dict[str, Any]) -> None:
        tokenizer["added_tokens"].append({"id": TEXT_VOCAB, "content": "▁▁\n", **ADDED})

    change_tokenizer(gemma, add)
    read = read_vocabulary(gemma, TEXT_VOCAB + 1)
    assert (read.model, read.pre, read.merges, read.adds_space) == ("llama", "default", None, False)
    assert read.types[3] == TokenType.UNKNOWN
    assert set(read.types[4:260]) == {TokenType.BYTE}
    assert read.types[TEXT_VOCAB] == TokenType.USER_DEFINED
    assert read.tokens[TEXT_VOCAB] == "  \n"
    assert read.scores is not None
    made = [score for token, score in zip(read.tokens, read.scores, strict=True) if score > -1e4 and len(token) > 1]
    assert made == sorted(made, reverse=True)  # earlier merges first, and ids are in their order
    assert len(set(made)) == len(made) > 20


def test_special_tokens_template_and_what_is_added(smollm: Path) -> None:
    read = read_vocabulary(smollm, VOCAB)
    assert read.special == {"bos": 1, "eos": 2, "unk": 0, "pad": 0}
    assert (read.adds_bos, read.adds_eos, read.chat_template) == (False, False, TEMPLATE)
    template = [{"SpecialToken": {"id": SPECIAL[1], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {SPECIAL[1]: {"id": SPECIAL[1], "ids": [1], "tokens": [SPECIAL[1]]}}

    def begin(tokenizer: dict[str, Any]) -> None:
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": tokens
        }  # fmt: skip

    change_tokenizer(smollm, begin)
    assert read_vocabulary(smollm, VOCAB).adds_bos
    tokens[SPECIAL[1]]["ids"] = [0]
    change_tokenizer(smollm, begin)
    with pytest.raises(ModelError, match="adds to a text more than bos"):
        read_vocabulary(smollm, VOCAB)


def test_the_end_of_a_turn_is_what_generation_and_template_name(smollm: Path) -> None:
    settings = smollm / "tokenizer_config.json"
    said = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**said, "eos_token": SPECIAL[0]}), encoding="utf-8")
    assert "eot" not in read_vocabulary(smollm, VOCAB).special
    (smollm / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 5, 2]}), encoding="utf-8")
    read = read_vocabulary(smollm, VOCAB)
    assert (read.special["eos"], read.special["eot"]) == (0, 2)


def test_without_bos_eos_stands_for_it_and_without_eos_there_is_no_file(smollm: Path) -> None:
    settings = smollm / "tokenizer_config.json"
    said = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({key: one for key, one in said.items() if key != "bos_token"}), encoding="utf-8")
    assert read_vocabulary(smollm, VOCAB).special["bos"] == 2
    settings.write_text(json.dumps({key: one for key, one in said.items() if key != "eos_token"}), encoding="utf-8")
    with pytest.raises(ModelError, match="names no eos_token"):
        read_vocabulary(smollm, VOCAB)


def no_merges(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["merges"] = []


def strips(tokenizer: dict[str, Any]) -> None:
    tokenizer["added_tokens"][0]["lstrip"] = True


def lowers(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = {"type": "Lowercase"}


def no_bytes(tokenizer: dict[str, Any]) -> None:
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}


def words(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["type"] = "WordPiece"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (no_merges, "has no merges"),
        (strips, "takes spaces around it along"),
        (lowers, "changes texts by Lowercase"),
        (no_bytes, "neither of bytes nor with bytes"),
        (words, "is of kind WordPiece"),
    ],
)
def test_bytewise_ones_that_cannot_be_said_are_refused(smollm: Path, change: Change, said: str) -> None:
    read_vocabulary(smollm, VOCAB)
    change_tokenizer(smollm, change)
    with pytest.raises(ModelError, match=said):
        read_vocabulary(smollm, VOCAB)


def apart(tokenizer: dict[str, Any]) -> None:
    merges = tokenizer["model"]["merges"]
    made = ["".join(pair) for pair in merges]
    twice = next(i for i in range(len(made) - 1) if made[i] == made[i + 1])
    merges.append(merges.pop(twice))


def lost(tokenizer: dict[str, Any]) -> None:
    merges = tokenizer["model"]["merges"]
    made = ["".join(pair) for pair in merges]
    merges.pop(next(i for i in range(len(made) - 1) if made[i] == made[i + 1]))


def first_only(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = None
    tokenizer["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [(apart, "apart from each other"), (lost, "does not merge"), (first_only, "treats spaces as llama.cpp does not")],
)
def test_textual_ones_that_cannot_be_said_are_refused(gemma: Path, change: Change, said: str) -> None:
    read_vocabulary(gemma, TEXT_VOCAB)
    change_tokenizer(gemma, change)
    with pytest.raises(ModelError, match=said):
        read_vocabulary(gemma, TEXT_VOCAB)


def test_without_a_tokenizer_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer.json cannot be read"):
        read_vocabulary(tmp_path, VOCAB)
