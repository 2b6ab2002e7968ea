"""The timed loop: clock, tokenizer, clock, model, clock; nothing is logged, printed or polled in between.

One pass times both the whole call and the model alone, so that their difference is the tokenizer's share of the very
same calls. A loop around the model alone would flatter it: no tokenizer would cool its caches. Every model runs whole
cycles over the same texts: no text is special, and two models' medians are over the same mix.
"""

import gc
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgedistill.runtimes._model import LoadedModel

WARM_UP_S = 0.1
WARM_UP_CALLS = 2


class Samples(NamedTuple):
    """What the loop saw."""

    whole_ns: np.ndarray  # (calls,) int64
    model_ns: np.ndarray  # (calls,) int64
    logits: list[np.ndarray]  # of each batch's last call, (batch, classes)


def warm_up(model: LoadedModel, batches: Sequence[Sequence[str]]) -> None:
    """Run the batches until caches, allocators and clock rates have settled."""
    calls, deadline = 0, time.perf_counter() + WARM_UP_S
    while calls < WARM_UP_CALLS or time.perf_counter() < deadline:
        model.run(model.encode(batches[calls % len(batches)]))
        calls += 1


def measure(
    model: LoadedModel, batches: Sequence[Sequence[str]], calls: int, seconds: float, pause_s: float = 0.0
) -> Samples:
    """Time whole cycles of the batches, until there are at least `calls` calls and `seconds` have passed.

    With a pause before each call, which is not timed, the clock rate falls and caches are lost, as they are in an app
    that asks now and then.
    """
    cycles: list[np.ndarray] = []
    logits: list[np.ndarray] = []
    gc.collect()
    gc.disable()
    try:
        deadline = time.perf_counter() + seconds
        while len(cycles) * len(batches) < calls or time.perf_counter() < deadline:
            stamps = np.empty((len(batches), 3), dtype=np.int64)
            logits = _cycle(model, batches, stamps, pause_s)
            cycles.append(stamps)
    finally:
        gc.enable()
    begin, encoded, end = np.concatenate(cycles).T
    return Samples(end - begin, end - encoded, logits)


def _cycle(
    model: LoadedModel, batches: Sequence[Sequence[str]], stamps: np.ndarray, pause_s: float
) -> list[np.ndarray]:
    """Run each batch once, note begin, encoded and end of each call, (batches, 3) ns, and return the logits."""
    encode, run, clock = model.encode, model.run, time.perf_counter_ns
    answers = []
    for i, texts in enumerate(batches):
        if pause_s:
            time.sleep(pause_s)
        begin = clock()
        encoded = encode(texts)
        encoded_at = clock()
        logits = run(encoded)
        end = clock()
        stamps[i] = begin, encoded_at, end
        answers.append(logits)
    return answers
