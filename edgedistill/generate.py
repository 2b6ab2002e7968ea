"""Text from a language model, piece by piece as it comes, and how fast that was.

A prompt is read in parts, so that an interruption waits for one part and not for all of it. What the cache holds of an
earlier prompt is not read again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from edgedistill.errors import ModelError, RecipeError
from edgedistill.language_model import LanguageModel, rendered
from edgedistill.runtimes._decoder import LoadedDecoder, Rewinding, TextStream
from edgedistill.sampling import Sampler, Sampling

ANSWER_TOKENS = 512  # unless another number is asked for
PART_TOKENS = 128  # of a prompt, between two looks at whether to stop
SEEN_TOKENS = 8  # of a prompt, on which the text of what follows may depend
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
ENDINGS = {
    "end": "the model ended it",
    "max_tokens": "cut off by --max-tokens",
    "context": "cut off, as the context is full",
    "interrupted": "interrupted",
}


@dataclass(frozen=True)
class GenerationOptions:
    """What a user may set of a language model that answers; None takes the default."""

    max_tokens: int | None = None  # of an answer; ANSWER_TOKENS, or as many as the context has room for
    temperature: float | None = None  # 0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None  # 0
    threads: int | None = None  # see open_model
    context_tokens: int | None = None  # see open_model
    system: str | None = None  # said before all turns; what the model learned under, or its template's own words

    def sampling(self) -> Sampling:
        """Return how a token is chosen.

        Raises:
            RecipeError: the numbers do not go together.
        """
        chosen = Sampling(self.temperature or 0.0, self.top_k, self.top_p, self.seed or 0)
        if self.seed is not None and chosen.temperature == 0:
            raise RecipeError(
                f"seed {self.seed} is that of the draws, and temperature 0 draws nothing; give one, such as 1"
            )
        return chosen

    def given(self) -> tuple[str, ...]:
        """Return the names of what was set."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)


def never() -> bool:
    """Return False: nothing asks for a stop."""
    return False


class Reader:
    """A decoder, and the ids that its cache holds."""

    def __init__(self, decoder: LoadedDecoder) -> None:
        self.decoder = decoder
        self.ids: list[int] = []
        self.kept = 0  # of them, that the last text read had in common with what was there

    def read(self, ids: Sequence[int], stop: Callable[[], bool] = never) -> np.ndarray | None:
        """Read a text; return the logits after its last id, (vocab,), or None where it was stopped before.

        What the cache holds already is kept as far as both are the same, but for the last id, whose logits are wanted.
        """
        logits, self.kept = None, self._keep(_shared(self.ids, ids[:-1]))
        for start in range(self.kept, max(len(ids), 1), PART_TOKENS):
            if stop():
                return None
            part = list(ids[start : start + PART_TOKENS])
            logits = self.decoder.prefill(part)
            self.ids += part
        return logits

    def step(self, token: int) -> np.ndarray:
        """Read one id more; return the logits after it, (vocab,)."""
        logits = self.decoder.step(token)
        self.ids.append(token)
        return logits

    def forget(self) -> None:
        """Empty the cache."""
        self.decoder.reset()
        self.ids = []

    def _keep(self, tokens: int) -> int:
        """Cut the cache to its first `tokens`, or empty it where it cannot be cut; return how many it holds then."""
        if tokens == len(self.ids):
            return tokens
        if tokens and isinstance(self.decoder, Rewinding) and self.decoder.rewind(tokens):
            del self.ids[tokens:]
        else:
            self.forget()
        return len(self.ids)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many ids two rows begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


