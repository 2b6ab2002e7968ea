"""LoadedDecoder: what every runtime of language models gives back, and all that may be asked of one.

A decoder reads token ids and gives, at each, the logits of the token after it. What it has read since the last `reset`
lies in its KV cache, so that a further token costs one token's work (decode) and not that of all before it (prefill).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from edgedistill.errors import ModelError

HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # stands where bytes are no whole character, or not yet


class LoadedDecoder(Protocol):
    """A language model in memory, ready to read."""

    vocabulary: int  # logits at each token; the tokenizer may know fewer ids
    context_tokens: int  # most tokens that fit into the cache

    @property
    def threads(self) -> int:
        """Threads that the library itself says it runs with."""

    @property
    def begin(self) -> tuple[int, ...]:
        """Ids that the tokenizer puts before a document; often none."""

    @property
    def ends(self) -> frozenset[int]:
        """Ids after which there is nothing to say."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Return the ids of a text; nothing is put before or after them.

        Args:
            text: any.
            special: read the name of a special token, such as <|im_end|>, as that token. What a user has written is
                to be read without, or it could end the user's own turn.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, names of special tokens included; bytes that are no character become U+FFFD."""

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Return the logits after each id of a row, (tokens, vocabulary) float32, in one prefill of an empty cache.

        The cache is empty afterwards.
        """

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Read ids after all that was read since `reset`; return the logits after the last one, (vocabulary,)."""

    def step(self, token: int) -> np.ndarray:
        """Read one id more, and return the logits after it, (vocabulary,) float32."""

    def reset(self) -> None:
        """Forget all that was read."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation up to where the assistant is to speak.

        Args:
            messages: each with role and content; the chat template of the model's own files puts them together.
        """

    def kv_cache_bytes(self, tokens: int) -> int:
        """Return the bytes that keys and values of so many tokens take."""


@runtime_checkable
class Rewinding(Protocol):
    """What a decoder offers besides, if its cache can be cut: an answer to a changed prompt reads only what changed."""

    def rewind(self, tokens: int) -> bool:
        """Keep the first `tokens` of what was read, and forget the rest.

        Args:
            tokens: 1 or more, and at most as many as were read since `reset`.

        Returns:
            False where this cache cannot be cut there, as windows that slide cannot; everything is forgotten then.
        """


class TextStream:
    """Ids in, one after another; text out, as soon as its characters are whole.

    A character can take several tokens, and a token's text can depend on the one before. So a few ids are decoded
    together, and of their text only what is new is given out; the ids before a whole character are let go.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], after: Sequence[int] = ()) -> None:
        self._decode = decode
        self._shown = list(after)  # ids whose text is out; context for what follows
        self._held: list[int] = []  # ids whose text is not

    def push(self, token: int) -> str:
        """Return the text that `token` completes; empty while a character is not whole."""
        self._held.append(token)
        text = self._new()
        if not text or text.endswith(HALF_CHARACTER):
            return ""
        self._shown, self._held = self._held, []
        return text

    def end(self) -> str:
        """Return what is still held back, as it is; the stream is then as new."""
        text = self._new()
        self._shown, self._held = [], []
        return text

    def _new(self) -> str:
        return self._decode([*self._shown, *self._held])[len(self._decode(self._shown)) :]


def check_readable(decoder: LoadedDecoder, ids: Sequence[int], already: int) -> None:
    """Check that a decoder can read these ids after `already` others.

    Raises:
        ModelError: there are none, one is not of its vocabulary, or the cache has no room for them.
    """
    if not len(ids):
        raise ModelError("there is no token to read; give at least one")
    low, high = min(ids), max(ids)
    if low < 0 or high >= decoder.vocabulary:
        wrong = low if low < 0 else high
        raise ModelError(f"token id {wrong} is not one of this model's {decoder.vocabulary}; use its own tokenizer")
    if already + len(ids) > decoder.context_tokens:
        raise ModelError(
            f"{already + len(ids)} tokens do not fit into a context of {decoder.context_tokens}; "
            "shorten the text or load the model with a longer context"
        )


def check_context(asked_tokens: int, longest_tokens: int, name: str) -> None:
    """Check that a model was made for a context of this length.

    Raises:
        ModelError: it is less than one token, or more than the model has positions for.
    """
    if not 1 <= asked_tokens <= longest_tokens:
        raise ModelError(f"{name} reads 1 to {longest_tokens} tokens, not {asked_tokens}; ask for a context in between")
