"""Whether the measurements can be trusted; each reason why not is a sentence."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgedistill.benchmark.jobs import LatencyAnswer
from edgedistill.results import Noise, Subject
from edgedistill.targets._target import Target

PRESSURE_LIMIT_PERCENT = 5.0
STEAL_LIMIT_PERCENT = 2.0
CPU_PER_WALL_LIMIT = 0.95
ROUND_LIMIT = 1.5  # p50 of a round over that of the middle round, or the other way round
ODD_ROUNDS_LIMIT = 0.25  # share of rounds beyond that; a median of five is not moved by one odd round

INTEGER_KERNELS = frozenset(
    {
        "DynamicQuantizeMatMul",
        "GatherBlockQuantized",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QGemm",
        "QLinearMatMul",
    }
)
"""Operators that read small integers even where a profile does not list their weights, as those are packed."""

WITHOUT_CODES = frozenset({"float32", "float16"})
"""Schemes that promise no integer kernel: half precision is widened when the file is loaded, or a row is looked up."""


def answers_agree(
    rounds: Sequence[LatencyAnswer], expected: Mapping[str, Sequence[np.ndarray]], tolerance: float
) -> bool:
    """Whether every timed call gave the logits expected of its batch.

    Args:
        rounds: one model's.
        expected: workload -> logits of each batch, (batch, classes).
        tolerance: largest difference, relative to the largest expected logit where that is above 1.
    """
    return all(
        _close(np.array(answer.workloads[name].logits, dtype=np.float32), np.stack(batches), tolerance)
        for answer in rounds
        for name, batches in expected.items()
    )


def _close(measured: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    if measured.shape != expected.shape:
        return False
    return bool(np.abs(measured - expected).max() <= tolerance * max(1.0, float(np.abs(expected).max())))


def reads_codes(kernel: str) -> bool:
    """Whether a kernel works on codes of 8 bits or fewer; a runtime names their type in brackets, as `Gather[int8]`."""
    return "[" in kernel or kernel in INTEGER_KERNELS


def reasons_of_place(target: Target, host: Target, threads: int) -> Iterator[str]:
    """Yield what makes this machine the wrong place to measure for `target`."""
    extra = sorted(host.cpu_features - target.cpu_features)
    if extra:
        yield f"this CPU has {', '.join(extra)}, which target {target.name} does not promise: it may be slower there"
    if threads > host.threads:
        yield f"{threads} threads were asked for, and this process may use {host.threads} CPUs"


def disturbances_of(subject: Subject, threads: int) -> Iterator[str]:
    """Yield everything that makes one model's times doubtful."""
    yield from (f"{subject.title}: {reason}" for reason in noisy(subject.noise, threads))
    yield from (f"{subject.title}: {reason}" for reason in _apart(subject))
    for workload in subject.workloads:
        if workload.latency.p90_s is None:
            yield f"{subject.title}: {workload.latency.count} calls of {workload.workload} cannot carry a p90 (64 can)"


def faults_of(subject: Subject, exported_sha256: str) -> Iterator[str]:
    """Yield everything that says that another thing was measured than the one that ships."""
    if not subject.outputs_checked:
        yield f"{subject.title}: the timed calls gave other answers than the quality was measured on"
    if subject.scheme not in WITHOUT_CODES and not any(map(reads_codes, subject.kernels)):
        ran = ", ".join(subject.kernels)
        yield f"{subject.title}: no integer kernel ran ({ran}); the weights were unfolded to float"
    if subject.sha256 != exported_sha256:
        yield f"{subject.title}: the measured file is not the exported one (sha256 {subject.sha256[:12]}…)"


def _apart(subject: Subject) -> Iterator[str]:
    """Yield the workload whose rounds disagree most, if too many do: the machine was not the same in each.

    A single odd round among many is not told here: it widens the range of the ratio, and does not move its median.
    """
    counts = {
        workload.workload: sum(odd(p50_s, workload.round_p50_s) for p50_s in workload.round_p50_s)
        for workload in subject.workloads
        if not workload.pause_s
    }
    worst, rounds = max(counts, key=lambda name: counts[name]), len(subject.workloads[0].round_p50_s)
    if counts[worst] > ODD_ROUNDS_LIMIT * rounds:
        yield (
            f"{counts[worst]} of {rounds} rounds of {worst} were more than {ROUND_LIMIT:g} times as fast or as slow "
            "as the middle one"
        )


def odd(p50_s: float, rounds_s: Sequence[float]) -> bool:
    """Whether one round was far faster or slower than the middle one."""
    middle_s = float(np.median(rounds_s))
    return max(p50_s / middle_s, middle_s / p50_s) > ROUND_LIMIT


def noisy(noise: Noise, threads: int) -> Iterator[str]:
    """Yield the gates that the noise record misses.

    With several threads a model may leave some of them idle, so only one CPU's worth of work is asked for.
    """
    if noise.cpu_pressure_percent is not None and noise.cpu_pressure_percent >= PRESSURE_LIMIT_PERCENT:
        yield (
            f"something waited for a CPU during {noise.cpu_pressure_percent:.1f} % of the timed calls "
            f"(limit {PRESSURE_LIMIT_PERCENT:g} %)"
        )
    if noise.steal_percent is not None and noise.steal_percent >= STEAL_LIMIT_PERCENT:
        yield f"other guests took {noise.steal_percent:.1f} % of the CPU time (limit {STEAL_LIMIT_PERCENT:g} %)"
    busy = noise.cpu_per_wall * threads
    if busy <= CPU_PER_WALL_LIMIT:
        yield f"the model was on a CPU {100 * busy:.0f} % of the timed calls (limit {100 * CPU_PER_WALL_LIMIT:g} %)"
