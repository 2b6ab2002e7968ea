"""The timed loop: clock, tokenizer, clock, prefill, clock, then a clock after each decoded token.

A token is done when the likeliest next one is known, as an app that decodes greedily would go on from there. Nothing is
logged, printed or polled in between, and every model runs whole cycles over the same rows.
"""

import gc
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgedistill.benchmark.decoder.jobs import Passes, Tops
from edgedistill.runtimes._decoder import LoadedDecoder

WARM_UP_S = 0.2
WARM_UP_STEPS = 4


class Samples(NamedTuple):
    """What the loop saw."""

    encode_ns: np.ndarray  # (passes,) int64
    prefill_ns: np.ndarray  # (passes,) int64
    step_ns: np.ndarray  # (passes, decoded tokens) int64
    tops: Tops  # of each row's last pass


def warm_up(decoder: LoadedDecoder, passes: Passes) -> None:
    """Read a prompt and some tokens, until caches, allocators and clock rates have settled; all is forgotten again."""
    deadline = time.perf_counter() + WARM_UP_S
    row, prompt = passes.rows[0], passes.prompt_tokens
    while True:
        decoder.reset()
        decoder.prefill(row[:prompt])
        for token in row[prompt : prompt + WARM_UP_STEPS]:
            decoder.step(token)
        if time.perf_counter() >= deadline:
            decoder.reset()
            return


def measure(decoder: LoadedDecoder, passes: Passes, calls: int, seconds: float) -> Samples:
    """Time whole cycles over the rows, until there are at least `calls` passes and `seconds` have gone by."""
    texts = [decoder.decode(row[: passes.prompt_tokens]) for row in passes.rows]
    stamps: list[list[int]] = []
    tops: list[Tops] = []
    gc.collect()
    gc.disable()
    try:
        deadline = time.perf_counter() + seconds
        while len(stamps) < calls or time.perf_counter() < deadline:
            tops.clear()
            for text, row in zip(texts, passes.rows, strict=True):
                times, said = _pass(decoder, text, row, passes.prompt_tokens)
                stamps.append(times)
                tops.append(said)
    finally:
        gc.enable()
    taken = np.diff(np.array(stamps, dtype=np.int64), axis=1)  # (passes, 2 + decoded tokens)
    rows = Tops([one.tokens[0] for one in tops], [one.logits[0] for one in tops])
    return Samples(taken[:, 0], taken[:, 1], taken[:, 2:], rows)


def answer(decoder: LoadedDecoder, passes: Passes) -> Tops:
    """Return what a model says of the rows when it reads them as they are read when it is timed."""
    said = [_pass(decoder, "", row, passes.prompt_tokens)[1] for row in passes.rows]
    return Tops([one.tokens[0] for one in said], [one.logits[0] for one in said])


def _pass(decoder: LoadedDecoder, text: str, row: Sequence[int], prompt_tokens: int) -> tuple[list[int], Tops]:
    """Read one row; return the clock before, after tokenizing, after the prompt, and after each token, and the tops."""
    encode, prefill, step, clock = decoder.encode, decoder.prefill, decoder.step, time.perf_counter_ns
    prompt, rest = row[:prompt_tokens], row[prompt_tokens:]
    tokens, logits = [], []
    decoder.reset()
    times = [clock()]
    encode(text, special=True)
    times.append(clock())
    said = prefill(prompt)
    top = int(said.argmax())
    times.append(clock())
    tokens.append(top)
    logits.append(float(said[top]))
    for token in rest:
        said = step(token)
        top = int(said.argmax())
        times.append(clock())
        tokens.append(top)
        logits.append(float(said[top]))
    return times, Tops([tokens], [logits])
