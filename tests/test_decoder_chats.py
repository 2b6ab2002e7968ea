"""A file and its checkpoint render conversations alike, as far as the template takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_decoders import TEMPLATE, write_tokenizer
from transformers import AutoTokenizer

from edgedistill.errors import StageError
from edgedistill.runtimes._likeness import CHATS, same_chats

REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + TEMPLATE


class Loaded:
    """A runtime that renders with a tokenizer of its own."""

    def __init__(self, tokenizer: Any, extra: Sequence[int] = ()) -> None:
        self.tokenizer, self.extra = tokenizer, extra

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], *self.extra]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids))


class Lost:
    """A runtime whose template engine gives up."""

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        raise ValueError("unknown filter")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    write_tokenizer(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def test_every_conversation_that_the_template_takes_is_compared(tokenizer: Any) -> None:
    assert same_chats(tokenizer, Loaded(tokenizer)) == len(CHATS)
    tokenizer.chat_template = REFUSES
    with_system = sum(chat[0]["role"] == "system" for chat in CHATS)
    assert same_chats(tokenizer, Loaded(tokenizer)) == len(CHATS) - with_system > 0
    with pytest.raises(StageError, match="as other ids than the checkpoint's"):
        same_chats(tokenizer, Loaded(tokenizer, [5]))


def test_a_template_that_nobody_can_render_is_an_error_with_its_cure(tokenizer: Any) -> None:
    with pytest.raises(StageError, match=r"cannot render the checkpoint's chat template \(unknown filter\)"):
        same_chats(tokenizer, Lost())
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(StageError, match=r"takes no conversation \(never\)"):
        same_chats(tokenizer, Loaded(tokenizer))
