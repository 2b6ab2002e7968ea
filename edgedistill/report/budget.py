"""Budget: the recipe's promises, each held against what was measured.

A verdict follows the interval, never the point: PASS only where all of it keeps the promise, FAIL only where all
of it breaks it, INCONCLUSIVE between. Disturbed timings prove nothing good; only a miss by more than twice the
budget is believed of them. Memory is what it is on a busy machine, too. Where another thing was measured than the
one that ships, no number proves anything.
"""

from collections.abc import Iterator, Sequence

from edgedistill.decoder_results import DecoderSubject
from edgedistill.recipe_sections import BudgetOptions
from edgedistill.report.evidence import AnyBenchmark, AnySubject, candidates, find, reasons, workload
from edgedistill.report.units import count, duration, interval, percent, share, size
from edgedistill.results import BudgetLine, Latency, Validity, Verdict

_BEST_FIRST: tuple[Verdict, ...] = ("PASS", "INCONCLUSIVE", "FAIL")
_FAR = 2.0  # a miss by more than this factor stands even where the machine was disturbed


def judge(budget: BudgetOptions, benchmark: AnyBenchmark) -> tuple[BudgetLine, ...]:
    """Return one line for each promise and each artifact that may be shipped."""
    validity = benchmark.validity
    lines = tuple(line for subject in candidates(benchmark) for line in _lines(budget, subject, validity))
    return tuple(_void(line, validity) for line in lines) if validity.wrong else lines


def verdict_of(name: str, lines: Sequence[BudgetLine]) -> Verdict:
    """Return the worst verdict of one subject's lines; where nothing was promised, nothing can be kept."""
    own = [line.verdict for line in lines if line.subject == name]
    return max(own, key=_BEST_FIRST.index, default="INCONCLUSIVE")


def recommend(lines: Sequence[BudgetLine], benchmark: AnyBenchmark) -> str | None:
    """Return the name of the artifact with the best verdict, the smallest file among equals; None if there is none."""

    def rank(subject: AnySubject) -> tuple[int, int]:
        return _BEST_FIRST.index(verdict_of(subject.name, lines)), subject.model_bytes

    best = min(candidates(benchmark), key=rank, default=None)
    return None if best is None else best.name


def overall(lines: Sequence[BudgetLine], benchmark: AnyBenchmark) -> Verdict:
    """Return the verdict of the recommended artifact."""
    name = recommend(lines, benchmark)
    return "INCONCLUSIVE" if find(benchmark, name) is None or name is None else verdict_of(name, lines)


def _lines(budget: BudgetOptions, subject: AnySubject, validity: Validity) -> Iterator[BudgetLine]:
    if budget.min_retained_quality is not None:
        yield _quality(budget.min_retained_quality, subject)
    if budget.max_p90_latency_s is not None:
        yield _latency(budget.max_p90_latency_s, subject, validity)
    if budget.max_peak_memory_bytes is not None:
        yield _memory(budget.max_peak_memory_bytes, subject)
    if budget.max_file_bytes is not None:
        yield BudgetLine(
            subject=subject.name,
            key="max_file_bytes",
            promise=f"model file of at most {size(budget.max_file_bytes)}",
            measured=f"{size(subject.model_bytes)} ({count(subject.model_bytes)} bytes)",
            verdict="PASS" if subject.model_bytes <= budget.max_file_bytes else "FAIL",
        )


def _quality(least: float, subject: AnySubject) -> BudgetLine:
    quality = subject.quality.get("test")
    retained = None if quality is None else quality.retained
    verdict: Verdict = "INCONCLUSIVE"
    measured = "not measured on the test set"
    if quality is not None:
        measured = "no ratio with an interval, as the teacher itself is hardly ever right there"
    if retained is not None:
        measured = f"{share(retained)} ({interval(retained)})"
        verdict = "PASS" if retained.low >= least else "FAIL" if retained.high < least else "INCONCLUSIVE"
    promise = f"at least {percent(least)} of the teacher's quality on the test set"
    return BudgetLine(
        subject=subject.name, key="min_retained_quality", promise=promise, measured=measured, verdict=verdict
    )


def _latency(most_s: float, subject: AnySubject, validity: Validity) -> BudgetLine:
    latency, what = _first_answer(subject)
    verdict: Verdict = "INCONCLUSIVE"
    if latency is None:
        measured = "not measured"
    elif latency.p90_s is None or latency.p90_low_s is None or latency.p90_high_s is None:
        measured = f"{latency.count} calls are too few for a p90 with its interval"
    else:
        measured = f"{duration(latency.p90_s)} ({duration(latency.p90_low_s)} to {duration(latency.p90_high_s)})"
        verdict = _under(most_s, latency.p90_low_s, latency.p90_high_s)
        verdict, measured = _if_valid(verdict, measured, latency.p90_low_s / most_s, validity)
    promise = f"p90 of at most {duration(most_s)} {what}"
    return BudgetLine(
        subject=subject.name, key="max_p90_latency_s", promise=promise, measured=measured, verdict=verdict
    )


def _first_answer(subject: AnySubject) -> tuple[Latency | None, str]:
    """Return what a latency is promised of: the answer to a short text, or the first token of one that goes on."""
    if isinstance(subject, DecoderSubject):
        return subject.ttft, f"to the first token after a prompt of {count(subject.prefill.tokens)} tokens"
    result = workload(subject)
    return (None if result is None else result.latency), "for one short text"


def _memory(most_bytes: int, subject: AnySubject) -> BudgetLine:
    memory = subject.memory
    measured = f"{size(memory.peak_median_bytes)}, at most {size(memory.peak_max_bytes)}"
    verdict = _under(most_bytes, memory.peak_median_bytes, memory.peak_max_bytes)
    promise = f"peak memory of at most {size(most_bytes)}"
    return BudgetLine(
        subject=subject.name, key="max_peak_memory_bytes", promise=promise, measured=measured, verdict=verdict
    )


def _under(most: float, low: float, high: float) -> Verdict:
    return "PASS" if high <= most else "FAIL" if low > most else "INCONCLUSIVE"


def _if_valid(verdict: Verdict, measured: str, over_budget: float, validity: Validity) -> tuple[Verdict, str]:
    """Return the verdict and its words as far as the benchmark's validity lets them stand."""
    if not validity.disturbed or validity.wrong or over_budget > _FAR:  # what is wrong is said of every line
        return verdict, measured
    return "INCONCLUSIVE", f"{measured}; not valid: {reasons(validity)}"


def _void(line: BudgetLine, validity: Validity) -> BudgetLine:
    measured = f"{line.measured}; not valid: {reasons(validity)}"
    return line.model_copy(update={"measured": measured, "verdict": "INCONCLUSIVE"})
