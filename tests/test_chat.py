"""A conversation remembers its turns, reads only what is new, and lets go of the oldest where the context is full."""

import io
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from scripted_decoder import ForgetfulDecoder, ScriptedDecoder, scripted
from tiny_decoders import write_decoder

from edgedistill import chat
from edgedistill.chat import Conversation, converse
from edgedistill.cli import main
from edgedistill.errors import ModelError, RecipeError
from edgedistill.generate import GenerationOptions


def conversation(decoder: ScriptedDecoder | None = None, system: str | None = None, **options: Any) -> Conversation:
    return Conversation(scripted(decoder or ScriptedDecoder()), GenerationOptions(system=system, **options))


def told(talk: Conversation, *lines: str, verbose: bool = False) -> tuple[str, list[str]]:
    """Return what a pipe's lines are answered with, and what is noted beside."""
    said: list[str] = []
    notes: list[str] = []
    converse(talk, io.StringIO("".join(f"{line}\n" for line in lines)), said.append, notes.append, verbose=verbose)
    return "".join(said), notes


def test_lines_are_answered_one_after_another() -> None:
    said, notes = told(conversation(), "hello", "", "  list ", "what?")
    assert said == "Good day! 🎬 नमस्ते\none\ntwo\nYou said what?.\n"
    assert notes == []


@pytest.mark.parametrize("kind", [ScriptedDecoder, ForgetfulDecoder])
def test_the_whole_conversation_is_in_the_cache_and_read_once(kind: type[ScriptedDecoder]) -> None:
    decoder = kind()
    talk = conversation(decoder, "Be kind.")
    told(talk, "hello", "list", "nothing")
    whole = "Be kind.\x01hello\x02Good day! 🎬 नमस्ते\x01list\x02one\ntwo\n\x01nothing\x02"
    assert bytes(decoder.cache).decode() == whole
    assert decoder.read == decoder.cache, "no id was read twice"
    assert [turn["role"] for turn in talk.turns] == ["user", "assistant"] * 3


def test_another_conversation_keeps_the_systems_words_alone() -> None:
    decoder = ScriptedDecoder()
    talk = conversation(decoder, "Be kind.")
    _, notes = told(talk, "list", "/reset", "hello", "/quit", "list")
    assert notes == ["a new conversation"]
    assert bytes(decoder.cache).decode() == "Be kind.\x01hello\x02Good day! 🎬 नमस्ते"
    assert [turn["content"] for turn in talk.turns][::2] == ["hello"]
    assert bytes(decoder.read).count(b"Be kind.") == 1


def test_a_conversation_begins_with_the_words_that_the_model_learned_under() -> None:
    decoder = ScriptedDecoder()
    told(Conversation(replace(scripted(decoder), system="Be kind."), GenerationOptions()), "hello")
    assert bytes(decoder.cache).decode() == "Be kind.\x01hello\x02Good day! 🎬 नमस्ते"


def test_an_unknown_command_is_told_and_not_asked() -> None:
    said, notes = told(conversation(), "/help", "/etc/passwd is a file", "/QUIT")
    assert notes == ["there is no /help; /reset starts a new conversation, /quit ends"]
    assert said == "You said /etc/passwd is a file.\nYou said /QUIT.\n"


def test_a_full_context_lets_go_of_the_oldest_turns_and_says_so() -> None:
    decoder = ScriptedDecoder(context_tokens=90)
    talk = conversation(decoder, "Be kind.", max_tokens=30)
    _, notes = told(talk, "first", "second", "third", "fourth")
    assert notes
    assert all("of the oldest turns forgotten; /reset starts anew" in note for note in notes)
    held = bytes(decoder.cache).decode()
    assert held.startswith("Be kind.\x01")
    assert "first" not in held
    assert held.endswith("fourth\x02You said fourth.")
    assert len(decoder.cache) <= 90


def test_a_turn_that_fits_alone_is_answered_and_one_that_does_not_harms_nothing() -> None:
    talk = conversation(ScriptedDecoder(context_tokens=60))
    told(talk, "hello")
    turns = talk.turns
    with pytest.raises(ModelError, match="102 tokens of prompt do not fit into a context of 60"):
        told(talk, "x" * 100)
    assert talk.turns == turns
    assert told(talk, "y" * 50)[0].startswith("You said")


