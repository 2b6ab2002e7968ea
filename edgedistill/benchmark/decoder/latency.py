"""What the rounds of one language model add up to: prefill, decode, time to first token, ratios, memory, noise."""

from collections.abc import Callable, Sequence

import numpy as np

from edgedistill.benchmark.decoder.jobs import Passes, SpeedAnswer
from edgedistill.benchmark.latency import latency_of, noise_over
from edgedistill.decoder_results import Decode, DecoderSpeedup, Prefill
from edgedistill.results import Latency, Noise, Ratio

Rounds = Sequence[SpeedAnswer]


def prefill_of(rounds: Rounds, passes: Passes) -> Prefill:
    """Return how fast prompts were read."""
    tokens = passes.prompt_tokens
    each = [tokens / (_p50_ns(prefill_ns(answer)) * 1e-9) for answer in rounds]
    return Prefill(
        name=f"pp{tokens}",
        tokens=tokens,
        latency=latency_of([prefill_ns(answer) for answer in rounds]),
        tokens_per_s=float(np.median(each)),
        round_tokens_per_s=tuple(each),
    )


def decode_of(rounds: Rounds, passes: Passes, single_threaded: SpeedAnswer | None) -> Decode:
    """Return how fast token after token was read.

    Args:
        rounds: of the model.
        passes: what it read.
        single_threaded: the same model with one thread; None where the rounds had no more.
    """
    each = [float(1e9 / step_ns(answer).mean()) for answer in rounds]
    pooled_ns = np.concatenate([step_ns(answer) for answer in rounds])
    return Decode(
        name=f"tg{passes.decode_tokens} @ d{passes.prompt_tokens}",
        tokens=passes.decode_tokens,
        depth=passes.prompt_tokens,
        tpot=latency_of([step_ns(answer) for answer in rounds]),
        tokens_per_s=float(np.median(each)),
        round_tokens_per_s=tuple(each),
        over_single_thread=None if single_threaded is None else _p50_ns(pooled_ns) / _p50_ns(step_ns(single_threaded)),
    )


def ttft_of(rounds: Rounds) -> Latency:
    """Return the time from a prompt's text to the first token after it."""
    return latency_of([first_ns(answer) for answer in rounds])


def speedup(other: Rounds, subject: Rounds) -> DecoderSpeedup:
    """Return another model's p50 over the subject's, of the same round each.

    Args:
        other: its rounds.
        subject: its rounds, in the same order.
    """

    def ratio(part: Callable[[SpeedAnswer], np.ndarray]) -> Ratio:
        each = [_p50_ns(part(theirs)) / _p50_ns(part(ours)) for theirs, ours in zip(other, subject, strict=True)]
        return Ratio(median=float(np.median(each)), low=min(each), high=max(each))

    return DecoderSpeedup(prefill=ratio(prefill_ns), decode=ratio(step_ns), ttft=ratio(first_ns))


def noise_of(rounds: Rounds, threads: int) -> Noise:
    """Return what else went on during all timed passes of all rounds."""
    return noise_over([answer.noise for answer in rounds], threads)


def prefill_ns(answer: SpeedAnswer) -> np.ndarray:
    """Return the time of each prompt, (passes,)."""
    return np.asarray(answer.prefill_ns)


def step_ns(answer: SpeedAnswer) -> np.ndarray:
    """Return the time of each decoded token of all passes, (passes * tokens,)."""
    return np.asarray(answer.step_ns).ravel()


def first_ns(answer: SpeedAnswer) -> np.ndarray:
    """Return the time to the first token of each pass, (passes,): tokenizer and prefill."""
    first: np.ndarray = np.asarray(answer.encode_ns) + np.asarray(answer.prefill_ns)
    return first


def _p50_ns(samples_ns: np.ndarray) -> float:
    return float(np.median(samples_ns))
