"""Whether the measurements of language models can be trusted; each reason why not is a sentence."""

from collections.abc import Iterator, Sequence

import numpy as np

from edgedistill.benchmark.decoder.jobs import SpeedAnswer, Tops
from edgedistill.benchmark.validity import ODD_ROUNDS_LIMIT, ROUND_LIMIT, noisy, odd
from edgedistill.decoder_results import DecoderSubject

OVERSUBSCRIBED_LIMIT = 3.0  # time per token over that with one thread
TOLERANCE = 1e-3  # of a logit, relative to the largest where that is above 1


def answers_agree(rounds: Sequence[SpeedAnswer], expected: Tops) -> bool:
    """Whether every timed pass said what the model said when its quality was measured.

    Another token is the same answer where its logit is: two may be equally likely.
    """
    return all(_close(np.array(answer.tops.logits), np.array(expected.logits)) for answer in rounds)


def _close(measured: np.ndarray, expected: np.ndarray) -> bool:
    if measured.shape != expected.shape:
        return False
    return bool(np.abs(measured - expected).max() <= TOLERANCE * max(1.0, float(np.abs(expected).max())))


def disturbances_of(subject: DecoderSubject, threads: int) -> Iterator[str]:
    """Yield everything that makes one model's times doubtful."""
    yield from (f"{subject.title}: {reason}" for reason in noisy(subject.noise, threads))
    yield from (f"{subject.title}: {reason}" for reason in _apart(subject))
    slower = subject.decode.over_single_thread
    if slower is not None and slower > OVERSUBSCRIBED_LIMIT:
        yield (
            f"{subject.title}: with {threads} threads a token took {slower:.1f} times as long as with one; "
            "the threads wait for each other where a CPU is not theirs alone: ask for fewer, or leave the CPUs idle"
        )


def faults_of(subject: DecoderSubject, exported_sha256: str, threads: int) -> Iterator[str]:
    """Yield everything that says that another thing was measured than the one that ships."""
    if not subject.outputs_checked:
        yield f"{subject.title}: the timed passes gave other answers than the quality was measured on"
    if subject.threads != threads:
        yield f"{subject.title}: ran with {subject.threads} threads, and {threads} were asked for"
    if subject.sha256 != exported_sha256:
        yield f"{subject.title}: the measured file is not the exported one (sha256 {subject.sha256[:12]}…)"


def _apart(subject: DecoderSubject) -> Iterator[str]:
    """Yield what was read at another pace in too many rounds: the machine was not the same in each."""
    paces = {part.name: part.round_tokens_per_s for part in (subject.prefill, subject.decode)}
    for name, each in paces.items():
        count = sum(odd(pace, each) for pace in each)
        if count > ODD_ROUNDS_LIMIT * len(each):
            yield (
                f"{count} of {len(each)} rounds of {name} were more than {ROUND_LIMIT:g} times as fast or as slow "
                "as the middle one"
            )