@pytest.mark.parametrize(
    ("options", "line", "note"),
    [
        ({"max_tokens": 5}, "sing", "cut off; --max-tokens takes more"),
        ({}, "sing", "cut off; --max-tokens takes more"),
        ({}, "s" * 70, "cut off, as the context is full; /reset starts anew, --context takes more"),
    ],
)
def test_an_answer_that_is_cut_off_says_so(options: dict[str, Any], line: str, note: str) -> None:
    decoder = ScriptedDecoder(context_tokens=100 if len(line) > 9 else 2000)
    said, notes = told(conversation(decoder, **options), line)
    assert notes == [note]
    assert said.endswith("\n")


def test_speed_is_told_where_it_is_asked_for() -> None:
    (note,) = told(conversation(), "list", verbose=True)[1]
    assert note.startswith("6 tokens read at ")
    assert note.endswith("; the model ended it")


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on() -> None:
    talk = conversation()
    said: list[str] = []
    notes: list[str] = []

    def say(piece: str) -> None:
        said.append(piece)
        if "".join(said) == "la la":
            signal.raise_signal(signal.SIGINT)

    converse(talk, io.StringIO("sing\nlist\n"), say, notes.append, verbose=False)
    assert "".join(said) == "la la\none\ntwo\n"
    assert notes == ["interrupted"]
    assert talk.turns[1]["content"] == "la la", "what was said is remembered"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_the_first_token_forgets_the_question() -> None:
    decoder = ScriptedDecoder()
    prefill = decoder.prefill

    def slow(ids: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return prefill(ids)

    decoder.prefill = slow  # type: ignore[method-assign]
    talk = conversation(decoder)
    assert told(talk, "x" * 300) == ("\n", ["interrupted"])
    assert talk.turns == []


def test_a_second_ctrl_c_ends_it() -> None:
    def say(piece: str) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        converse(conversation(), io.StringIO("sing\n"), say, say, verbose=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_model_without_a_template_says_what_it_can_do() -> None:
    with pytest.raises(RecipeError, match=r"script\.gguf has no chat template.*`edgedistill predict`"):
        conversation(ScriptedDecoder(template=False))


def test_a_template_that_takes_no_system_is_one_line() -> None:
    decoder = ScriptedDecoder()
    whole = decoder.chat

    def picky(messages: Any) -> list[int]:
        if messages[0]["role"] == "system":
            raise ValueError("System role\nnot supported")
        return whole(messages)

    decoder.chat = picky  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"does not take system, user: System role not supported; leave out --system"):
        told(conversation(decoder, "Be kind."), "hello")
    assert told(conversation(decoder), "list")[0] == "one\ntwo\n"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    asked: dict[str, Any] = {}

    def open_model(artifact: Path, variant: str | None, **more: Any) -> Any:
        asked.update(artifact=artifact, variant=variant, **more)
        return scripted(ScriptedDecoder())

    monkeypatch.setattr(chat, "open_model", open_model)
    return asked


def call(*arguments: object, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, ["chat", *map(str, arguments)], input=stdin)


def test_the_command_passes_on_what_was_asked(opened: dict[str, Any], tmp_path: Path) -> None:
    result = call(tmp_path, "--variant", "q8_0", "--threads", 2, "--context", 99, stdin="list\nsing")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"one\ntwo\n{('la ' * 171)[:512]}\n"
    assert opened == {"artifact": tmp_path, "variant": "q8_0", "threads": 2, "context_tokens": 99}
    (tmp_path / "lines.txt").write_text("list\n/quit\nsing\n", encoding="utf-8")
    assert call(tmp_path, "--file", tmp_path / "lines.txt").stdout == "one\ntwo\n"
    assert call(tmp_path, stdin=b"caf\xe9\n").exit_code == 2
    assert call(tmp_path, "--top-p", "2", stdin="list\n").exit_code == 2


def test_a_real_model_converses_through_a_pipe(tmp_path: Path) -> None:
    write_decoder(tmp_path / "tiny")
    lines = "The cat sees the moon.\nAnd?\n/reset\nThe cat sees the moon.\n"
    result = call(tmp_path / "tiny", "--max-tokens", 8, "--threads", 1, stdin=lines)
    assert result.exit_code == 0, result.output
    again = call(tmp_path / "tiny", "--max-tokens", 8, "--threads", 1, stdin=lines.splitlines()[0])
    assert again.stdout
    assert result.stdout.startswith(again.stdout)
    assert result.stdout.endswith(again.stdout), "after /reset it is as at the beginning"
    (tmp_path / "tiny" / "chat_template.jinja").unlink()
    refused = call(tmp_path / "tiny", stdin=lines)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "edgedistill predict" in refused.stderr
