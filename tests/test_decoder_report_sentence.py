"""The first screen of a language model in words, and its large numbers."""

from typing import Any

from decoder_report_values import FALLBACK, Q4, benchmark, comparison, evidence, nasty_evidence, step, with_q4

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.report.budget import judge, recommend
from edgedistill.report.decoder.sentence import summarise
from edgedistill.report.decoder.tiles import tiles
from edgedistill.report.evidence import find
from edgedistill.report.sentence import Summary
from edgedistill.results import Ratio, Validity


def told(measured: DecoderBenchmark | None = None, **more: Any) -> Summary:
    made = evidence(measured=measured, **more)
    lines = judge(made.recipe.budget, made.benchmark)
    return summarise(made, lines, recommend(lines, made.benchmark))


def test_the_headline_says_what_was_gained_and_kept() -> None:
    assert told().headline == (
        "The Q4_K_M student is 14.0 times smaller than its teacher, 9.7 times faster in decoding, 7.7 times faster in "
        "prefill, and keeps 91.2 % of its next-token accuracy on the test set (89.9 to 92.5)."
    )


def test_speed_is_told_with_its_range_and_against_both_teachers() -> None:
    said = told().speed
    assert (
        "161 tokens/s, 9.7 times faster (9.2 to 10) than the teacher in PyTorch, 3.9 times faster (3.7 to 4.1)" in said
    )
    assert "First token after 62.6 ms" in said
    assert "in GGUF" not in told(with_q4(speedup_exported=None)).speed


def test_a_quantized_file_that_is_no_faster_than_the_float_one_is_told_so() -> None:
    own = find(benchmark(), Q4)
    assert own is not None
    assert own.speedup_float is not None
    level = own.speedup_float.model_copy(update={"prefill": Ratio(median=1.01, low=0.9, high=1.1)})
    said = told(with_q4(speedup_float=level)).speed
    assert "prefill is no faster (0.90 to 1.1 times as fast) than the float student's own file" in said
    assert "On this CPU" not in told().speed


def test_the_stage_that_cost_most_is_named_first_and_a_loss_is_a_rise() -> None:
    assert told().cost.startswith(
        "Distillation cost most: 0.312 nats a token (0.298 to 0.326); quantization cost 0.018"
    )
    dear = (step("teacher", "student", "distill", 0.1, 0.01), step("student", Q4, "quantize", 0.4, 0.01))
    assert told(benchmark(waterfall=dear)).cost.startswith("Quantization cost most")
    fallen = (step("teacher", Q4, "distill", -0.1, 0.01),)
    assert "distillation gained 0.1" in told(benchmark(waterfall=fallen)).cost
    still = (step("teacher", Q4, "distill", 0.001, 0.01),)
    assert told(benchmark(waterfall=still)).cost.startswith("No stage changed its log-likelihood")


def test_the_cost_holds_perplexities_and_divergences() -> None:
    summary = told()
    assert "Perplexity on the test set: teacher 12.3, float student 16.8, this file 17.1." in summary.cost
    assert "From the teacher: KL divergence 0.35 nats a token, 3.2 at the 99th percentile" in summary.cost
    assert "From the float student: KL divergence 0.021 nats a token, 0.17 at the 99th" in summary.quantization
    assert "weighed by an importance matrix of 81,920 tokens" in summary.quantization
    assert FALLBACK in summary.quantization


def test_a_control_is_beaten_only_where_the_student_loses_less() -> None:
    assert "The student beats the same student trained without the teacher by 0.139" in told().controls
    worse = told(benchmark(controls=(comparison(0.139),))).controls
    assert worse.startswith("The student is worse than the same student")
    level = told(benchmark(controls=(comparison(-0.001),))).controls
    assert level.startswith("The student is no better than the same student")


def test_a_control_that_was_not_held_against_the_student_in_pairs_is_not_said_to_be_beaten() -> None:
    said = told(benchmark(controls=())).controls
    assert "perplexity of 19.3 (18.8 to 19.9) on the test set, the student 16.8 (16.3 to 17.3)" in said
    assert "not measured in pairs" in said
    assert "beats" not in said


def test_where_exact_answers_do_not_tell_control_and_student_apart_the_likelihood_does() -> None:
    """Answers that are hardly ever exact hide that the twin without the teacher is better at every token."""
    level = comparison(0.0, 0.16)
    said = told(benchmark(exact_controls=(level,), controls=(comparison(0.98),), conversations=True)).controls
    assert (
        "no better than the same student trained without the teacher (0 points on average, −11 to 11). In likelihood"
        in said
    )
    assert "In likelihood the student is worse than the same student trained without the teacher (−0.980" in said
    better = told(benchmark(exact_controls=(level,), controls=(comparison(-0.98),), conversations=True)).controls
    assert "In likelihood the student beats the same student trained without the teacher by 0.980" in better
    apart = told(benchmark(exact_controls=(comparison(0.1),), controls=(comparison(0.98),), conversations=True))
    assert "In likelihood" not in apart.controls
    alike = told(benchmark(exact_controls=(level,), controls=(comparison(0.001),), conversations=True))
    assert "In likelihood" not in alike.controls


def test_without_controls_that_is_said() -> None:
    made = nasty_evidence()
    lines = judge(made.recipe.budget, made.benchmark)
    said = summarise(made, lines, recommend(lines, made.benchmark))
    assert said.controls == (
        "Without controls nobody can tell distillation from quality that comes for free: distill.controls is off."
    )
    assert "each model was trained once (seed 0)" in said.trust
    assert "emulated, not validly measured" in said.headline


def test_trust_says_threads_seeds_and_what_waited_for_each_other() -> None:
    assert "With 1 thread, as the runtime itself says." in told().trust
    assert "over 2 seeds the student's perplexity on the test set went from 16.7 to 16.8" in told().trust
    own = find(benchmark(), Q4)
    assert own is not None
    slow = own.decode.model_copy(update={"over_single_thread": 1.7})
    assert "a token takes 1.7 times as long as with one: they wait" in told(with_q4(threads=2, decode=slow)).trust
    pool = ("with 2 threads a token took 3.4 times as long as with one",)
    disturbed = told(with_q4(benchmark(validity=Validity(valid=False, disturbed=pool, wrong=())), threads=2))
    assert disturbed.trust.startswith("Do not rely on times")
    assert pool[0] in disturbed.trust


def test_what_is_wrong_voids_the_headline_and_every_promise() -> None:
    wrong = benchmark(validity=Validity(valid=False, disturbed=(), wrong=("another file ran",)))
    assert told(wrong).headline.endswith(
        "None of this is proven, because the measurements are wrong: another file ran."
    )
    lines = judge(evidence().recipe.budget, wrong)
    assert {line.verdict for line in lines} == {"INCONCLUSIVE"}
    subject = find(wrong, Q4)
    assert subject is not None
    assert all("not valid" in tile.detail for tile in tiles(wrong, subject))


def test_a_ratio_of_one_is_a_tile_in_words() -> None:
    own = find(benchmark(), Q4)
    assert own is not None
    level = own.speedup.model_copy(update={"decode": Ratio(median=1.0, low=0.99, high=1.01)})
    tile = tiles(benchmark(), own.model_copy(update={"speedup": level}))[1]
    assert (tile.figure, tile.what) == ("the same", "as its teacher in decoding")
