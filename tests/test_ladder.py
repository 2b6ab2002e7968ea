"""The ladder: it stops at the first rung that passes, says what each rung measured, and gives what it says it gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished_build import Finished
from report_values import quantized_model
from tiny_quantize import options_of, outlier_model, plain_model, rare_token_model, trial_of

from edgedistill import registry
from edgedistill.errors import QuantizationError, StageError
from edgedistill.export import stage as export
from edgedistill.quantize import ladder, stage
from edgedistill.quantize.judge import Judge
from edgedistill.quantize.ladder import DYNAMIC, LADDER, Step, climb, passes, updated
from edgedistill.quantize.methods._gate import Gate
from edgedistill.quantize.trial import Settled, Trial
from edgedistill.section import MethodOptions
from edgedistill.values import Metric, QuantizationCost

COLLAPSED = {"granularity": "per_tensor", "embeddings": "float32"}
PLAIN = tuple(step for step in LADDER if not step.update.keys() & {"smoothing", "rounding", "method"})


@pytest.fixture(scope="module")
def trial() -> Trial:
    return trial_of(outlier_model())


@pytest.fixture(scope="module")
def settled(trial: Trial) -> Settled:
    return climb(options_of("dynamic_int8", **COLLAPSED), trial, PLAIN)


def faults(asked: MethodOptions, trial: Trial, found: Settled) -> list[str]:
    """Return what is wrong with a climb, measured anew from the options that each rung says it had."""
    gate: Any = getattr(asked, "gate")  # noqa: B009 - not every method has one
    tried = [rung for rung in found.rungs if not rung.skipped]
    wrong = []
    for rung in tried:
        decided = trial.decide(updated(asked, rung.changed))
        if rung.cost != trial.judge.cost(decided) or rung.stored_bytes != trial.stored_bytes(decided):
            wrong.append("a rung has the numbers of its own options")
        if rung.cost is not None and rung.passed != passes(gate, rung.cost):
            wrong.append("a rung passes exactly where the gate holds")
    if [rung.passed for rung in tried] != [False] * (len(tried) - 1) + [True]:
        wrong.append("the first rung that passes is the last")
    if updated(asked, tried[-1].changed) != found.options or not same(found, trial.decide(found.options)):
        wrong.append("what is used is what the last rung measured")
    return wrong


def same(found: Settled, decided: Any) -> bool:
    return found.decided.keys() == decided.keys() and all(
        np.array_equal(found.decided[name].weight(), each.weight()) for name, each in decided.items()
    )


def test_the_outlier_model_computes_what_the_plain_one_does() -> None:
    ids = torch.arange(1, 11).reshape(2, 5)
    with torch.no_grad():
        assert torch.equal(plain_model()(ids, torch.ones_like(ids)), outlier_model()(ids, torch.ones_like(ids)))


def test_naive_int8_collapses_and_is_repaired_rung_by_rung(trial: Trial, settled: Settled) -> None:
    assert [rung.name for rung in settled.rungs] == [
        "as the recipe says",
        "one scale for each output channel",
        "7-bit codes",
        "the most sensitive layer float32",
    ]
    collapsed, per_channel, _, excluded = (rung.cost for rung in settled.rungs)
    assert collapsed is not None
    assert per_channel is not None
    assert excluded is not None
    assert collapsed.agreement.value < 0.9
    assert excluded.kl < per_channel.kl < collapsed.kl, "the weights are mended first, then the activation"
    assert excluded.agreement.value >= 0.99
    assert settled.repaired == "one scale for each output channel; the most sensitive layer float32"
    assert settled.rungs[-1].changed == {"granularity": "per_channel", "overrides": {"output": "float32"}}
    assert settled.decided.keys() == {"hidden"}
    assert settled.sensitivity[0].layer == "output"
    assert not faults(options_of("dynamic_int8", **COLLAPSED), trial, settled)


def test_smoothing_mends_the_activation_and_costs_next_to_nothing(trial: Trial, settled: Settled) -> None:
    asked = options_of("dynamic_int8", **COLLAPSED)
    found = climb(asked, trial)
    assert found.repaired == "one scale for each output channel; smoothing 0.75"
    assert found.rungs[-1].changed == {"granularity": "per_channel", "smoothing": 0.75}
    assert found.decided.keys() == {"hidden", "output"}
    assert "smoothed input" in found.decided["output"].scheme
    assert not faults(asked, trial, found)


def test_a_rung_may_be_another_method() -> None:
    trial = trial_of(rare_token_model())
    asked = options_of("dynamic_int8", embeddings="float32")
    static = Step("static", {"method": "static_int8", "ranges": "percentile", "percentile": 99.0}, DYNAMIC)
    found = climb(asked, trial, (static,))
    before, after = (rung.cost for rung in found.rungs)
    assert before is not None
    assert after is not None
    assert before.agreement.value < 0.99 <= after.agreement.value, "what is rare is clipped"
    assert found.options.SCHEME == "int8_static"
    assert found.rungs[-1].changed["method"] == "static_int8"
    assert "calibrated input" in found.decided["hidden"].scheme
    assert not faults(asked, trial, found)


def methods_of(step: Step) -> list[str]:
    """Return the methods that a rung can change, each checked to take its options."""
    found = []
    for method in registry.names("edgedistill.quantize.methods"):
        options = options_of(method)
        kind = registry.load("edgedistill.quantize.methods", step.update.get("method", method)).Options
        if {*step.update, *step.replaces} <= {*kind.model_fields} and step.replaces.items() <= {
            **options.model_dump(), **{k: v for k, v in step.replaces.items() if k != "method"}
        }.items():  # fmt: skip
            updated(options, step.update)
            found.append(method)
    return found


@pytest.mark.parametrize("step", LADDER, ids=lambda step: step.name)
def test_every_rung_is_a_rung_of_some_method(step: Step) -> None:
    assert methods_of(step)


def test_a_rung_that_no_method_has_is_seen() -> None:
    assert not methods_of(Step("a word mistaken", {"granularty": "per_channel"}))
    with pytest.raises(ValueError, match="granularity"):
        methods_of(Step("a value mistaken", {"granularity": "per_row"}))
    assert len({step.name for step in LADDER}) == len(LADDER)


def test_the_stage_says_what_was_used_in_the_end(finished: Finished, tmp_path: Path, monkeypatch: Any) -> None:
    values = {name: finished.value(name) for name in ("student", "corpus", "signals", "tokens")}
    asked, costs, judged = options_of("dynamic_int8"), [], Judge.cost

    def seen(judge: Judge, decided: Any) -> QuantizationCost:
        costs.append(judged(judge, decided).model_copy(update={"kl": 1 / (2 + len(costs))}))
        return costs[-1]

    monkeypatch.setattr(Judge, "cost", seen)
    monkeypatch.setattr(ladder, "passes", lambda _gate, _cost: len(costs) > 1)
    static = Step("static ranges", {"method": "static_int8"}, DYNAMIC)
    monkeypatch.setattr(stage, "climb", lambda options, trial: climb(options, trial, (static,)))
    made = stage.quantize(asked, **values, folder=tmp_path)
    assert (made.method, made.scheme, made.repaired) == ("dynamic_int8", "int8_static", "static ranges")
    assert any("calibrated input" in tensor.scheme for tensor in made.tensors)
    assert made.rungs[-1].stored_bytes == sum(tensor.stored_bytes for tensor in made.tensors)


def test_seven_bits_are_skipped_with_the_reason(settled: Settled) -> None:
    (rung,) = (rung for rung in settled.rungs if rung.skipped)
    assert rung.name == "7-bit codes"
    assert rung.skipped.startswith("sums are exact in the simulation, where 7 bits can only lose (")
    reduced = options_of("dynamic_int8", cpus=("x86_64_avx2",))
    assert ladder.seven_bits_lose(reduced).startswith("codes have 7 bits already (x86_64_avx2 has neither")


def stops_early(found: Settled) -> Settled:
    return replace(found, rungs=found.rungs[:2])


def gives_another_rungs_numbers(found: Settled) -> Settled:
    first, second, *others = found.rungs
    return replace(found, rungs=(first, second.model_copy(update={"cost": first.cost}), *others))


def gives_another_rungs_bytes(found: Settled) -> Settled:
    last = found.rungs[-1].model_copy(update={"stored_bytes": found.rungs[0].stored_bytes})
    return replace(found, rungs=(*found.rungs[:-1], last))


def uses_what_the_recipe_said(found: Settled) -> Settled:
    return replace(found, options=options_of("dynamic_int8", **COLLAPSED))


def climbs_on(found: Settled) -> Settled:
    return replace(found, rungs=(*found.rungs, found.rungs[-1]))


def says_that_a_miss_passes(found: Settled) -> Settled:
    return replace(found, rungs=(found.rungs[0].model_copy(update={"passed": True}), *found.rungs[1:]))


@pytest.mark.parametrize(
    "twin",
    [
        stops_early,
        gives_another_rungs_numbers,
        gives_another_rungs_bytes,
        uses_what_the_recipe_said,
        climbs_on,
        says_that_a_miss_passes,
    ],
)
def test_a_broken_climb_is_rejected(trial: Trial, settled: Settled, twin: Callable[[Settled], Settled]) -> None:
    assert faults(options_of("dynamic_int8", **COLLAPSED), trial, twin(settled))


def test_what_passes_at_once_is_measured_once_and_left_as_it_is() -> None:
    trial = trial_of(plain_model())
    found = climb(options_of("dynamic_int8"), trial)
    assert [rung.name for rung in found.rungs] == ["as the recipe says"]
    assert (found.repaired, found.rungs[0].changed) == ("", {})
    assert not faults(options_of("dynamic_int8"), trial, found)


def test_without_a_gate_nothing_is_measured(trial: Trial) -> None:
    assert climb(options_of("dynamic_int8", gate=None, **COLLAPSED), trial).rungs == ()
    assert climb(options_of("float16"), trial).rungs == ()


def test_without_repair_a_miss_is_an_error(trial: Trial) -> None:
    with pytest.raises(
        QuantizationError, match=r"misses its gate on 200 validation rows .* repair is off: as the"
    ) as e:
        climb(options_of("dynamic_int8", repair=False, **COLLAPSED), trial)
    assert "one scale" not in str(e.value)


def test_where_no_rung_passes_the_error_has_the_whole_table(trial: Trial) -> None:
    with pytest.raises(QuantizationError) as caught:
        climb(options_of("dynamic_int8", **COLLAPSED), trial, PLAIN[:2])
    text = str(caught.value)
    assert "\n" not in text
    assert "at least 99.0% agreement, at most 0.5 points lost" in text
    for part in ("as the recipe says: agreement", "one scale for each output channel: agreement", "7-bit codes: not"):
        assert part in text
    assert "gate: null" in text


def test_a_change_for_the_worse_is_logged_and_not_built_upon(trial: Trial) -> None:
    asked, worse = options_of("dynamic_int8", embeddings="float32"), Step("one scale", {"granularity": "per_tensor"})
    found = climb(asked, trial, (worse, *PLAIN[2:]))
    before, rung, after = found.rungs
    assert before.cost is not None
    assert rung.cost is not None
    assert rung.cost.kl > before.cost.kl
    assert (before.kept, rung.kept, after.kept) == (True, False, True)
    assert after.changed == {"overrides": {"output": "float32"}}
    assert found.repaired == "the most sensitive layer float32"
    assert not faults(asked, trial, found)


def test_what_a_recipe_overrides_is_not_excluded(trial: Trial) -> None:
    asked = options_of("dynamic_int8", overrides={"output": "int8"}, gate={"min_agreement": 1}, **COLLAPSED)
    with pytest.raises(QuantizationError, match="only 1 layers are quantized"):
        climb(asked, trial, PLAIN)


def test_every_layer_at_once_is_never_left_float32(trial: Trial) -> None:
    asked = options_of("dynamic_int8", gate={"min_agreement": 1}, **COLLAPSED)
    with pytest.raises(QuantizationError, match=r"as float: not tried, only 2 layers are quantized"):
        climb(asked, trial, (Step("all as float", exclude=2),))


def test_what_a_later_rung_changed_again_is_not_said_twice() -> None:
    trial = trial_of(rare_token_model())
    asked = options_of("static_int8", embeddings="float32", gate={"min_agreement": 1}, percentile=99.999)
    coarse, fine = (Step(f"{percent} %", {"ranges": "percentile", "percentile": percent}) for percent in (99.8, 99.0))
    found = climb(asked, trial, (coarse, fine))
    assert [rung.kept for rung in found.rungs] == [True, True, True]
    assert found.repaired == "99.0 %"


def test_static_ranges_by_entropy_are_tried_after_those_by_percentile_were_kept() -> None:
    asked = options_of("dynamic_int8", embeddings="float32", gate={"min_agreement": 1, "max_metric_loss": 0})
    coarse, last = (
        Step("percentile", {"method": "static_int8", "ranges": "percentile", "percentile": 99.4}, DYNAMIC),
        LADDER[-1],
    )
    with pytest.raises(QuantizationError) as caught:
        climb(asked, trial_of(rare_token_model()), (coarse, last))
    assert last.name == "static ranges by entropy"
    assert f"{last.name}: agreement" in str(caught.value)
    with pytest.raises(QuantizationError) as caught:
        climb(
            options_of("static_int8", gate={"min_agreement": 1}, embeddings="float32"),
            trial_of(rare_token_model()),
            (last,),
        )
    assert last.name not in str(caught.value), "who asked for static ranges has tried these by then"


def test_rungs_of_other_methods_are_no_rungs(trial: Trial) -> None:
    asked = options_of("int4_groupwise", group_size=32, min_weights=512, gate={"min_agreement": 1}, symmetric=True)
    names = []
    try:
        names = [rung.name for rung in climb(asked, trial, PLAIN).rungs]
    except QuantizationError as error:
        names = str(error).split("; ")
    assert any(name.startswith("a zero point for each group") for name in names)
    assert not any("output channel" in name or "7-bit" in name for name in names)


def cost(flipped: int, rows: int, lost: int | None = 0) -> QuantizationCost:
    metric = Metric(value=0.5, low=0.4, high=0.6, n=rows)
    return QuantizationCost(
        rows=rows,
        kl=0.1,
        agreement=Metric(value=1 - flipped / rows, low=0, high=1, n=rows),
        metric=None if lost is None else metric,
        metric_loss=None if lost is None else Metric(value=lost / rows, low=0, high=1, n=rows),
    )


@pytest.mark.parametrize(
    ("flipped", "rows", "lost", "holds"),
    [
        (0, 1000, 0, True),
        (10, 1000, 5, True),
        (11, 1000, 0, False),
        (0, 1000, 6, False),
        (10, 1000, None, True),
        (1, 20, 1, True),
        (2, 20, 0, False),
        (0, 20, 2, False),
        (0, 20, -3, True),
    ],
)
def test_the_gate_holds_by_its_numbers_and_one_row_of_few_may_differ(
    flipped: int, rows: int, lost: int | None, holds: bool
) -> None:
    assert passes(Gate(), cost(flipped, rows, lost)) is holds


def test_a_gate_may_ask_for_a_small_divergence_too() -> None:
    assert passes(Gate(max_kl=0.1), cost(0, 1000))
    assert not passes(Gate(max_kl=0.099), cost(0, 1000))


def test_two_models_that_would_be_one_file_are_refused() -> None:
    layout = registry.load("edgedistill.export.formats", "onnx")
    dynamic = quantized_model("dynamic_int8").model_copy(update={"scheme": "int8_dynamic"})
    repaired = dynamic.model_copy(update={"scheme": "int8_static"})
    export._require_a_file_each(layout, {"dynamic_int8": dynamic, "static_int8": repaired})
    with pytest.raises(StageError, match=r"dynamic_int8 and static_int8 are both int8_static .* onnx/model_int8\.onnx"):
        export._require_a_file_each(layout, {"dynamic_int8": repaired, "static_int8": repaired})
