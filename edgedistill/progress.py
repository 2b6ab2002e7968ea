"""What a person sees while something takes long: a bar in a terminal, now and then a line in a log file.

Stages call `bar`; nothing is shown until the command line calls `show_on`. A step that ends within two seconds
stays quiet.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

QUIET_S = 2.0
LOG_EVERY_S = 30.0

_console: Console | None = None


def show_on(console: Console | None) -> None:
    """Show progress on `console` from now on; None keeps everything quiet."""
    global _console
    _console = console


def say(text: str) -> None:
    """Print one line, where anybody is looking."""
    if _console is not None:
        _console.print(text, highlight=False)


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"


class _RateColumn(ProgressColumn):
    """Units per second, with the unit's name."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{_per_second(speed)} {task.fields['unit']}/s", style="progress.data.speed"
        )


@contextmanager
def bar(
    what: str, total: int, unit: str = "rows", done: int = 0, *, still: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with each number of finished units.

    Args:
        what: what is being done, a few words.
        total: all units; `done` of them were finished by an earlier, interrupted process.
        still: draw only when advanced, so that nothing runs in between, as where something is timed.
    """
    if _console is None:
        yield lambda _count: None
    elif _console.is_terminal:
        with _terminal_bar(_console, what, total, unit, done, still) as advance:
            yield advance
    else:
        with _log_lines(_console, what, total, unit, done) as advance:
            yield advance


@contextmanager
def _terminal_bar(
    console: Console, what: str, total: int, unit: str, done: int, still: bool
) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, auto_refresh=not still) as progress:
        task = progress.add_task(what, total=total, unit=unit, completed=done)

        def advance(count: int) -> None:
            progress.advance(task, count)
            if still:
                progress.refresh()

        progress.refresh()
        yield advance


@contextmanager
def _log_lines(console: Console, what: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    start = last = time.monotonic()
    finished = done

    def advance(count: int) -> None:
        nonlocal finished, last
        finished += count
        now = time.monotonic()
        if now - last >= LOG_EVERY_S and finished < total:
            last = now
            rate = (finished - done) / (now - start)
            left = (total - finished) / rate if rate else float("inf")
            console.print(
                f"  {what}: {finished}/{total} {unit}, {_per_second(rate)} {unit}/s, {left:,.0f} s left",
                highlight=False,
            )

    yield advance
    seconds = time.monotonic() - start
    if seconds >= QUIET_S:
        console.print(f"  {what}: {finished} {unit} in {seconds:.0f} s", highlight=False)
