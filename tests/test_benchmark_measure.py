import gc
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgedistill.benchmark import measure
from edgedistill.runtimes._model import Encoded


class Sleeper:
    """A model that takes a known time in each of its parts, and notes what it was asked."""

    labels = ("a", "b")

    def __init__(self, encode_s: float = 0.0, run_s: float = 0.0) -> None:
        self.encode_s, self.run_s = encode_s, run_s
        self.asked: list[str] = []
        self.collecting: set[bool] = set()

    def encode(self, texts: Sequence[str]) -> Encoded:
        time.sleep(self.encode_s)
        self.asked.append(texts[0])
        self.collecting.add(gc.isenabled())
        return {"input_ids": np.array([[len(text)] for text in texts])}

    def run(self, encoded: Encoded) -> np.ndarray:
        time.sleep(self.run_s)
        return encoded["input_ids"].astype(np.float32)

    def kernels(self) -> dict[str, int]:
        return {}


def test_the_clock_takes_the_whole_call_and_the_models_part_of_it() -> None:
    samples = measure.measure(Sleeper(encode_s=0.002, run_s=0.004), [["x"]], calls=5, seconds=0)
    assert (samples.whole_ns >= 6e6).all()
    assert (samples.model_ns >= 4e6).all()
    assert (samples.whole_ns - samples.model_ns >= 2e6).all()


@pytest.mark.parametrize(("calls", "texts", "expected"), [(1, 3, 3), (3, 3, 3), (4, 3, 6), (14, 4, 16), (14, 32, 32)])
def test_every_text_is_timed_equally_often(calls: int, texts: int, expected: int) -> None:
    model = Sleeper()
    samples = measure.measure(model, [[f"text {i}"] for i in range(texts)], calls, seconds=0)
    assert len(samples.whole_ns) == len(samples.model_ns) == expected
    assert {model.asked.count(text) for text in model.asked} == {expected // texts}


def test_timing_goes_on_for_as_long_as_asked() -> None:
    samples = measure.measure(Sleeper(run_s=0.001), [["x"]], calls=2, seconds=0.05)
    assert 0.04e9 <= samples.whole_ns.sum() <= 2e9


def test_the_answers_are_those_of_the_timed_batches() -> None:
    samples = measure.measure(Sleeper(), [["a", "bb"], ["ccc", "dddd"]], calls=4, seconds=0)
    assert [logits.tolist() for logits in samples.logits] == [[[1.0], [2.0]], [[3.0], [4.0]]]


def test_no_garbage_is_collected_between_two_calls_and_it_is_again_afterwards() -> None:
    model = Sleeper()
    measure.measure(model, [["x"]], calls=3, seconds=0)
    assert model.collecting == {False}
    assert gc.isenabled()


def test_garbage_is_collected_again_after_a_model_fails() -> None:
    class Broken(Sleeper):
        def run(self, encoded: Encoded) -> np.ndarray:
            raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        measure.measure(Broken(), [["x"]], calls=3, seconds=0)
    assert gc.isenabled()


def test_warm_up_runs_at_least_twice_and_then_for_a_while() -> None:
    slow, fast = Sleeper(run_s=0.2), Sleeper(run_s=0.001)
    measure.warm_up(slow, [["x"], ["y"], ["z"]])
    measure.warm_up(fast, [["x"], ["y"], ["z"]])
    assert slow.asked == ["x", "y"]
    assert set(fast.asked) == {"x", "y", "z"}


class Clock:
    """Time that passes only where somebody takes it, and what was done in it."""

    def __init__(self) -> None:
        self.now_s, self.done = 0.0, list[str]()

    def take(self, seconds: float, what: str) -> None:
        self.now_s += seconds
        self.done.append(what)

    def sleep(self, seconds: float) -> None:
        self.take(seconds, "pause")

    def perf_counter(self) -> float:
        return self.now_s

    def perf_counter_ns(self) -> int:
        return round(self.now_s * 1e9)


ENCODE_S, RUN_S, PAUSE_S, CALLS = 0.25, 0.5, 8.0, 4
Measure = Callable[..., measure.Samples]


def faults(timed: Measure) -> list[str]:
    """Return what is wrong with the pauses of a timed loop."""
    clock = Clock()

    class Ticking(Sleeper):
        def encode(self, texts: Sequence[str]) -> Encoded:
            clock.take(ENCODE_S, "encode")
            return {"input_ids": np.array([[len(text)] for text in texts])}

        def run(self, encoded: Encoded) -> np.ndarray:
            clock.take(RUN_S, "run")
            return encoded["input_ids"].astype(np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "time", clock)
        samples = timed(Ticking(), [["x"], ["y"]], CALLS, 0, PAUSE_S)
    found = []
    if clock.done != ["pause", "encode", "run"] * CALLS:
        found.append("there is one pause before each call")
    if clock.now_s != CALLS * (PAUSE_S + ENCODE_S + RUN_S):
        found.append("a pause is as long as asked")
    if set(samples.whole_ns) != {(ENCODE_S + RUN_S) * 1e9} or set(samples.model_ns) != {RUN_S * 1e9}:
        found.append("no pause is timed")
    return found


def _without_pauses(model: Sleeper, batches: list[list[str]], calls: int, seconds: float, _: float) -> measure.Samples:
    return measure.measure(model, batches, calls, seconds)


def _pausing_in_the_call(
    model: Sleeper, batches: list[list[str]], calls: int, seconds: float, pause_s: float
) -> measure.Samples:
    encode = model.encode

    def slow(texts: Sequence[str]) -> Encoded:
        measure.time.sleep(pause_s)
        return encode(texts)

    model.encode = slow  # type: ignore[method-assign]
    return measure.measure(model, batches, calls, seconds)


def _pausing_once(
    model: Sleeper, batches: list[list[str]], calls: int, seconds: float, pause_s: float
) -> measure.Samples:
    measure.time.sleep(pause_s * calls)
    return measure.measure(model, batches, calls, seconds)


def test_a_pause_stands_before_each_call_and_is_not_timed() -> None:
    assert faults(measure.measure) == []


@pytest.mark.parametrize("broken", [_without_pauses, _pausing_in_the_call, _pausing_once])
def test_a_loop_without_its_pauses_or_with_pauses_on_the_clock_is_rejected(broken: Measure) -> None:
    assert faults(broken)


def test_the_loop_itself_costs_next_to_nothing() -> None:
    samples = measure.measure(Sleeper(), [["x"]], calls=2000, seconds=0)
    model, encoded = Sleeper(), {"input_ids": np.array([[1]])}
    bare_ns = []
    for _ in range(2000):
        begin = time.perf_counter_ns()
        model.run(encoded)
        bare_ns.append(time.perf_counter_ns() - begin)
    assert np.median(samples.model_ns) - np.median(bare_ns) < 20_000
