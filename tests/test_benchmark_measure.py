import gc
import time
from collections.abc import Sequence

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


def test_the_loop_itself_costs_next_to_nothing() -> None:
    samples = measure.measure(Sleeper(), [["x"]], calls=2000, seconds=0)
    model, encoded = Sleeper(), {"input_ids": np.array([[1]])}
    bare_ns = []
    for _ in range(2000):
        begin = time.perf_counter_ns()
        model.run(encoded)
        bare_ns.append(time.perf_counter_ns() - begin)
    assert np.median(samples.model_ns) - np.median(bare_ns) < 20_000
