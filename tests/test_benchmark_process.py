"""Jobs in fresh processes: in order, so many at a time, and none is left behind."""

import json
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from edgedistill.benchmark import process
from edgedistill.errors import StageError

WORKER = """\
import json, pathlib, sys, time
asked = json.loads(sys.stdin.read())
began = time.monotonic()
print("noise " * asked["noise"], file=sys.stderr)
time.sleep(asked["seconds"])
if asked["name"] == "bad":
    sys.exit("this one is bad")
print(json.dumps({"name": asked["name"], "began": began, "ended": time.monotonic()}))
"""


@dataclass(frozen=True)
class Napping:
    """A job that takes its time."""

    name: str
    seconds: float
    noise: int = 0
    threads: int = 1

    KIND: ClassVar[str] = "naps"
    WORKER: ClassVar[str] = "napping_worker"


@pytest.fixture(autouse=True)
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "napping_worker.py").write_text(WORKER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def left() -> int:
    """Return how many of the workers still run."""
    return sum("napping_worker" in " ".join(child.cmdline()) for child in psutil.Process().children())


@pytest.mark.parametrize("at_once", [1, 2])
def test_answers_come_in_order_and_no_more_run_at_a_time(at_once: int) -> None:
    naps = [Napping(name, seconds) for name, seconds in (("a", 1.0), ("b", 0.1), ("c", 0.5))]
    found = list(process.run_together([(nap, nap.name) for nap in naps], at_once))
    assert [one["name"] for one in found] == ["a", "b", "c"]
    for moment in (one["began"] for one in found):
        assert sum(one["began"] <= moment < one["ended"] for one in found) <= at_once
    together = found[1]["began"] < found[0]["ended"]
    assert together == (at_once == 2)
    assert not left()


def test_where_one_fails_the_others_are_ended() -> None:
    jobs = [(Napping("bad", 0.1), "model bad"), (Napping("long", 60), "model long")]
    started = time.monotonic()
    with pytest.raises(StageError, match=r"(?s)model bad: the process that measures naps ended with code 1:.*is bad"):
        list(process.run_together(jobs, 2))
    assert time.monotonic() - started < 30
    assert not left()


def test_whoever_stops_asking_leaves_nothing_behind() -> None:
    jobs = [(Napping(name, seconds), name) for name, seconds in (("quick", 0.0), ("long", 60.0))]
    with closing(process.run_together(jobs, 2)) as answers:
        assert next(answers)["name"] == "quick"
        assert left() == 1
    assert not left()


def test_a_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(StageError, match=r"slow: the process that measures naps did not end within 0\.2 s"):
        process.run(Napping("slow", 60), "slow", timeout_s=0.2)
    assert not left()


def test_a_limit_counts_from_the_processes_begin() -> None:
    running = process.Running(Napping("slow", 60), "slow")
    time.sleep(2)
    asked = time.monotonic()
    with pytest.raises(StageError, match=r"did not end within 2 s"):
        running.answer(timeout_s=2)
    assert time.monotonic() - asked < 1.9
    assert not left()


def test_however_much_one_says_meanwhile_nobody_waits_for_ever() -> None:
    naps = [Napping("first", 0.5), Napping("noisy", 0.0, noise=200_000)]
    found = list(process.run_together([(nap, nap.name) for nap in naps], 2))
    assert [one["name"] for one in found] == ["first", "noisy"]
    assert len(json.dumps(found)) < 1000
