import pytest
from report_benchmark import CHALLENGES, benchmark, comparison, metric, step
from report_values import evidence, nasty_evidence, place

from edgedistill.recipe_sections import BudgetOptions
from edgedistill.report.budget import judge, recommend
from edgedistill.report.sentence import Summary, summarise
from edgedistill.results import BenchmarkResult, Comparison, Ratio, Step, Validity

SPLITS = ("test", *CHALLENGES)


def told(measured: BenchmarkResult, budget: BudgetOptions | None = None) -> Summary:
    made = evidence(measured=measured, budget=budget)
    lines = judge(made.recipe.budget, measured)
    return summarise(made, lines, recommend(lines, measured))


def with_steps(*values: tuple[str, float, float]) -> BenchmarkResult:
    """Return a benchmark whose waterfall is (stage, value, half width) of each step."""
    names = ("teacher", "student", "onnx.float32", "onnx.dynamic_int8")
    steps: list[Step] = [
        step(before, after, stage, value, half, SPLITS)
        for before, after, (stage, value, half) in zip(names, names[1:], values, strict=False)
    ]
    return benchmark().model_copy(update={"waterfall": tuple(steps)})


def with_controls(*controls: Comparison) -> BenchmarkResult:
    return benchmark().model_copy(update={"controls": controls})


def test_the_first_screen_says_what_was_gained_and_kept() -> None:
    headline = told(benchmark()).headline
    assert "11.3 times smaller" in headline
    assert "85 times faster" in headline
    assert "93.0 % of its accuracy on the test set (91.9 to 94.1)" in headline


@pytest.mark.parametrize(
    ("distill", "quantize", "dearest"), [(-0.06, -0.02, "Distillation"), (-0.01, -0.2, "Quantization")]
)
def test_the_stage_that_cost_most_is_named_first(distill: float, quantize: float, dearest: str) -> None:
    cost = told(with_steps(("distill", distill, 0.005), ("export", 0, 0), ("quantize", quantize, 0.005))).cost
    assert cost.startswith(f"{dearest} cost most")
    assert "export nothing measurable" in cost


def test_a_cost_whose_interval_holds_zero_is_not_told_as_one() -> None:
    cost = told(with_steps(("distill", -0.002, 0.01), ("export", 0, 0), ("quantize", 0.001, 0.01))).cost
    assert cost.startswith("No stage changed its accuracy")
    assert "cost most" not in cost


def test_a_gain_is_told_as_a_gain() -> None:
    cost = told(with_steps(("distill", 0.02, 0.005), ("export", 0, 0), ("quantize", 0.0, 0.01))).cost
    assert "distillation gained 2.0" in cost
    assert cost.startswith("No stage cost accuracy")


def test_a_control_that_is_not_beaten_is_told_as_such() -> None:
    tied = comparison("tfidf_linear", "TF-IDF", 0.001, SPLITS)
    ahead = comparison("no_teacher", "no teacher", -0.02, SPLITS)
    controls = told(with_controls(tied, ahead)).controls
    assert "no better than TF-IDF" in controls
    assert "worse than the same student trained without the teacher" in controls
    assert "beats" not in controls


def test_a_set_on_which_a_control_wins_is_named() -> None:
    controls = told(
        with_controls(comparison("tfidf_linear", "TF-IDF", 0.04, SPLITS, tied=("challenge.amazon",)))
    ).controls
    assert "beats TF-IDF" in controls
    assert "no better on amazon" in controls
    assert "every set" not in controls


def test_the_majority_is_told_only_when_it_is_not_beaten() -> None:
    assert "most frequent" not in told(with_controls(comparison("majority", "majority", 0.3, SPLITS))).controls
    assert "no better than the most frequent" in told(with_controls(comparison("majority", "m", 0.0, SPLITS))).controls


def test_missing_controls_are_told_with_their_reason() -> None:
    made = nasty_evidence()
    assert "distill.controls is off" in summarise(made, (), "onnx.int4_groupwise").controls


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Ratio(median=1.02, low=0.97, high=1.08), "no faster"),
        (Ratio(median=0.5, low=0.49, high=0.51), "2.0 times slower"),
        (Ratio(median=50.0, low=49.8, high=50.2), "50.0 times faster"),
    ],
)
def test_speed_is_told_by_its_range(ratio: Ratio, text: str) -> None:
    subjects = [one.model_copy(update={"speedup": {"batch_1_short": ratio}}) for one in benchmark().subjects]
    assert text in told(benchmark().model_copy(update={"subjects": tuple(subjects)})).headline


def test_doubtful_measurements_say_so_beside_the_number() -> None:
    validity = Validity(valid=False, reasons=("one", "two", "three", "four"))
    environment = benchmark().environment.model_copy(update={"emulated": True, "target": "raspberry_pi_5"})
    summary = told(benchmark().model_copy(update={"validity": validity, "environment": environment}))
    assert "85 times faster (batch 1, short texts, emulated, not validly measured)" in summary.headline
    assert "Do not rely" in summary.trust
    assert "one; two; and 2 more reasons" in summary.trust
    assert "raspberry_pi_5, which is emulated" in summary.trust


def test_no_budget_is_told() -> None:
    summary = told(benchmark(), BudgetOptions())
    assert summary.budget == "No budget was set."
    assert summary.sentences.endswith("No budget was set.")


def test_a_missed_budget_names_the_promise_and_the_number() -> None:
    text = told(benchmark(), BudgetOptions(max_file_bytes=1_000_000)).budget
    assert "misses" in text
    assert "1.00 MB" in text
    assert "8.01 MB" in text


def test_more_than_the_teacher_is_told_as_more() -> None:
    subjects = []
    for one in benchmark().subjects:
        test = one.quality["test"].model_copy(update={"retained": metric(1.05)})
        subjects.append(one.model_copy(update={"quality": {**one.quality, "test": test}}))
    assert "more than its teacher" in told(benchmark().model_copy(update={"subjects": tuple(subjects)})).headline


def test_nothing_to_ship_is_told() -> None:
    made = evidence(measured=benchmark().model_copy(update={"subjects": benchmark().subjects[:2]}))
    place(made.benchmark, "benchmark")
    assert "nothing to ship" in summarise(made, (), None).headline
