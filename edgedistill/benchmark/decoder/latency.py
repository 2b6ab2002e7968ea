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
    each = [1e9 / _mean_step_ns(answer) for answer in rounds]
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
    """Return another model's time over the subject's, of the same round each.

    Prompts are compared by their p50 and decoding by its mean, as the tokens per second of both are, so that a ratio
    stands beside rates that it follows from.

    Args:
        other: its rounds.
        subject: its rounds, in the same order.
    """

    def ratio(time_ns: Callable[[SpeedAnswer], float]) -> Ratio:
        each = [time_ns(theirs) / time_ns(ours) for theirs, ours in zip(other, subject, strict=True)]
        return Ratio(median=float(np.median(each)), low=min(each), high=max(each))

    return DecoderSpeedup(
        prefill=ratio(lambda answer: _p50_ns(prefill_ns(answer))),
        decode=ratio(_mean_step_ns),
        ttft=ratio(lambda answer: _p50_ns(first_ns(answer))),
    )


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


def _mean_step_ns(answer: SpeedAnswer) -> float:
    """Return the mean time of a decoded token: what tokens per second are made of, slow ones included."""
    return float(step_ns(answer).mean())


def _p50_ns(samples_ns: np.ndarray) -> float:
    return float(np.median(samples_ns))
