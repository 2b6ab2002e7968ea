"""What each method makes of its own options: which codes, of how many bits, for which layers, on which inputs."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_quantize import HIDDEN, WIDTH, options_of, outlier_model, plain_model, trial_of
from torch import Tensor, nn

from edgedistill.quantize.affine import quantize_rows
from edgedistill.quantize.calibrate import observe
from edgedistill.quantize.decisions import Int4, Int8
from edgedistill.quantize.gptq import optimised_rows
from edgedistill.quantize.inputs import Wanted, inputs_of
from edgedistill.quantize.methods.mixed import _forms
from edgedistill.quantize.observers import Channels, Hessian
from edgedistill.quantize.smoothing import Smoothing
from edgedistill.quantize.trial import Trial
from edgedistill.section import Width

SATURATING = ("x86_64_avx2",)


@pytest.fixture
def trial() -> Trial:
    return trial_of(plain_model())


def bits_of(trial: Trial, method: str, **options: Any) -> dict[str, int]:
    return {name: made.bits for name, made in trial.decide(options_of(method, **options)).items()}


def test_unsigned_codes_are_stored_unsigned_and_have_eight_bits_on_every_cpu(trial: Trial) -> None:
    made = trial.decide(options_of("dynamic_uint8"))
    for name in ("hidden", "output"):
        layer = trial.model.get_submodule(name)
        assert made[name].code_limit == 127
        assert made[name].module(layer).codes.dtype == torch.uint8
        assert made[name].scheme.startswith("uint8")
    assert made["embedding"].module(trial.model.embedding).codes.dtype == torch.int8, "a table is not multiplied"


@pytest.mark.parametrize("method", ["int4_groupwise", "dynamic_uint8", "dynamic_int8", "mixed"])
def test_an_override_of_int8_has_seven_bits_where_a_cpu_may_saturate(trial: Trial, method: str) -> None:
    told = {"cpus": SATURATING} if method in ("dynamic_int8", "mixed") else {}
    grouped = {"group_size": 16} if method == "int4_groupwise" else {}
    made = trial.decide(options_of(method, overrides={"output": "int8"}, **told, **grouped))
    assert made["output"].code_limit == 63


def test_mixed_chooses_among_codes_that_its_cpus_can_add(trial: Trial) -> None:
    for cpu, limit in ((SATURATING, 63), (("x86_64_vnni",), 127)):
        forms = dict(_forms(trial.model, options_of("mixed", cpus=cpu)))
        assert forms["hidden"]["int8"].code_limit == limit
        assert forms["embedding"]["int8"].code_limit == 127


@pytest.mark.parametrize("method", ["int4_groupwise", "mixed"])
def test_a_layer_of_exactly_min_weights_is_large_enough(trial: Trial, method: str) -> None:
    options: dict[str, Any] = {"group_size": 16} if method == "int4_groupwise" else {}
    most = WIDTH * HIDDEN
    assert bits_of(trial, method, min_weights=most, **options).keys() == {"embedding", "hidden"}
    assert bits_of(trial, method, min_weights=most + 1, **options).keys() == {"embedding"}


@pytest.mark.parametrize("symmetric", [True, False])
def test_groups_are_symmetric_where_the_recipe_says_so(trial: Trial, symmetric: bool) -> None:
    for made in trial.decide(options_of("int4_groupwise", group_size=16, symmetric=symmetric)).values():
        assert isinstance(made, Int4)
        assert made.groups.symmetric is symmetric
        assert bool((made.groups.zero_points == 8).all()) is symmetric


@pytest.mark.parametrize(("width", "bits"), [("int4", 4), ("int8", 8), ("float16", 16), ("float32", None)])
@pytest.mark.parametrize("method", ["int4_groupwise", "dynamic_int8"])
def test_tables_have_the_width_that_the_recipe_says(trial: Trial, method: str, width: Width, bits: int | None) -> None:
    options: dict[str, Any] = {"group_size": 16} if method == "int4_groupwise" else {}
    assert bits_of(trial, method, embeddings=width, **options).get("embedding") == bits


class Shared(nn.Module):
    """Two layers that read one tensor, with large weights at different channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, WIDTH)
        self.one, self.other = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8)
        with torch.no_grad():
            self.table.weight[:, 3] *= 50
            self.other.weight[:, 5] *= 20

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        vectors = self.table(ids)
        return ((self.one(vectors) + self.other(vectors)) * mask[..., None]).sum(dim=1)


def test_layers_that_read_one_tensor_are_smoothed_by_the_weights_of_all_of_them(trial: Trial) -> None:
    model, names = Shared().eval(), ("one", "other")
    smoothing = Smoothing(0.5, lambda weight: quantize_rows(weight, 127))
    found = inputs_of(model, names, Wanted(smoothing), trial.calibration)
    seen = Channels(WIDTH)
    observe(model, trial.calibration, {"one": seen})
    weights = [model.get_submodule(name).weight.detach().numpy() for name in names]
    assert found["one"].smoothing is found["other"].smoothing
    assert np.array_equal(found["one"].smoothing, smoothing.proposed(seen.magnitudes, weights))
    assert not np.allclose(found["one"].smoothing, smoothing.proposed(seen.magnitudes, weights[:1]))


class Divided:
    """Shows an observer inputs that were divided first."""

    def __init__(self, observer: Hessian, factors: np.ndarray) -> None:
        self.observer, self.factors = observer, factors

    def see(self, values: np.ndarray) -> None:
        self.observer.see(values * (np.float32(1) / self.factors))


@pytest.mark.parametrize("method", ["dynamic_int8", "static_int8"])
def test_codes_are_chosen_together_for_the_smoothed_weight_and_the_smoothed_inputs(method: str) -> None:
    trial = trial_of(outlier_model())
    made = trial.decide(options_of(method, smoothing=0.5, rounding="gptq", cpus=("x86_64_vnni",)))["output"]
    assert isinstance(made, Int8)
    assert made.smoothing is not None
    hessian, layer = Hessian(HIDDEN), trial.model.output
    observe(trial.model, trial.calibration, {"output": Divided(hessian, made.smoothing)})
    weight = layer.weight.detach().numpy() * made.smoothing
    expected = optimised_rows(weight, quantize_rows(weight, 127), hessian.sums)
    assert np.array_equal(made.rows.codes, expected.codes)
