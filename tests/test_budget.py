from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_benchmark import benchmark, latency, subject

from edgedistill.recipe_sections import BudgetOptions
from edgedistill.report.budget import judge, overall, recommend, verdict_of
from edgedistill.results import BenchmarkResult, BudgetLine, Memory, Subject, Validity, Verdict, WorkloadResult
from edgedistill.values import Metric

INT8 = "onnx.dynamic_int8"
Judge = Callable[[BudgetOptions, BenchmarkResult], tuple[BudgetLine, ...]]


def changed(result: BenchmarkResult, **updates: object) -> BenchmarkResult:
    """Return the benchmark with other measurements of its int8 artifact."""
    subjects = [one.model_copy(update=updates) if one.name == INT8 else one for one in result.subjects]
    return result.model_copy(update={"subjects": tuple(subjects)})


def retaining(low: float, value: float, high: float) -> BenchmarkResult:
    quality = int8(benchmark()).quality
    test = quality["test"].model_copy(update={"retained": Metric(value=value, low=low, high=high, n=500)})
    return changed(benchmark(), quality={**quality, "test": test})


def taking(low_s: float, high_s: float) -> BenchmarkResult:
    interval = {"p90_s": (low_s + high_s) / 2, "p90_low_s": low_s, "p90_high_s": high_s}
    first = int8(benchmark()).workloads[0]
    return changed(benchmark(), workloads=(with_latency(first, **interval),))


def with_latency(result: WorkloadResult, **updates: object) -> WorkloadResult:
    return result.model_copy(update={"latency": result.latency.model_copy(update=updates)})


def peaking(median_bytes: int, max_bytes: int) -> BenchmarkResult:
    memory = Memory(peak_median_bytes=median_bytes, peak_max_bytes=max_bytes, imported_median_bytes=1, source="VmHWM")
    return changed(benchmark(), memory=memory)


def invalid(result: BenchmarkResult) -> BenchmarkResult:
    return result.model_copy(
        update={"validity": Validity(valid=False, disturbed=("the clock was throttled",), wrong=())}
    )


def wrong(result: BenchmarkResult, disturbed: tuple[str, ...] = ()) -> BenchmarkResult:
    validity = Validity(valid=False, disturbed=disturbed, wrong=("the measured file is not the exported one",))
    return result.model_copy(update={"validity": validity})


def int8(result: BenchmarkResult) -> Subject:
    return next(one for one in result.subjects if one.name == INT8)


def only(lines: tuple[BudgetLine, ...]) -> BudgetLine:
    (line,) = lines
    return line


QUALITY, LATENCY = BudgetOptions(min_retained_quality=0.9), BudgetOptions(max_p90_latency_s=0.001)
MEMORY = BudgetOptions(max_peak_memory_bytes=80_000_000)


@pytest.mark.parametrize(
    ("budget", "result", "verdict"),
    [
        (QUALITY, retaining(0.91, 0.92, 0.93), "PASS"),
        (QUALITY, retaining(0.90, 0.92, 0.93), "PASS"),
        (QUALITY, retaining(0.89, 0.92, 0.95), "INCONCLUSIVE"),
        (QUALITY, retaining(0.85, 0.88, 0.90), "INCONCLUSIVE"),
        (QUALITY, retaining(0.85, 0.88, 0.899), "FAIL"),
        (LATENCY, taking(0.0007, 0.001), "PASS"),
        (LATENCY, taking(0.0007, 0.0011), "INCONCLUSIVE"),
        (LATENCY, taking(0.0011, 0.0012), "FAIL"),
        (MEMORY, peaking(79_000_000, 80_000_000), "PASS"),
        (MEMORY, peaking(79_000_000, 81_000_000), "INCONCLUSIVE"),
        (MEMORY, peaking(80_000_001, 81_000_000), "FAIL"),
        (BudgetOptions(max_file_bytes=8_010_000), benchmark(), "PASS"),
        (BudgetOptions(max_file_bytes=8_009_999), benchmark(), "FAIL"),
    ],
)
def test_a_verdict_follows_the_whole_interval(budget: BudgetOptions, result: BenchmarkResult, verdict: Verdict) -> None:
    assert only(judge(budget, result)).verdict == verdict


def straddling_is_open(judge: Judge) -> bool:
    """Whether an interval on both sides of the budget is called open, wherever its point lies."""
    return all(
        only(judge(QUALITY, retaining(0.8, point, 0.95))).verdict == "INCONCLUSIVE"
        for point in (0.81, 0.89, 0.91, 0.94)
    )


def test_a_judge_of_points_is_told_from_a_judge_of_intervals() -> None:
    def judge_points(budget: BudgetOptions, result: BenchmarkResult) -> tuple[BudgetLine, ...]:
        line, retained = only(judge(budget, result)), int8(result).quality["test"].retained
        assert retained is not None
        assert budget.min_retained_quality is not None
        return (
            line.model_copy(update={"verdict": "PASS" if retained.value >= budget.min_retained_quality else "FAIL"}),
        )

    assert straddling_is_open(judge)
    assert not straddling_is_open(judge_points)


@given(st.floats(0.5, 1.4), st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0.5, 1.4), st.floats(0.5, 1.4))
def test_a_looser_promise_never_has_a_worse_verdict(
    value: float, below: float, above: float, one: float, other: float
) -> None:
    result, order = retaining(value - below, value, value + above), ("FAIL", "INCONCLUSIVE", "PASS")
    loose, strict = (only(judge(BudgetOptions(min_retained_quality=q), result)).verdict for q in sorted((one, other)))
    assert order.index(loose) >= order.index(strict)


