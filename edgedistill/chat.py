"""A conversation with a language model, in a terminal or from a pipe.

Every turn is put together anew by the model's own chat template and compared with what the cache holds, so that only
what is new is read. Where the context is full the oldest turns are let go, the system's words never, and that is told.
"""

import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from edgedistill.errors import ModelError, RecipeError
from edgedistill.generate import ANSWER_TOKENS, Answer, GenerationOptions, Reader, never, opening, room
from edgedistill.language_model import LanguageModel, has_template, open_model, rendered
from edgedistill.predict import lines_of
from edgedistill.sampling import Sampler

COMMAND = re.compile(r"/[a-z]+")
COMMANDS = "/reset starts a new conversation, /quit ends"
PROMPT = "> "


class Conversation:
    """Turns of a user and a model, and the cache that has read them."""

    def __init__(self, model: LanguageModel, options: GenerationOptions) -> None:
        """Begin a conversation.

        Args:
            model: one with a chat template.
            options: what stands before all turns, `max_tokens` of an answer, and how its tokens are chosen.

        Raises:
            RecipeError: the model has no chat template.
        """
        if not has_template(model.decoder):
            raise RecipeError(
                f"{model.name} has no chat template, so it holds no conversation; let it go on from a text with "
                "`edgedistill predict`"
            )
        self.model = model
        self.dropped = 0  # turns that were let go for the last answer
        self._max_tokens = options.max_tokens
        self._sampler = Sampler(options.sampling())
        self._reader = Reader(model.decoder)
        self._system = opening(model, options.system)
        self.turns: list[Mapping[str, str]] = []  # user, assistant, user, assistant, ...

    def reset(self) -> None:
        """Forget every turn."""
        self.turns = []

    def ask(self, text: str, stop: Callable[[], bool] = never) -> Answer:
        """Return the answer to a further turn, to be iterated, and then to be kept with `keep`.

        Raises:
            ModelError: the turn alone does not fit into the context, or the template refuses it.
        """
        asked: Mapping[str, str] = {"role": "user", "content": text}
        turns = self.turns
        while True:
            prompt = rendered(self.model.decoder, [*self._system, *turns, asked])
            if not turns or len(prompt) + self._reserved() <= self.model.decoder.context_tokens:
                break
            turns = turns[2:]
        most = room(self.model, prompt, None)
        self.dropped, self.turns, self._asked = (len(self.turns) - len(turns)) // 2, turns, asked
        return Answer(self._reader, prompt, self._sampler, min(most, self._max_tokens or most), stop)

    def keep(self, answer: Answer) -> None:
        """Make an answer part of the conversation, as far as it came; a question without any is forgotten."""
        if answer.ids or answer.finish != "interrupted":
            self.turns = [*self.turns, self._asked, {"role": "assistant", "content": answer.text}]

    def _reserved(self) -> int:
        """Return how many tokens are left for an answer before turns are let go: at most half of the context."""
        return min(self._max_tokens or ANSWER_TOKENS, self.model.decoder.context_tokens // 2)


def begin(artifact: Path, variant: str | None, options: GenerationOptions) -> Conversation:
    """Load a language model, see `open_model`, and begin a conversation with it, see `Conversation`."""
    model = open_model(artifact, variant, threads=options.threads, context_tokens=options.context_tokens)
    return Conversation(model, options)


def converse(
    conversation: Conversation, lines: TextIO, say: Callable[[str], None], note: Callable[[str], None], *, verbose: bool
) -> None:
    """Answer one line after another until there are no more.

    From a pipe, a line that cannot be answered ends it; in a terminal it is told, and the next one is asked for.

    Args:
        conversation: with a model.
        lines: a user's, from a terminal or elsewhere.
        say: writes pieces of answers.
        note: writes a line that is no part of an answer.
        verbose: also note how fast each answer was.

    Raises:
        ModelError: a line from a pipe cannot be answered.
        RecipeError: a pipe is not UTF-8.
        KeyboardInterrupt: a user's Ctrl-C while nothing is answered, or a second one before the first had its effect.
    """
    typed = lines.isatty() and sys.stdout.isatty()
    if typed:
        note(f"{_introduced(conversation.model)}; {COMMANDS}, as Ctrl-D does; Ctrl-C stops an answer")
    for line in _typed_lines() if typed else lines_of(lines):
        text = line.strip()
        if text == "/quit":
            return
        if COMMAND.fullmatch(text):
            _obey(text, conversation, note)
        elif text:
            try:
                _answer(conversation, text, say, note, verbose=verbose)
            except ModelError as error:
                if not typed:
                    raise
                note(f"error: {error}")


def _introduced(model: LanguageModel) -> str:
    decoder = model.decoder
    said = f"{model.name} in {model.runtime}, threads: {decoder.threads}, context: {decoder.context_tokens} tokens"
    return said if model.conversations else f"{said}; it was trained on documents, not on conversations"


def _typed_lines() -> Iterator[str]:
    """Yield what a user types; Ctrl-D ends it."""
    with suppress(ImportError):
        import readline  # noqa: F401 - input() then knows arrows and earlier lines
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            sys.stdout.write("\n")
            return
        except UnicodeDecodeError:
            sys.stderr.write("that line is not in the terminal's encoding; type it again\n")
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            raise


def _obey(command: str, conversation: Conversation, note: Callable[[str], None]) -> None:
    if command == "/reset":
        conversation.reset()
        note("a new conversation")
    else:
        note(f"there is no {command}; {COMMANDS}")


def _answer(
    conversation: Conversation, text: str, say: Callable[[str], None], note: Callable[[str], None], *, verbose: bool
) -> None:
    with _ctrl_c_stops() as stop:
        answer = conversation.ask(text, stop)
        if conversation.dropped:
            note(f"the context is full: {conversation.dropped} of the oldest turns forgotten; /reset starts anew")
        for piece in answer:
            say(piece)
        say("" if answer.text.endswith("\n") else "\n")
    conversation.keep(answer)
    if verbose:
        note(answer.told())
    elif answer.finish != "end":
        note(_CUT[answer.finish])


_CUT = {
    "max_tokens": "cut off; --max-tokens takes more",
    "context": "cut off, as the context is full; /reset starts anew, --context takes more",
    "interrupted": "interrupted",
}


@contextmanager
def _ctrl_c_stops() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether Ctrl-C was pressed; a second one raises KeyboardInterrupt as usual.

    An exception in the middle of a runtime's call would leave a cache that nobody knows the content of.
    """
    pressed = False

    def note_it(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            signal.default_int_handler(number, frame)
        pressed = True

    before = signal.signal(signal.SIGINT, note_it)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
