from collections.abc import Callable

import pytest
from report_benchmark import CHALLENGES, benchmark, comparison, metric, step
from report_values import evidence, nasty_evidence, place

from edgedistill.recipe_sections import BudgetOptions
from edgedistill.report.budget import judge, recommend
from edgedistill.report.sentence import Summary, summarise
from edgedistill.results import BenchmarkResult, Comparison, Ratio, SeedResult, Step, Validity
from edgedistill.values import Metric

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


def quantized_by(test: Metric, mean: Metric) -> BenchmarkResult:
    """Return a benchmark in which quantization did this on the test set and this on the mean of all sets."""
    result = benchmark()
    changed = {"differences": {**result.waterfall[-1].differences, "test": test}, "mean": mean}
    return result.model_copy(
        update={"waterfall": (*result.waterfall[:-1], result.waterfall[-1].model_copy(update=changed))}
    )


def with_controls(*controls: Comparison) -> BenchmarkResult:
    return benchmark().model_copy(update={"controls": controls})


def test_the_first_screen_says_what_was_gained_and_kept() -> None:
    assert told(benchmark()).headline == (
        "The dynamic int8 student is 11.3 times smaller than its teacher, 85 times faster, "
        "and keeps 93.0 % of its accuracy on the test set (91.9 to 94.1)."
    )


def test_speed_is_told_with_its_range_its_pauses_and_both_teachers() -> None:
    assert told(benchmark()).speed == (
        "One short text at a time, calls back to back: 85 times faster (80 to 91) than the teacher in PyTorch, "
        "54 times faster (51 to 58) than the teacher in ONNX; "
        "after 20 ms of idling before each call, 34 times faster (32 to 37) than in PyTorch."
    )


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


NOTHING, SMALL = (
    Metric(value=-0.001, low=-0.003, high=0.001, n=900),
    Metric(value=-0.001, low=-0.002, high=-0.0002, n=9),
)


def mean_is_told(cost_of: Callable[[BenchmarkResult], str]) -> bool:
    """Whether a stage is called without effect only where the mean of all sets shows none either."""
    still, moved = cost_of(quantized_by(NOTHING, NOTHING)), cost_of(quantized_by(NOTHING, SMALL))
    return (
        "export and quantization nothing measurable." in still
        and "export nothing measurable; quantization nothing measurable on test, but cost" in moved
        and "cost 0.10 points on the mean of all sets (0.02 to 0.20)" in moved
    )


def test_a_stage_that_only_the_mean_shows_is_not_told_as_nothing() -> None:
    def by_the_test_set_alone(measured: BenchmarkResult) -> str:
        alone = [one.model_copy(update={"mean": one.differences["test"]}) for one in measured.waterfall]
        return told(measured.model_copy(update={"waterfall": tuple(alone)})).cost

    assert mean_is_told(lambda measured: told(measured).cost)
    assert not mean_is_told(by_the_test_set_alone)


def test_a_gain_that_only_the_mean_shows_is_told_as_a_gain() -> None:
    gain = Metric(value=0.004, low=0.001, high=0.007, n=900)
    cost = told(quantized_by(NOTHING, gain)).cost
    assert "quantization nothing measurable on test, but gained 0.4 points on the mean of all sets (0.1 to 0.7)" in cost


def test_a_mean_that_moved_is_told_where_no_stage_changed_the_test_set() -> None:
    still = with_steps(("distill", -0.002, 0.01), ("export", 0, 0), ("quantize", -0.002, 0.005))
    assert "mean" not in told(still).cost
    steps = (*still.waterfall[:-1], still.waterfall[-1].model_copy(update={"mean": SMALL}))
    cost = told(still.model_copy(update={"waterfall": steps})).cost
    assert cost.startswith("No stage changed its accuracy")
    assert cost.endswith("; but quantization cost 0.10 points on the mean of all sets (0.02 to 0.20).")


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


def test_a_set_on_which_a_control_is_better_is_not_told_as_a_tie() -> None:
    mixed = comparison("no_teacher", "no teacher", 0.02, SPLITS, tied=("challenge.amazon",))
    lost = mixed.differences["challenge.tweets"].model_copy(update={"value": -0.05, "low": -0.07, "high": -0.03})
    mixed = mixed.model_copy(update={"differences": {**mixed.differences, "challenge.tweets": lost}})
    assert "but is worse on tweets and no better on amazon." in told(with_controls(mixed)).controls