@pytest.mark.parametrize(
    ("budget", "result", "verdict"),
    [
        (LATENCY, taking(0.0001, 0.0002), "INCONCLUSIVE"),
        (LATENCY, taking(0.0011, 0.0012), "INCONCLUSIVE"),
        (LATENCY, taking(0.0021, 0.003), "FAIL"),
        (MEMORY, peaking(1_000_000, 1_000_000), "PASS"),  # a busy machine makes nothing larger
        (MEMORY, peaking(90_000_000, 90_000_000), "FAIL"),
        (QUALITY, retaining(0.91, 0.92, 0.93), "PASS"),
        (BudgetOptions(max_file_bytes=9_000_000), benchmark(), "PASS"),
    ],
)
def test_invalid_timings_prove_nothing_good(budget: BudgetOptions, result: BenchmarkResult, verdict: Verdict) -> None:
    line = only(judge(budget, invalid(result)))
    assert line.verdict == verdict
    if verdict == "INCONCLUSIVE":
        assert "throttled" in line.measured


FILE = BudgetOptions(max_file_bytes=9_000_000)
EVERY = BudgetOptions(
    min_retained_quality=0.9, max_p90_latency_s=0.001, max_peak_memory_bytes=80_000_000, max_file_bytes=9_000_000
)
MEASURED_ANYHOW = [
    (QUALITY, retaining(0.91, 0.92, 0.93)),
    (QUALITY, retaining(0.5, 0.6, 0.7)),
    (LATENCY, taking(0.0001, 0.0002)),
    (LATENCY, taking(0.0021, 0.003)),
    (MEMORY, peaking(170_000_000, 170_000_000)),
    (FILE, benchmark()),
    (BudgetOptions(max_file_bytes=10), benchmark()),
]


def wrong_is_open(judge: Judge) -> bool:
    """Whether nothing is promised, kept or broken by the numbers of another model, and the line says why."""
    lines = [only(judge(budget, wrong(result))) for budget, result in MEASURED_ANYHOW]
    return all(line.verdict == "INCONCLUSIVE" and "not the exported one" in line.measured for line in lines)


def test_the_numbers_of_another_model_prove_nothing() -> None:
    def judge_as_if_disturbed(budget: BudgetOptions, result: BenchmarkResult) -> tuple[BudgetLine, ...]:
        validity = Validity(valid=False, disturbed=result.validity.wrong, wrong=())
        return judge(budget, result.model_copy(update={"validity": validity}))

    assert wrong_is_open(judge)
    assert not wrong_is_open(judge_as_if_disturbed)


def test_every_line_and_the_whole_are_open_where_another_model_was_measured() -> None:
    for result in (wrong(benchmark()), wrong(benchmark(), disturbed=("the clock was throttled",))):
        lines = judge(EVERY, result)
        assert [line.verdict for line in lines] == ["INCONCLUSIVE"] * 4
        assert all(line.measured.count("not valid") == 1 for line in lines)
        assert overall(lines, result) == "INCONCLUSIVE"
        assert overall((), result) == "INCONCLUSIVE"
    assert overall(judge(EVERY, invalid(benchmark())), invalid(benchmark())) == "INCONCLUSIVE"
    assert only(judge(FILE, invalid(benchmark()))).verdict == "PASS", "noise does not change a size"


def test_too_few_calls_leave_the_latency_open() -> None:
    first = int8(benchmark()).workloads[0].model_copy(update={"latency": latency(0.0001, count=20)})
    line = only(judge(LATENCY, changed(benchmark(), workloads=(first,))))
    assert line.verdict == "INCONCLUSIVE"
    assert "20 calls" in line.measured


def test_an_unmeasured_workload_leaves_the_latency_open() -> None:
    assert only(judge(LATENCY, changed(benchmark(), workloads=()))).verdict == "INCONCLUSIVE"


def test_only_quantized_artifacts_are_judged_unless_there_are_none() -> None:
    budget, result = BudgetOptions(max_file_bytes=10**9), benchmark()
    assert {line.subject for line in judge(budget, result)} == {INT8}
    float_only = result.model_copy(update={"subjects": result.subjects[:-1]})
    assert {line.subject for line in judge(budget, float_only)} == {"onnx.float32"}


def test_the_best_verdict_is_put_forward_and_the_smallest_file_among_equals() -> None:
    small = subject("onnx.int4", "int4", 0.0001, 4_000_000, 0.5, ("test",), 0.01)
    result = benchmark().model_copy(update={"subjects": (*benchmark().subjects, small)})
    lines = judge(QUALITY, result)
    assert verdict_of("onnx.int4", lines) == "FAIL"
    assert recommend(lines, result) == INT8, "a smaller file that fails is not put forward"
    assert recommend((), result) == "onnx.int4", "without a budget the smallest file is"


def test_the_verdict_is_the_worst_line_of_the_artifact_put_forward() -> None:
    budget = BudgetOptions(min_retained_quality=0.9, max_file_bytes=10)
    assert overall(judge(budget, benchmark()), benchmark()) == "FAIL"


def test_where_nothing_is_promised_nothing_passes() -> None:
    for result in (benchmark(), invalid(benchmark())):
        assert overall((), result) == "INCONCLUSIVE"


def test_nothing_exported_is_nothing_to_recommend() -> None:
    result = benchmark().model_copy(update={"subjects": benchmark().subjects[:1]})
    assert recommend((), result) is None
    assert overall((), result) == "INCONCLUSIVE"
