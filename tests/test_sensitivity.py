"""A layer's sensitivity is what it costs alone; the table is sorted, complete, and adds up in bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from finished_build import Finished
from tiny_quantize import HIDDEN, VOCAB, WIDTH, options_of, outlier_model, plain_model, trial_of

from edgedistill.quantize.sensitivity import MOST_ROWS, at_every_width, sensitivities
from edgedistill.quantize.stage import quantize
from edgedistill.quantize.trial import Trial
from edgedistill.quantize.widths import FULL_RANGE, REDUCED_RANGE, at_width, quantizable
from edgedistill.values import Sensitivity

Table = tuple[Sensitivity, ...]


@pytest.fixture(scope="module")
def trial() -> Trial:
    return trial_of(plain_model())


@pytest.fixture(scope="module")
def table(trial: Trial) -> Table:
    return at_every_width(trial, FULL_RANGE, {})


def faults(trial: Trial, found: Table) -> list[str]:
    """Return what is wrong with a table of every layer at every width."""
    wrong, layers = [], quantizable(trial.model)
    expected = {}
    for name, layer in layers.items():
        for width in ("float16", "int8", "int4"):
            decision = at_width(name, layer, width) if layer.weight.shape[1] % 16 == 0 or width != "int4" else None
            if decision is not None:
                expected[name, decision.scheme] = trial.judge.fewer(MOST_ROWS).cost({name: decision})
    if {(one.layer, one.scheme): one.cost for one in found} != expected:
        wrong.append("each layer is measured alone")
    if [one.cost.kl for one in found] != sorted((one.cost.kl for one in found), reverse=True):
        wrong.append("the dearest comes first")
    return wrong


def test_the_table_has_every_layer_at_every_width_alone(trial: Trial, table: Table) -> None:
    assert len(table) == 9
    assert not faults(trial, table)


def measured_together(trial: Trial, found: Table) -> Table:
    decided = trial.decide(options_of("dynamic_int8"))
    cost = trial.judge.cost(decided)
    return tuple(one.model_copy(update={"cost": cost}) if one.scheme.startswith("int8") else one for one in found)


@pytest.mark.parametrize(
    "twin",
    [measured_together, lambda _trial, found: found[1:], lambda _trial, found: tuple(reversed(found))],
)
def test_a_broken_table_is_rejected(trial: Trial, table: Table, twin: Callable[[Trial, Table], Table]) -> None:
    assert faults(trial, twin(trial, table))


def test_a_narrower_layer_costs_more_and_saves_more(table: Table) -> None:
    of = {(one.layer, one.scheme.partition(" ")[0]): one for one in table}
    for layer in ("embedding", "hidden"):
        float16, int8, int4 = (of[layer, width] for width in ("float16", "int8", "int4"))
        assert float16.cost.kl < int8.cost.kl < int4.cost.kl
        assert float16.saved_bytes < int8.saved_bytes < int4.saved_bytes
    assert of["hidden", "float16"].saved_bytes == 2 * HIDDEN * WIDTH
    assert of["embedding", "int8"].saved_bytes == VOCAB * (3 * WIDTH - 4), "a scale for each row"
    assert of["hidden", "int4"].saved_bytes == HIDDEN * (WIDTH * 4 - WIDTH // 2 - 4 - 1), "a scale and a zero point"


def test_the_layer_with_the_outlier_is_the_dearest() -> None:
    trial = trial_of(outlier_model())
    found = sensitivities(trial, trial.decide(options_of("dynamic_int8")).items())
    assert found[0].layer == "output", "its input has a channel a thousand times larger than the others"
    assert found[0].cost.kl > 100 * found[1].cost.kl


def test_codes_have_the_methods_range(trial: Trial) -> None:
    wide, narrow = (at_every_width(trial, limit, {}) for limit in (FULL_RANGE, REDUCED_RANGE))
    of = [{one.layer: one.cost.kl for one in found if one.scheme.startswith("int8")} for found in (wide, narrow)]
    assert of[0]["hidden"] != of[1]["hidden"]
    assert of[0]["embedding"] == of[1]["embedding"], "a table has its full range"


def test_what_was_decided_is_measured_in_place_of_a_plain_code_of_its_width(trial: Trial, table: Table) -> None:
    settled = trial.decide(options_of("static_int8"))
    found = at_every_width(trial, FULL_RANGE, settled)
    assert len(found) == len(table)
    assert {(one.layer, one.scheme) for one in found} >= {(name, one.scheme) for name, one in settled.items()}
    assert "int8 per_channel symmetric, calibrated input" in {one.scheme for one in found if one.layer == "hidden"}
    assert "int8 per_channel symmetric" not in {one.scheme for one in found if one.layer == "hidden"}


@pytest.mark.parametrize("asked", [True, False])
def test_the_stage_measures_it_where_it_is_asked_for(finished: Finished, tmp_path: Path, asked: bool) -> None:
    values = {name: finished.value(name) for name in ("student", "corpus", "signals", "tokens")}
    model = quantize(options_of("dynamic_int8", sensitivity=asked), **values, folder=tmp_path)
    assert {one.layer for one in model.sensitivity} == ({"embedding", "hidden", "output"} if asked else set())
    assert len(model.rungs) == 1
    assert model.rungs[0].passed
    assert model.rungs[0].stored_bytes == sum(tensor.stored_bytes for tensor in model.tensors)
