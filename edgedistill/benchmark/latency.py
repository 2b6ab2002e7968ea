"""What the rounds of one model add up to: latency, ratio to the teacher, memory, noise."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from edgedistill.benchmark.jobs import LatencyAnswer, Timing
from edgedistill.benchmark.noise import Counters
from edgedistill.results import Latency, Memory, Noise, Ratio, WorkloadResult
from edgedistill.statistics import percentile_interval, percentile_supported

SAMPLES_KEPT = 500

Rounds = Sequence[LatencyAnswer]


class Peaks(Protocol):
    """What a process says of its memory."""

    @property
    def imported_bytes(self) -> int:
        """Peak before the model was loaded."""

    @property
    def peak_bytes(self) -> int:
        """Peak of all."""

    @property
    def memory_source(self) -> str:
        """How they were read."""


def latency_of(rounds_ns: Sequence[np.ndarray]) -> Latency:
    """Return the summary of all calls; a percentile that they cannot carry stays empty.

    Calls of one process are alike, so the order-statistic interval of the pooled calls alone would be too narrow: it
    is widened to hold what each round by itself gives for the p90.

    Args:
        rounds_ns: (calls,) ns of each round.
    """
    samples_s = np.concatenate(rounds_ns) * 1e-9
    count = len(samples_s)
    tails = {p: float(np.percentile(samples_s, p)) if percentile_supported(p, count) else None for p in (90, 95, 99)}
    low, high = percentile_interval(samples_s, 90) if tails[90] is not None else (None, None)
    if low is not None and high is not None:
        own = [float(np.percentile(samples_ns, 90)) * 1e-9 for samples_ns in rounds_ns]
        low, high = min(low, *own), max(high, *own)
    return Latency(
        count=count,
        min_s=float(samples_s.min()),
        p50_s=float(np.median(samples_s)),
        p90_s=tails[90],
        p95_s=tails[95],
        p99_s=tails[99],
        p90_low_s=low,
        p90_high_s=high,
    )


def workload_of(name: str, batch: int, pause_s: float, rounds: Rounds) -> WorkloadResult:
    """Return one workload over all rounds."""
    timings = [answer.workloads[name] for answer in rounds]
    whole_ns = [np.asarray(timing.whole_ns) for timing in timings]
    ordered_s = np.sort(np.concatenate(whole_ns)) * 1e-9
    kept = np.linspace(0, len(ordered_s) - 1, min(SAMPLES_KEPT, len(ordered_s))).round().astype(int)
    return WorkloadResult(
        workload=name,
        batch=batch,
        pause_s=pause_s,
        tokens=round(timings[0].tokens),
        latency=latency_of(whole_ns),
        model_only=latency_of([np.asarray(timing.model_ns) for timing in timings]),
        items_per_s=float(batch / ordered_s.mean()),
        round_p50_s=tuple(float(np.median(samples_ns)) * 1e-9 for samples_ns in whole_ns),
        samples_s=tuple(ordered_s[kept].tolist()),
    )


def speedups(teacher: Rounds, subject: Rounds, part: Callable[[Timing], Sequence[int]]) -> dict[str, Ratio]:
    """Return for each workload the teacher's p50 over the subject's, of the same round each.

    Args:
        teacher: its rounds.
        subject: its rounds, in the same order.
        part: which samples of a timing, in ns.
    """
    ratios = {
        name: [
            float(np.median(part(theirs.workloads[name])) / np.median(part(ours.workloads[name])))
            for theirs, ours in zip(teacher, subject, strict=True)
        ]
        for name in teacher[0].workloads
    }
    return {name: Ratio(median=float(np.median(r)), low=min(r), high=max(r)) for name, r in ratios.items()}


def memory_of(rounds: Sequence[Peaks]) -> Memory:
    """Return the peaks of the rounds' processes."""
    peaks = [answer.peak_bytes for answer in rounds]
    return Memory(
        peak_median_bytes=round(float(np.median(peaks))),
        peak_max_bytes=max(peaks),
        imported_median_bytes=round(float(np.median([answer.imported_bytes for answer in rounds]))),
        source=rounds[0].memory_source,
    )


def noise_of(rounds: Rounds, threads: int) -> Noise:
    """Return what else went on during all timed calls of all rounds, but for those with idle time between them."""
    timings = [timing for answer in rounds for timing in answer.workloads.values() if not timing.pause_s]
    return noise_over([timing.noise for timing in timings], threads)


def noise_over(counted: Sequence[Counters], threads: int) -> Noise:
    """Return what else went on while these were counted."""
    wall_s = sum(counters.wall_s for counters in counted)
    pressure_s = _total([counters.pressure_s for counters in counted])
    steal = _total([counters.steal_ticks for counters in counted])
    ticks = _total([counters.all_ticks for counters in counted])
    return Noise(
        cpu_pressure_percent=None if pressure_s is None else 100 * pressure_s / wall_s,
        involuntary_switches_per_s=sum(counters.involuntary_switches for counters in counted) / wall_s,
        steal_percent=None if steal is None or not ticks else 100 * steal / ticks,
        cpu_per_wall=sum(counters.cpu_s for counters in counted) / (wall_s * threads),
    )


def _total(counts: Sequence[float | None]) -> float | None:
    """Return the sum; None where the system lacks the counter."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