class Answer:
    """What a model says after a prompt; iterated once, it gives the text in pieces of whole characters."""

    def __init__(
        self, reader: Reader, prompt: Sequence[int], sampler: Sampler, max_tokens: int, stop: Callable[[], bool] = never
    ) -> None:
        self._reader, self._sampler, self._stop = reader, sampler, stop
        self.prompt, self.max_tokens = list(prompt), max_tokens
        self.ids: list[int] = []  # that were said, without the one that ends it
        self.text = ""
        self.finish = "interrupted"  # a word of ENDINGS
        self.read_tokens = 0  # of the prompt that the cache did not hold
        self.prefill_s = self.decode_s = 0.0
        self._steps = 0

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces():
            if piece:
                self.text += piece
                yield piece

    def _pieces(self) -> Iterator[str]:
        decoder = self._reader.decoder
        stream = TextStream(decoder.decode, after=self.prompt[-SEEN_TOKENS:])
        logits = self._prefill()
        while logits is not None:
            token = self._sampler.choose(logits)
            if token in decoder.ends:
                self.finish = "end"
                break
            self.ids.append(token)
            yield stream.push(token)
            logits = self._step(token)
        yield stream.end()

    def _prefill(self) -> np.ndarray | None:
        started = time.perf_counter()
        logits = self._reader.read(self.prompt, self._stop)
        self.prefill_s = time.perf_counter() - started
        self.read_tokens = len(self._reader.ids) - self._reader.kept
        return logits

    def _step(self, token: int) -> np.ndarray | None:
        """Return the logits after a token; None where nothing is to follow it."""
        if len(self.prompt) + len(self.ids) >= self._reader.decoder.context_tokens:
            self.finish = "context"
        elif len(self.ids) >= self.max_tokens:
            self.finish = "max_tokens"
        elif not self._stop():
            started = time.perf_counter()
            logits = self._reader.step(token)
            self.decode_s += time.perf_counter() - started
            self._steps += 1
            return logits
        return None

    def told(self) -> str:
        """Return how fast it was and how it ended, in a line."""
        read = f"{self.read_tokens} tokens read at {_rate(self.read_tokens, self.prefill_s)}"
        said = f"{len(self.ids)} said at {_rate(self._steps, self.decode_s)}"
        return f"{read}, {said}; {ENDINGS[self.finish]}"


def _rate(tokens: int, seconds: float) -> str:
    return f"{tokens / seconds:.3g} a second" if tokens and seconds else "no speed known"


def opening(model: LanguageModel, system: str | None) -> list[Mapping[str, str]]:
    """Return what stands before all turns of a conversation.

    Args:
        system: as asked for; None takes what the model learned under. Where nothing is known the template decides.
    """
    said = model.system if system is None else system
    return [] if said is None else [{"role": "system", "content": said}]


def prompt_of(model: LanguageModel, text: str, *, raw: bool = False, system: str | None = None) -> list[int]:
    """Return the ids of a text: as a user's turn where the model holds conversations, else as the start of a document.

    Args:
        raw: take it as the start of a document always.
        system: see `opening`.

    Raises:
        RecipeError: a system's words were given for the start of a document.
    """
    if model.conversations and not raw:
        return rendered(model.decoder, [*opening(model, system), {"role": "user", "content": text}])
    if system is not None:
        raise RecipeError(f"{model.name} goes on from a text here, and a document has no system; leave out --system")
    return [*model.decoder.begin, *model.decoder.encode(text, special=False)]


def room(model: LanguageModel, prompt: Sequence[int], max_tokens: int | None) -> int:
    """Return how many tokens an answer may have.

    Args:
        max_tokens: as asked for; None takes as many as fit, at most ANSWER_TOKENS.

    Raises:
        ModelError: the prompt, or the prompt and the answer asked for, do not fit into the context.
    """
    left = model.decoder.context_tokens - len(prompt)
    if left < (max_tokens or 1):
        most = f"--context up to {model.longest_tokens}" if model.longest_tokens > model.decoder.context_tokens else ""
        cures = ["shorten the text", *(["ask for fewer --max-tokens"] if max_tokens else []), *([most] if most else [])]
        wanted = f" and {max_tokens} of an answer" if max_tokens else ""
        raise ModelError(
            f"{len(prompt)} tokens of prompt{wanted} do not fit into a context of {model.decoder.context_tokens}; "
            f"{', or '.join(cures)}"
        )
    return max_tokens or min(left, ANSWER_TOKENS)


def harmless(text: str) -> str:
    """Return a text as a terminal may show it: control characters, which could move its cursor, as signs."""
    return text.translate(CONTROLS)
