"""Chat and predict in a real terminal: what is typed, Ctrl-C, Ctrl-D and a pipe that is closed."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
START = (
    "import fcntl, sys, termios\n"
    "if sys.stdin.isatty(): fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    f"sys.path.insert(0, {str(TESTS)!r})\n"
    "from scripted_decoder import ScriptedDecoder, scripted\n"
    "from edgedistill import chat, language_model\n"
    "def opened(*given, **more): return scripted(ScriptedDecoder(step_s=0.01))\n"
    "chat.open_model = language_model.open_model = opened\n"
    "language_model.is_there = lambda path: True\n"
    "from edgedistill.__main__ import start\n"
    "start()\n"
)
LONG_S = 30.0


class Terminal:
    """A process in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**os.environ, "TERM": "dumb"},
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def type(self, keys: str) -> None:
        self.shown = ""
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str) -> str:
        """Return what was shown since the last keys, as soon as `text` is in it."""
        until = time.monotonic() + LONG_S
        while text not in self.shown:
            assert time.monotonic() < until, f"{text!r} is not in {self.shown!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._ours, 4096).decode(errors="replace")
                except OSError:  # how Linux tells that the other end is closed
                    assert text in self.shown, f"it ended after {self.shown!r}"
        return self.shown

    def interrupt_until(self, text: str) -> str:
        """Press Ctrl-C until `text` is shown: one between the prompt and the moment readline listens has no effect."""
        self.type("\x03")
        for _ in range(int(LONG_S)):
            if select.select([self._ours], [], [], 1.0)[0]:
                break
            os.write(self._ours, b"\x03")
        return self.wait_for(text)

    def end(self) -> int:
        return self.process.wait(timeout=LONG_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    made = Terminal(*request.param)
    yield made
    made.close()


CHAT = pytest.mark.parametrize("terminal", [("chat", ".")], indirect=True)


@CHAT
def test_a_conversation_is_typed_and_ends_with_ctrl_d(terminal: Terminal) -> None:
    first = terminal.wait_for("> ")
    assert "script.gguf in llama_cpp" in first
    assert "Ctrl-C stops an answer" in first
    terminal.type("hello\n")
    assert "Good day! 🎬 नमस्ते\r\n" in terminal.wait_for("नमस्ते\r\n> ")
    terminal.type("bell\n")
    assert "␛[2J␇ok" in terminal.wait_for("ok\r\n> ")
    terminal.type("\x04")
    assert terminal.end() == 0


@CHAT
def test_ctrl_c_stops_the_answer_and_a_second_one_ends_the_program(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.type("sing\n")
    terminal.wait_for("la la la")
    terminal.type("\x03")
    assert "interrupted" in terminal.wait_for("> ")
    terminal.type("list\n")
    terminal.wait_for("one\r\ntwo\r\n> ")
    assert "error: interrupted\r\n" in terminal.interrupt_until("interrupted\r\n")
    assert terminal.end() == 130


@pytest.mark.parametrize("terminal", [("predict", ".", "sing")], indirect=True)
def test_ctrl_c_ends_predict_and_keeps_what_was_shown(terminal: Terminal) -> None:
    terminal.wait_for("la la la")
    terminal.type("\x03")
    terminal.wait_for("error: interrupted\r\n")
    assert terminal.end() == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_predict_with_130_and_what_was_written_is_whole(number: signal.Signals) -> None:
    command = [sys.executable, "-c", START, "predict", ".", "sing"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(8) == b"la la la", "tokens come before the answer is whole"
        process.send_signal(number)
        said, noted = process.communicate(timeout=LONG_S)
    assert process.returncode == 130
    assert len(said) < 400
    assert said.endswith(b"\n"), "a message after it stands on a line of its own"
    assert noted == b"error: interrupted\n"


def test_a_closed_pipe_ends_predict_quietly() -> None:
    command = [sys.executable, "-c", START, "predict", ".", "sing"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(3)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(timeout=LONG_S) == -signal.SIGPIPE
