"""The chosen widths hold what was asked, with nearly the fewest bytes that any choice of widths could."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import QuantizationError
from edgedistill.quantize import fewest_bytes as search
from edgedistill.quantize.fewest_bytes import Form, Layers, Measure, Measured, fewest_bytes, worthwhile
from edgedistill.section import Width

MARGIN = 1.15  # bytes over those of the best of all choices
WIDTHS: tuple[Width, ...] = ("int4", "int8", "float16", "float32")
Widths = Mapping[str, Width]


def layers_of(seed: int, count: int = 5) -> Layers:
    """Return layers of many sizes and losses; a narrower width is smaller and mostly loses more."""
    random = np.random.default_rng(seed)
    made = {}
    for i in range(count):
        weights, hurt = int(random.integers(1_000, 40_000)), 10.0 ** random.uniform(-4, -1)
        kl = dict(zip(WIDTHS, (hurt, hurt / random.uniform(3, 300), hurt / 1e5, 0.0), strict=True))
        size = {"int4": weights * 5 // 8, "int8": weights, "float16": 2 * weights, "float32": 4 * weights}
        made[f"layer{i}"] = worthwhile([Form(width, size[width], kl[width]) for width in WIDTHS])
    return made


def form(layers: Layers, name: str, width: Width) -> Form:
    return next(each for each in layers[name] if each.width == width)


def size_of(layers: Layers, widths: Widths) -> int:
    return sum(form(layers, name, width).stored_bytes for name, width in widths.items())


def measure_of(layers: Layers, max_kl: float, together: float) -> Measure:
    """Return how the whole model is measured: losses add up, times a factor where there are several."""

    def measure(widths: Widths) -> Measured:
        each = [form(layers, name, width).kl for name, width in widths.items()]
        kl = sum(each) * (together if np.count_nonzero(each) > 1 else 1)
        return Measured(kl, kl <= max_kl)

    return measure


def every_choice(layers: Layers) -> Iterator[dict[str, Width]]:
    for choice in product(*layers.values()):
        yield dict(zip(layers, (each.width for each in choice), strict=True))


def best(layers: Layers, measure: Measure) -> int:
    return min(size_of(layers, widths) for widths in every_choice(layers) if measure(widths).holds)


@given(st.integers(0, 400), st.sampled_from([0.3, 1.0, 4.0]), st.sampled_from([0.001, 0.01, 0.1]))
def test_the_loss_holds_with_nearly_the_fewest_bytes(seed: int, together: float, max_kl: float) -> None:
    layers = layers_of(seed)
    measure = measure_of(layers, max_kl, together)
    widths = fewest_bytes(layers, max_kl, measure)
    assert measure(widths).holds
    assert size_of(layers, widths) <= MARGIN * best(layers, measure)


def share_within(choose: Callable[[Layers, float, Measure], Widths], together: float = 0.3) -> float:
    """Return how often a way of choosing holds and is within the margin of the best, where losses cancel."""
    held = 0
    for seed in range(30):
        layers = layers_of(seed)
        measure = measure_of(layers, 0.001, together)
        widths = choose(layers, 0.001, measure)
        held += measure(widths).holds and size_of(layers, widths) <= MARGIN * best(layers, measure)
    return held / 30


def one_width_for_all(layers: Layers, max_kl: float, measure: Measure) -> Widths:
    for width in WIDTHS:
        widths = {name: next((f.width for f in forms if f.width == width), "float32") for name, forms in layers.items()}
        if measure(widths).holds:
            return widths
    raise AssertionError


def believes_the_sum(layers: Layers, max_kl: float, measure: Measure) -> Widths:
    return fewest_bytes(layers, max_kl, lambda widths: Measured(measure(widths).kl, True))


def test_choosing_layer_by_layer_is_better_than_one_width_and_narrowing_again_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert share_within(fewest_bytes) == 1
    assert share_within(one_width_for_all) < 0.6
    monkeypatch.setattr(search, "_narrow", lambda *_given: None)
    assert share_within(fewest_bytes) < 0.8, "losses that cancel leave room"


def test_a_sum_that_is_believed_unmeasured_does_not_hold() -> None:
    broken = [
        not measure_of(layers_of(seed), 0.01, 4.0)(
            believes_the_sum(layers_of(seed), 0.01, measure_of(layers_of(seed), 0.01, 4.0))
        ).holds
        for seed in range(20)
    ]
    assert any(broken)


def test_more_loss_is_never_more_bytes_than_none() -> None:
    for seed in range(20):
        layers = layers_of(seed)
        sizes = [
            size_of(layers, fewest_bytes(layers, max_kl, measure_of(layers, max_kl, 1.0))) for max_kl in (1e-5, 1e-2, 1)
        ]
        assert sizes[0] >= sizes[1] >= sizes[2]
        assert sizes[2] == sum(forms[0].stored_bytes for forms in layers.values()), "all may be as narrow as they can"


def test_another_promise_than_the_divergence_widens_too() -> None:
    layers = layers_of(3)
    asked: list[int] = []

    def measure(widths: Widths) -> Measured:
        asked.append(size_of(layers, widths))
        return Measured(1e-6, "int4" not in widths.values())

    widths = fewest_bytes(layers, 1.0, measure)
    assert "int4" not in widths.values()
    assert len(set(asked)) == len(asked), "no model is measured twice"


def test_what_only_the_float_model_holds_is_an_error() -> None:
    layers = layers_of(0)
    with pytest.raises(QuantizationError, match="no layer can be narrower than float32"):
        fewest_bytes(layers, 1e-12, measure_of(layers, 1e-12, 1.0))
    with pytest.raises(QuantizationError):
        fewest_bytes(layers, 1.0, lambda _widths: Measured(2.0, False))


def test_a_larger_form_that_loses_no_less_is_not_worthwhile() -> None:
    forms = [Form("int4", 10, 0.5), Form("int8", 20, 0.5), Form("float16", 40, 0.1), Form("float32", 80, 0.0)]
    assert [form.width for form in worthwhile(forms)] == ["int4", "float16", "float32"]
