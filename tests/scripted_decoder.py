"""A decoder whose every token is one byte, and which says what a table says to a user's last words."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.language_model import LanguageModel

END = 256
ASKED, ANSWERED = "\x01", "\x02"  # begin a user's turn and an answer
ANSWERS = {
    "hello": "Good day! 🎬 नमस्ते",
    "sing": "la " * 400,
    "nothing": "",
    "list": "one\ntwo\n",
    "bell": "\x1b[2J\x07ok",
}


class ScriptedDecoder:
    """Keeps the contract of LoadedDecoder as far as a conversation needs it; notes every id that it reads."""

    vocabulary = 257
    threads = 1
    begin = ()
    ends = frozenset({END})

    def __init__(self, context_tokens: int = 2000, *, template: bool = True, step_s: float = 0.0) -> None:
        self.context_tokens, self.template, self.step_s = context_tokens, template, step_s
        self.cache: list[int] = []
        self.read: list[int] = []  # every id that was ever read
        self.longest_part = 0

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        if not self.template:
            raise ModelError("this file has no chat template")
        marks = {"system": "", "user": ASKED, "assistant": ANSWERED}
        return list(("".join(marks[one["role"]] + one["content"] for one in messages) + ANSWERED).encode())

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        if not len(ids) or len(self.cache) + len(ids) > self.context_tokens:
            raise ModelError(f"{len(ids)} tokens cannot be read")
        time.sleep(self.step_s)
        self.cache += ids
        self.read += ids
        self.longest_part = max(self.longest_part, len(ids))
        logits = np.zeros(self.vocabulary, dtype=np.float32)
        logits[self._next()] = 9
        return logits

    def step(self, token: int) -> np.ndarray:
        return self.prefill([token])

    def reset(self) -> None:
        self.cache = []

    def rewind(self, tokens: int) -> bool:
        assert 0 < tokens <= len(self.cache)
        del self.cache[tokens:]
        return True

    def _next(self) -> int:
        before, mark, said = bytes(self.cache).rpartition(ANSWERED.encode())
        asked = before.rpartition(ASKED.encode())[2].decode() if mark else ""
        whole = ANSWERS.get(asked, f"You said {asked}.").encode()
        return whole[len(said)] if len(said) < len(whole) else END


class ForgetfulDecoder(ScriptedDecoder):
    """One whose cache cannot be cut."""

    def rewind(self, tokens: int) -> bool:
        self.reset()
        return False


def scripted(decoder: ScriptedDecoder, *, conversations: bool = True) -> LanguageModel:
    return LanguageModel(decoder, "script.gguf", "llama_cpp", conversations, 4000)  # type: ignore[arg-type]
