"""Progress is quiet where nobody looks, one line now and then in a log, and a bar in a terminal."""

import io
import threading
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from edgedistill import progress


class Clock:
    """A monotonic clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def log() -> Iterator[Callable[[], list[str]]]:
    """Show progress in a file, and return its lines so far."""
    written = io.StringIO()
    progress.show_on(Console(file=written, width=100))
    yield lambda: written.getvalue().splitlines()
    progress.show_on(None)


def test_nothing_is_shown_until_somebody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    progress.show_on(None)
    progress.say("words")
    with progress.bar("work", 10) as advance:
        advance(10)
    assert capfd.readouterr() == ("", "")


def test_a_line_is_said_as_it_is(log: Callable[[], list[str]]) -> None:
    progress.say("plain words")
    assert log() == ["plain words"]


def test_a_short_step_leaves_no_line(log: Callable[[], list[str]], clock: Clock) -> None:
    with progress.bar("work", 10) as advance:
        clock.now += progress.QUIET_S - 0.1
        advance(10)
    assert log() == []


def test_a_longer_step_is_told_when_it_ends(log: Callable[[], list[str]], clock: Clock) -> None:
    with progress.bar("work", 10, "texts") as advance:
        clock.now += 12
        advance(10)
    assert log() == ["  work: 10 texts in 12 s"]


def test_a_long_step_says_rate_and_time_left_now_and_then(log: Callable[[], list[str]], clock: Clock) -> None:
    with progress.bar("work", 1000, "texts") as advance:
        for _ in range(9):
            clock.now += 10
            advance(100)
    between, end = log()[:-1], log()[-1]
    assert between == [
        "  work: 300/1000 texts, 10 texts/s, 70 s left",
        "  work: 600/1000 texts, 10 texts/s, 40 s left",
        "  work: 900/1000 texts, 10 texts/s, 10 s left",
    ]
    assert end == "  work: 900 texts in 90 s"


def test_what_an_earlier_process_did_is_not_counted_as_speed(log: Callable[[], list[str]], clock: Clock) -> None:
    with progress.bar("work", 1000, "texts", done=800) as advance:
        clock.now += 40
        advance(100)
    assert log()[0] == "  work: 900/1000 texts, 2.50 texts/s, 40 s left"


def test_no_line_speaks_of_time_left_when_nothing_is(log: Callable[[], list[str]], clock: Clock) -> None:
    with progress.bar("work", 10, "texts") as advance:
        clock.now += 60
        advance(10)
    assert log() == ["  work: 10 texts in 60 s"]


@pytest.mark.parametrize("still", [False, True])
def test_a_terminal_has_a_bar_that_goes_away(still: bool) -> None:
    written, before = io.StringIO(), set(threading.enumerate())
    progress.show_on(Console(file=written, width=100, force_terminal=True))
    try:
        with progress.bar("fetching stones", 4, "stones", still=still) as advance:
            advance(3)
            beside = set(threading.enumerate()) - before
        during_text = written.getvalue()
    finally:
        progress.show_on(None)
    assert "fetching stones" in during_text
    assert "3/4" in during_text
    assert written.getvalue().endswith(("\x1b[2K", "\x1b[1A\x1b[2K", "\x1b[?25h\r\x1b[1A\x1b[2K")), "erased at the end"
    assert bool(beside) is not still, "nothing runs beside what is timed"


def test_a_failure_inside_goes_on_and_ends_the_bar(log: Callable[[], list[str]], clock: Clock) -> None:
    with pytest.raises(ValueError, match="inside"), progress.bar("work", 10):
        raise ValueError("inside")
    with progress.bar("next", 1) as advance:
        advance(1)
    assert log() == []
