"""What is tried where a language model misses its gate, on tries that are written down here."""

from collections.abc import Callable
from typing import Any

import pytest

from edgedistill import registry
from edgedistill.decoder_values import HeldByGate, TensorFacts
from edgedistill.errors import QuantizationError
from edgedistill.quantize.decoder_ladder import GROUPS, Group, Try, passes, settle
from edgedistill.values import Metric

NAMES = (
    "model.embed_tokens.weight",
    *(
        f"model.layers.{layer}.{part}.weight"
        for layer in range(3)
        for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj", "mlp.up_proj")
    ),
    "model.norm.weight",
    "lm_head.weight",
)


def metric(found: float, of: int = 100) -> Metric:
    return Metric(value=found, low=found - 0.01, high=found + 0.01, n=of)


def options(**given: Any) -> Any:
    method: Any = registry.load("edgedistill.quantize.methods", "q4_0").Options
    return method(method="q4_0", **{"gate": {"max_kl": 0.1}, **given})


def facts(overrides: dict[str, str]) -> tuple[TensorFacts, ...]:
    """Return tensors of 4.5 bits, of 8.5 where they are overridden, and a norm that is no matrix."""
    found = []
    for name in NAMES:
        shape = (64,) if "norm" in name else (64, 64)
        kind = "F32" if "norm" in name else overrides.get(name, "Q4_0")
        bits = {"F32": 32, "Q4_0": 4.5, "Q8_0": 8.5}[kind]
        stored = int(bits * 64 ** len(shape) / 8)
        found.append(
            TensorFacts(
                name=name, shape=shape, type=kind, wanted=kind, reason="", stored_bytes=stored, relative_error=0.05
            )
        )
    return tuple(found)


class Attempts:
    """Tries whose divergence is that of the tensors that still have four bits."""

    def __init__(self, cost: Callable[[str], float], lost: float = 0.0) -> None:
        self.asked: list[set[str]] = []
        self._cost, self._lost = cost, lost

    def __call__(self, asked: Any) -> Try:
        told = facts(asked.overrides)
        self.asked.append(set(asked.overrides))
        kl = metric(sum(self._cost(one.name) for one in told if one.type == "Q4_0"))
        gate = asked.gate
        held = gate and HeldByGate(
            max_kl=gate.max_kl, max_metric_loss=gate.max_metric_loss, kl=kl, metric_loss=metric(self._lost)
        )
        return Try(asked, ({}, told, None), held)


def test_what_passes_is_left_alone() -> None:
    attempts = Attempts(lambda _: 0.001)
    settled = settle(options(), attempts)
    assert attempts.asked == [set()]
    assert (settled.repaired, len(settled.rungs), settled.rungs[0].passed) == ("", 1, True)
    free = settle(options(gate=None), attempts)
    assert (free.rungs, free.used.held) == ((), None)


def test_a_group_that_helps_stays_and_one_that_does_not_goes() -> None:
    dear = {"model.layers.1.self_attn.v_proj.weight": 0.2, "model.layers.2.mlp.up_proj.weight": 0.3}
    attempts = Attempts(lambda name: dear.get(name, 0.0))
    settled = settle(options(), attempts)
    assert settled.repaired == ("attention values and down projections, the first and last layer stored as Q8_0")
    assert [rung.kept for rung in settled.rungs] == [True, False, True, True]
    assert attempts.asked[1] == {"model.embed_tokens.weight", "lm_head.weight"}
    assert not attempts.asked[1] & attempts.asked[2], "the table gained nothing"
    assert attempts.asked[2] < attempts.asked[3] == set(settled.used.options.overrides)
    assert "model.layers.1.mlp.up_proj.weight" not in attempts.asked[3]


def test_what_the_recipe_gives_another_type_keeps_it() -> None:
    own = {"lm_head.weight": "Q4_0", "model.layers.*.v_proj.weight": "Q4_0"}
    attempts = Attempts(lambda _: 0.05)
    with pytest.raises(QuantizationError):
        settle(options(overrides=own), attempts)
    assert all(asked >= own.keys() for asked in attempts.asked)
    assert not any("v_proj" in name for name in attempts.asked[-1] - own.keys())


def test_the_last_layer_is_the_models_and_not_the_last_that_is_left() -> None:
    attempts = Attempts(lambda _: 0.05)
    with pytest.raises(QuantizationError):
        settle(options(overrides={"model.layers.2.*": "Q4_0"}), attempts)
    assert not any(name.startswith("model.layers.1.mlp.up") for asked in attempts.asked for name in asked)


@pytest.mark.parametrize(
    ("kl", "lost", "low", "passed"),
    [
        (0.01, 0.02, 0.015, True),
        (0.01, 0.03, 0.015, False),
        (0.01, 0.03, -0.001, True),
        (0.01, -1, -2, True),
        (0.2, 0.0, 0.0, False),
    ],
)
def test_a_loss_of_tokens_counts_where_it_is_more_than_chance(kl: float, lost: float, low: float, passed: bool) -> None:
    loss = Metric(value=lost, low=low, high=1, n=100)
    none = Metric(value=0, low=-0.1, high=0.1, n=100)
    for tokens, answers in ((loss, None), (loss, none), (none, loss)):
        held = HeldByGate(max_kl=0.1, max_metric_loss=0.02, kl=metric(kl), metric_loss=tokens, answer_loss=answers)
        assert passes(held) == passed


def test_where_nothing_helps_every_try_is_told() -> None:
    with pytest.raises(QuantizationError) as missed:
        settle(options(), Attempts(lambda _: 0.0, lost=0.5))
    assert str(missed.value).count("points of right tokens lost 50 (49 to 51), ") == len(GROUPS) + 1
    with pytest.raises(QuantizationError, match="and repair is off: as the recipe says: KL 0 "):
        settle(options(repair=False), Attempts(lambda _: 0.0, lost=0.5))


def test_groups_are_told_by_names_of_any_depth() -> None:
    names = [f"transformer.h.{layer}.attn.c_attn.weight" for layer in range(12)]
    assert Group("", outermost=True).of(names, 12) == [names[0], names[11]]
    assert Group("", outermost=True).of(names[1:11], 12) == [], "the layers between are not the first and last"
    assert GROUPS[-1].of(names, 12) == names
    assert Group("", outermost=True).of(["lm_head.weight"], 0) == []
