"""One layer at one width, and the patterns with which a recipe asks for it."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_quantize import options_of, plain_model, trial_of
from torch import nn

from edgedistill.errors import QuantizationError
from edgedistill.models.classifier import StaticClassifier
from edgedistill.models.quantized import batch_matters
from edgedistill.quantize.affine import quantize_rows
from edgedistill.quantize.decisions import Decision, Float16, Int4, Int8
from edgedistill.quantize.exchange import exchange
from edgedistill.quantize.widths import FULL_RANGE, REDUCED_RANGE, at_width, overridden, quantizable
from edgedistill.section import Width


def model(width: int = 32) -> StaticClassifier:
    torch.manual_seed(0)
    return StaticClassifier(20, width, 16, ("negative", "positive")).eval()


@pytest.mark.parametrize(
    ("width", "kind", "bits"), [("float16", Float16, 16), ("int8", Int8, 8), ("int4", Int4, 4), ("float32", None, 32)]
)
def test_a_layer_at_each_width(width: Width, kind: type[Decision] | None, bits: int) -> None:
    for name, layer in quantizable(model()).items():
        made = at_width(name, layer, width)
        if kind is None:
            assert made is None
            continue
        assert isinstance(made, kind)
        assert made.bits == bits
        assert made.max_error_in_steps(layer.weight.detach().numpy()) <= 0.5001


def test_only_what_is_multiplied_has_seven_bits() -> None:
    layers = quantizable(model())
    made = {name: at_width(name, layer, "int8", REDUCED_RANGE) for name, layer in layers.items()}
    limits = {name: decision.code_limit for name, decision in made.items() if decision is not None}
    assert limits == {"embedding": FULL_RANGE, "hidden": REDUCED_RANGE, "output": REDUCED_RANGE}


@pytest.mark.parametrize(("columns", "size"), [(32, 32), (64, 32), (48, 16), (80, 16)])
def test_four_bits_take_the_largest_group_that_fits(columns: int, size: int) -> None:
    made = at_width("layer", nn.Linear(columns, 4), "int4")
    assert isinstance(made, Int4)
    assert made.groups.group_size == size


@pytest.mark.parametrize(
    ("layer", "width", "said"),
    [
        (
            nn.Linear(24, 4),
            "int4",
            "^layer: 24 columns do not divide into groups of 16, .*; give the layer another width",
        ),
        (nn.Linear(312, 4), "int4", "^layer: 312 columns"),
        (nn.Linear(16, 4), "float16", "^layer: a weight of 1e.06 does not fit into float16, .* use another width"),
        (nn.Linear(16, 4), "int8", "^layer: the weight has a NaN or an infinity"),
    ],
)
def test_a_width_that_cannot_hold_a_layer_is_refused(layer: nn.Linear, width: Width, said: str) -> None:
    with torch.no_grad():
        layer.weight[0, 0] = {"float16": 1e6, "int8": float("nan")}.get(width, 0.0)
    with pytest.raises(QuantizationError, match=said):
        at_width("layer", layer, width)


def decided(layers: dict[str, Any]) -> dict[str, Decision]:
    return {name: Int8(quantize_rows(layer.weight.detach().numpy(), FULL_RANGE)) for name, layer in layers.items()}


@pytest.mark.parametrize(
    ("overrides", "bits"),
    [
        ({}, {"embedding": 8, "hidden": 8, "output": 8}),
        ({"hidden": "int4"}, {"embedding": 8, "hidden": 4, "output": 8}),
        ({"hidden": "float32"}, {"embedding": 8, "output": 8}),
        ({"*": "float16"}, {"embedding": 16, "hidden": 16, "output": 16}),
        ({"h*": "float32", "*": "float16"}, {"embedding": 16, "output": 16}),
        ({"*": "float16", "h*": "float32"}, {"embedding": 16, "hidden": 16, "output": 16}),
        ({"?idden": "int4", "hidden": "float16", "emb*": "int4"}, {"embedding": 4, "hidden": 4, "output": 8}),
    ],
)
def test_of_two_patterns_that_fit_the_first_one_counts(overrides: dict[str, Width], bits: dict[str, int]) -> None:
    layers = quantizable(model())
    made = overridden(layers, decided(layers), overrides, FULL_RANGE)
    assert {name: decision.bits for name, decision in made.items()} == bits


def test_what_no_pattern_names_stays_the_very_decision() -> None:
    layers = quantizable(model())
    before = decided(layers)
    after = overridden(layers, before, {"hidden": "int4"}, FULL_RANGE)
    assert after["embedding"] is before["embedding"]
    assert after["hidden"] is not before["hidden"]
    assert before.keys() == layers.keys(), "the method's decisions are left as they were"


def test_a_layer_that_the_method_left_out_may_be_asked_for() -> None:
    layers = quantizable(model())
    made = overridden(layers, {}, {"output": "int8"}, REDUCED_RANGE)
    assert made.keys() == {"output"}
    assert made["output"].code_limit == REDUCED_RANGE
    assert np.abs(made["output"].weight() - layers["output"].weight.detach().numpy()).max() > 0


@pytest.mark.parametrize("pattern", ["hiden", "Hidden", "hidden.weight", "encoders", ""])
def test_a_pattern_that_fits_nothing_is_an_error_with_the_names(pattern: str) -> None:
    layers = quantizable(model())
    with pytest.raises(QuantizationError, match=f"overrides: '{pattern}' fits no layer.*embedding, hidden, output"):
        overridden(layers, decided(layers), {"*": "int8", pattern: "float16"}, FULL_RANGE)


def test_a_width_that_cannot_hold_an_overridden_layer_names_it() -> None:
    layers = quantizable(model(width=24))
    with pytest.raises(QuantizationError, match=r"^hidden: 24 columns"):
        overridden(layers, decided(layers), {"hidden": "int4"}, FULL_RANGE)


@pytest.mark.parametrize(
    ("method", "spoiled", "said"),
    [
        ("int4_groupwise", 0.0, "^output: group_size 32 does not divide 24 columns; no size does; .* with overrides"),
        ("float16", 1e6, "^output: a weight of 1e.06 does not fit into float16"),
        ("dynamic_int8", float("inf"), "^output: the weight has a NaN or an infinity"),
    ],
)
def test_a_layer_that_a_method_cannot_store_is_named_and_may_be_overridden(
    method: str, spoiled: float, said: str
) -> None:
    trial = trial_of(plain_model(hidden=24))
    with torch.no_grad():
        trial.model.output.weight[0, 0] = spoiled
    with pytest.raises(QuantizationError, match=said):
        trial.decide(options_of(method))
    made = trial.decide(options_of(method, overrides={"out*": "float32"}))
    assert made.keys() == {"embedding", "hidden"}


@pytest.mark.parametrize("min_weights", [1, 1 << 16])
def test_a_layer_that_is_int8_by_override_is_calibrated_where_the_others_are(min_weights: int) -> None:
    trial = trial_of(plain_model())
    options = options_of("static_int8", overrides={"output": "int8", "hidden": "float32"}, min_weights=min_weights)
    made = trial.decide(options)
    assert made.keys() == {"embedding", "output"}
    assert "calibrated input" in made["output"].scheme
    exchange(trial.model, made)
    assert not batch_matters(trial.model), "the same text always gets the same answer"