def test_the_majority_is_told_only_when_it_is_not_beaten() -> None:
    assert "most frequent" not in told(with_controls(comparison("majority", "majority", 0.3, SPLITS))).controls
    assert "no better than the most frequent" in told(with_controls(comparison("majority", "m", 0.0, SPLITS))).controls


def test_missing_controls_are_told_with_their_reason() -> None:
    made = nasty_evidence()
    assert "distill.controls is off" in summarise(made, (), "onnx.int4_groupwise").controls


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Ratio(median=1.02, low=0.97, high=1.08), "no faster (0.97 to 1.1 times as fast) than"),
        (Ratio(median=0.5, low=0.49, high=0.51), "2.0 times slower (2.0 to 2.0) than"),
        (Ratio(median=0.5, low=0.25, high=0.8), "2.0 times slower (1.2 to 4.0) than"),
        (Ratio(median=50.0, low=49.8, high=50.2), "50.0 times faster (49.8 to 50.2) than"),
    ],
)
def test_speed_is_told_by_its_range(ratio: Ratio, text: str) -> None:
    subjects = [one.model_copy(update={"speedup": {"batch_1_short": ratio}}) for one in benchmark().subjects]
    assert text in told(benchmark().model_copy(update={"subjects": tuple(subjects)})).speed


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (
            Ratio(median=61.0, low=55.0, high=70.0),
            "; after 20 ms of idling before each call, 61 times faster (55 to 70) than",
        ),
        (Ratio(median=1.02, low=0.97, high=1.08), "before each call, no faster (0.97 to 1.1 times as fast) than"),
        (Ratio(median=0.5, low=0.49, high=0.51), "before each call, 2.0 times slower (2.0 to 2.0) than"),
        (None, "than the teacher in ONNX."),
    ],
)
def test_speed_after_idling_stands_beside_it(ratio: Ratio | None, text: str) -> None:
    subjects = []
    for one in benchmark().subjects:
        spaced = {} if ratio is None else {"batch_1_spaced": ratio}
        speed = {work: found for work, found in one.speedup.items() if work != "batch_1_spaced"}
        subjects.append(one.model_copy(update={"speedup": {**speed, **spaced}}))
    assert text in told(benchmark().model_copy(update={"subjects": tuple(subjects)})).speed


def test_numbers_of_another_model_are_not_told_as_its_own() -> None:
    validity = Validity(valid=False, disturbed=("noise",), wrong=("the measured file is not the exported one",))
    summary = told(benchmark().model_copy(update={"validity": validity}))
    assert summary.headline.endswith(
        "None of this is proven, because the measurements are wrong: the measured file is not the exported one."
    )
    assert "any number here, quality included" in summary.trust
    assert "is open" in summary.budget


def test_doubtful_measurements_say_so_beside_the_number() -> None:
    validity = Validity(valid=False, disturbed=("one", "two", "three", "four"), wrong=())
    environment = benchmark().environment.model_copy(update={"emulated": True, "target": "raspberry_pi_5"})
    summary = told(benchmark().model_copy(update={"validity": validity, "environment": environment}))
    assert "85 times faster (emulated, not validly measured), and" in summary.headline
    assert "proven" not in summary.headline, "noise does not touch quality and size"
    assert "Do not rely on times (" in summary.trust
    assert "one; two; and 2 more reasons" in summary.trust
    assert "raspberry_pi_5, which is emulated" in summary.trust


def over_seeds(*gains: float) -> BenchmarkResult:
    """Return a benchmark whose student was trained with several seeds, each with this gain on every set."""
    found = [
        SeedResult(
            seed=seed,
            quality={split: metric(0.8 + gain) for split in SPLITS},
            differences={split: metric(gain) for split in SPLITS},
            mean=metric(gain),
        )
        for seed, gain in enumerate(gains)
    ]
    return benchmark().model_copy(update={"seeds": tuple(found)})


def test_one_seed_is_said_to_be_one_and_several_with_their_spread() -> None:
    assert "each model was trained once (seed 0): another seed differs." in told(benchmark()).trust
    trust = told(over_seeds(0.011, -0.002, 0.013)).trust
    assert "over 3 seeds the gain from the teacher went from" in trust
    assert "trained once" not in trust
    assert trust.index("0.2") < trust.index("1.3"), "from the smallest to the largest, whatever their order"


def test_no_budget_is_told() -> None:
    summary = told(benchmark(), BudgetOptions())
    assert summary.budget == "No budget was set, so there is nothing to pass."
    assert summary.sentences.endswith("No budget was set, so there is nothing to pass.")


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
