"""Mixed widths on a real model: the promise holds, brute force does little better, and the overrides are the model."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_build import Finished
from tiny_quantize import options_of, outlier_model, plain_model, trial_of

from edgedistill.errors import QuantizationError
from edgedistill.quantize import widths as narrowing
from edgedistill.quantize.methods import mixed
from edgedistill.quantize.stage import quantize
from edgedistill.quantize.trial import Trial

MARGIN = 1.15


@pytest.fixture(scope="module")
def trial() -> Trial:
    return trial_of(plain_model(hidden=48), count=60)


def best(trial: Trial, options: Any) -> int:
    """Return the fewest bytes of any widths that hold, by trying them all."""
    sizes = []
    names = [name for name, _ in mixed._forms(trial.model, options)]
    for widths in product(("int4", "int8", "float16", "float32"), repeat=len(names)):
        decided = trial.decide(options.model_copy(update={"overrides": dict(zip(names, widths, strict=True))}))
        cost = trial.judge.cost(decided)
        if cost.kl <= options.max_kl:
            sizes.append(trial.stored_bytes(decided))
    return min(sizes)


@pytest.mark.parametrize("max_kl", [1e-2, 1e-4, 1e-6])
def test_the_promise_holds_with_nearly_the_fewest_bytes(trial: Trial, max_kl: float) -> None:
    options: Any = options_of("mixed", max_kl=max_kl, max_metric_loss=0.9)
    found = mixed.settle(options, trial)
    assert trial.judge.cost(found.decided).kl <= max_kl
    assert trial.stored_bytes(found.decided) <= MARGIN * best(trial, options)
    assert [rung for rung in found.rungs if rung.passed][-1].cost == trial.judge.cost(found.decided)


def test_the_overrides_alone_give_the_same_model(trial: Trial) -> None:
    options: Any = options_of("mixed", max_kl=1e-4)
    found = mixed.settle(options, trial)
    assert found.options.overrides.keys() == {"embedding", "hidden", "output"}
    again = trial.decide(found.options)
    assert again.keys() == found.decided.keys()
    assert all(np.array_equal(again[name].weight(), each.weight()) for name, each in found.decided.items())
    assert {(one.layer) for one in found.sensitivity} == {"embedding", "hidden", "output"}


def test_only_the_widths_asked_for_are_used_and_overrides_stay(trial: Trial) -> None:
    options: Any = options_of("mixed", max_kl=1e-4, widths=("float16", "int8"), overrides={"hid*": "float32"})
    found = mixed.settle(options, trial)
    assert "hidden" not in found.decided
    assert {decision.bits for decision in found.decided.values()} <= {8, 16}
    assert {one.layer for one in found.sensitivity} == {"embedding", "output"}


def test_trying_a_mixture_rounds_no_layer_at_widths_that_it_has_not(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    sound = narrowing.at_width

    def counted(name: str, layer: Any, width: Any, limit: int) -> Any:
        asked.append(f"{name} {width}")
        return sound(name, layer, width, limit)

    monkeypatch.setattr(narrowing, "at_width", counted)
    trial.decide(options_of("mixed", overrides={"hidden": "int8", "embedding": "int4", "output": "float32"}))
    assert sorted(asked) == ["embedding int4", "hidden int8", "output float32"]


def test_an_outlier_gets_more_bits() -> None:
    found = mixed.settle(options_of("mixed", max_kl=1e-3, widths=("int8", "float16")), trial_of(outlier_model()))
    assert found.decided["output"].bits == 16
    assert found.decided["hidden"].bits == found.decided["embedding"].bits == 8


def test_a_loss_out_of_reach_is_an_error_with_the_numbers(trial: Trial) -> None:
    with pytest.raises(QuantizationError) as caught:
        mixed.settle(options_of("mixed", max_kl=1e-30), trial)
    assert "no layer can be narrower than float32 within max_kl: 1e-30 and max_metric_loss: 0.005" in str(caught.value)
    assert "as float16 costs" in str(caught.value)


def test_the_stage_says_what_was_chosen_and_tried(finished: Finished, tmp_path: Path) -> None:
    values = {name: finished.value(name) for name in ("student", "corpus", "signals", "tokens")}
    model = quantize(options_of("mixed", max_kl=0.001), **values, folder=tmp_path)
    assert (model.scheme, model.repaired) == ("mixed", "")
    used = [rung for rung in model.rungs if rung.passed][-1]
    assert used.cost is not None
    assert used.cost.kl <= 0.001
    assert used.stored_bytes == sum(tensor.stored_bytes for tensor in model.tensors)
    assert model.sensitivity
