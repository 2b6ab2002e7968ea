"""What every quantization method of encoders must keep, however many are added."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill import registry
from edgedistill.models.classifier import StaticClassifier
from edgedistill.models.quantized import KINDS
from edgedistill.quantize import widths
from edgedistill.quantize.affine import RowQuantized, quantize_rows
from edgedistill.quantize.called import called
from edgedistill.quantize.decisions import Float16, Int8
from edgedistill.targets._target import Target
from edgedistill.training.rows import TokenRows

METHODS = "edgedistill.quantize.methods"
ENCODERS = frozenset({"text_classification", "multi_label_classification", "sentence_embedding"})
FORMATS = "edgedistill.export.formats"
SERVING = [name for name in registry.names(METHODS) if registry.load(METHODS, name).Options.TASKS & ENCODERS]
"""Those of decoders have a contract of their own."""
VOCAB, WIDTH, HIDDEN = 50, 32, 32
CALIBRATION = TokenRows(np.arange(1, 41, dtype=np.int32), np.arange(0, 41, 5), 0)  # eight texts of five tokens


def small_model() -> StaticClassifier:
    torch.manual_seed(0)
    return StaticClassifier(VOCAB, WIDTH, HIDDEN, ("negative", "positive"))


class ReadsByWeight(nn.Module):
    """Calls one table and one layer; of another table and another layer it reads the weights alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions = nn.Embedding(VOCAB, WIDTH), nn.Embedding(VOCAB, WIDTH)
        self.turn, self.output = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = self.words(ids) + self.positions.weight[: ids.shape[1]] @ self.turn.weight
        return self.output((vectors * mask[..., None]).mean(dim=1))


CALLED = {"words", "output"}


def every_layer(model: nn.Module) -> frozenset[str]:
    return frozenset(name for name, part in model.named_modules() if isinstance(part, (nn.Linear, nn.Embedding)))


def test_a_layer_that_is_read_by_its_weight_alone_is_not_called() -> None:
    model = ReadsByWeight().train()
    assert called(model) == CALLED
    assert not any(part._forward_hooks for part in model.modules()), "nothing is left hanging on the model"
    assert called(small_model()) == every_layer(small_model()), "who calls all of them has all of them named"


@pytest.mark.parametrize("name", SERVING)
def test_every_method_leaves_what_is_not_called_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = registry.load(METHODS, name)
    options = module.Options(method=name, **small(module))
    assert dict(module.quantize(ReadsByWeight(), options, CALIBRATION)).keys() == CALLED
    monkeypatch.setattr(widths, "called", every_layer)
    assert dict(module.quantize(ReadsByWeight(), options, CALIBRATION)).keys() > CALLED, "the check can fail"


def small(module: Any) -> dict[str, Any]:
    """Return settings under which a method leaves no layer out for being small."""
    wanted = {"min_weights": 1, "group_size": 16}
    return {name: value for name, value in wanted.items() if name in module.Options.model_fields}


def faults(name: str, module: Any) -> list[str]:
    """Return what is wrong with the words of a method."""
    found = []
    stores = frozenset().union(*(registry.load(FORMATS, word).Options.STORES for word in registry.names(FORMATS)))
    if get_args(module.Options.model_fields["method"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    if module.Options.SCHEME not in stores:
        found.append("some format can store the scheme")
    if "Source: http" not in " ".join((module.__doc__ or "").split()):
        found.append("the docstring says where the method is from")
    if module.Options.TASKS != ENCODERS:
        found.append("what makes one encoder small makes each of them small")
    options = module.Options(method=name)
    reduced, reason = module.decide_range(options)
    if not isinstance(reduced, bool) or not reason:
        found.append("the range of the codes has a reason in words")
    if json.loads(json.dumps(module.needs(options))) != module.needs(options):
        found.append("what the result depends on is plain data")
    return found


def faults_in_numbers(name: str, module: Any) -> list[str]:
    """Return what is wrong with what a method makes of a model, its options left as they are.

    Where an option chooses codes together, single ones may lie further away; no method does so unasked.
    """
    found = []
    model = small_model()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    everything = dict(module.quantize(model, module.Options(method=name, **small(module)), CALIBRATION))
    if everything.keys() != {"embedding", "hidden", "output"}:
        found.append("every table and every large linear layer is quantized")
    for key, decision in everything.items():
        weight = before[f"{key}.weight"].numpy()
        if decision.weight().shape != weight.shape or decision.max_error_in_steps(weight) > 0.5001:
            found.append(f"{key} is what the float layer was, to half a step")
        elif np.abs(decision.weight() - weight).max() > np.abs(weight).max() * 2.0 ** -min(decision.bits - 1, 10):
            found.append(f"{key} is as close to the float layer as its bits allow")
        if faults_in_layer(decision, model.get_submodule(key)):
            found.append(f"the layer that stands in for {key} multiplies, or looks up, what was decided")
    if any(not torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items()):
        found.append("the float model is left alone")
    return found


def faults_in_layer(decision: Any, replaced: Any) -> bool:
    """Whether the module of a decision is none that a file can hold, or does not compute what was decided."""
    made, weight = decision.module(replaced), torch.from_numpy(decision.weight())
    if type(made) not in KINDS.values():
        return True
    if isinstance(replaced, nn.Embedding):
        return not torch.allclose(made(torch.arange(VOCAB)), weight)
    inputs = torch.rand(4, replaced.in_features, generator=torch.Generator().manual_seed(0)) * 0.05
    with torch.no_grad():
        difference = made(inputs) - nn.functional.linear(inputs, weight, replaced.bias)
    return bool(difference.abs().max() > 0.01)


@pytest.mark.parametrize("name", SERVING)
def test_every_method_keeps_the_contract(name: str) -> None:
    assert not faults(name, registry.load(METHODS, name))
    assert not faults_in_numbers(name, registry.load(METHODS, name))


def broken(**parts: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(registry.load(METHODS, "dynamic_int8")), **parts})


def without_tables(model: nn.Module, options: Any, calibration: TokenRows) -> Any:
    yield from ((name, rows) for name, rows in sound().quantize(model, options, calibration) if name != "embedding")


def with_half_the_scale(model: nn.Module, options: Any, calibration: TokenRows) -> Any:
    for name, made in sound().quantize(model, options, calibration):
        yield name, Int8(RowQuantized(made.rows.codes, made.rows.scales / 2, made.rows.limit))


def far_from_its_bits(model: nn.Module, options: Any, calibration: TokenRows) -> Any:
    for name, _ in sound().quantize(model, options, calibration):
        yield name, Float16.of(np.round(model.get_submodule(name).weight.detach().numpy(), 1))


class Turned(Int8):
    """Stands in with a layer whose codes have another sign."""

    def module(self, replaced: nn.Module) -> nn.Module:
        return Int8(replace(self.rows, codes=-self.rows.codes)).module(replaced)


def with_another_layer(model: nn.Module, options: Any, calibration: TokenRows) -> Any:
    for name, made in sound().quantize(model, options, calibration):
        yield name, Turned(made.rows)


def in_place(model: nn.Module, options: Any, calibration: TokenRows) -> Any:
    made = list(sound().quantize(model, options, calibration))
    with torch.no_grad():
        model.get_parameter("output.weight").mul_(2)
    yield from made


def sound() -> Any:
    return registry.load(METHODS, "dynamic_int8")


class NowhereStored(sound().Options):
    SCHEME = "int3_in_no_format"


class OneTaskAlone(sound().Options):
    TASKS = frozenset({"text_classification"})


@pytest.mark.parametrize(
    "twin",
    [
        broken(decide_range=lambda _options: (True, "")),
        broken(needs=lambda _options: {"range": (1, 2)}),
        broken(Options=NowhereStored),
        broken(Options=OneTaskAlone),
        broken(__doc__="Weights as int8."),
    ],
)
def test_the_contract_rejects_a_broken_method(twin: Any) -> None:
    assert len(faults("dynamic_int8", twin)) == 1


@pytest.mark.parametrize(
    "quantize", [without_tables, with_half_the_scale, far_from_its_bits, with_another_layer, in_place]
)
def test_the_contract_rejects_broken_numbers(quantize: Callable[..., Any]) -> None:
    assert not faults_in_numbers("dynamic_int8", sound())
    assert faults_in_numbers("dynamic_int8", broken(quantize=quantize))


def test_the_contract_rejects_a_method_under_another_name() -> None:
    with pytest.raises(ValueError, match="dynamic_int8"):
        faults("int4", sound())


@pytest.mark.parametrize(
    ("cpus", "reduced", "said"),
    [
        (("x86_64_vnni",), False, "x86_64_vnni: int8 dot products do not saturate"),
        (("arm64_dotprod", "x86_64_vnni"), False, "arm64_dotprod, x86_64_vnni: int8"),
        (("x86_64_avx2",), True, "x86_64_avx2 has neither VNNI nor dotprod"),
        (("arm64",), True, "arm64 has neither VNNI nor dotprod"),
        (("x86_64_vnni", "x86_64_avx2", "arm64"), True, "x86_64_avx2, arm64 has neither"),
    ],
)
def test_codes_have_seven_bits_where_a_target_saturates(cpus: tuple[str, ...], reduced: bool, said: str) -> None:
    options = sound().Options(method="dynamic_int8", cpus=cpus, min_weights=1)
    decided, reason = sound().decide_range(options)
    assert decided is reduced
    assert said in reason
    assert sound().needs(options) == {"reduced_range": reduced}
    made = dict(sound().quantize(small_model(), options, CALIBRATION))
    limit = 63 if reduced else 127
    assert {name: each.code_limit for name, each in made.items()} == {
        "embedding": 127,
        "hidden": limit,
        "output": limit,
    }
    assert all(np.abs(each.rows.codes).max() == each.code_limit for each in made.values())


@pytest.mark.parametrize(("word", "reduced"), [("always", True), ("never", False)])
@pytest.mark.parametrize("cpu", ["x86_64_vnni", "x86_64_avx2"])
def test_the_recipe_may_decide_the_range_itself(word: Any, reduced: bool, cpu: str) -> None:
    options = sound().Options(method="dynamic_int8", cpus=(cpu,), reduced_range=word)
    assert sound().decide_range(options) == (reduced, f"the recipe says reduced_range: {word}")


@pytest.mark.parametrize(("features", "reduced"), [({"avx2", "vnni"}, False), ({"avx2"}, True), (set(), True)])
def test_the_host_is_asked_what_it_has(monkeypatch: pytest.MonkeyPatch, features: set[str], reduced: bool) -> None:
    machine = Target("host", "x86_64", 2, None, ("onnxruntime",), frozenset(features), "local")
    monkeypatch.setattr(registry.load("edgedistill.targets", "host"), "target", lambda: machine)
    assert sound().decide_range(sound().Options(method="dynamic_int8"))[0] is reduced


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"embedding"}),
        ({"min_weights": 0}, {"embedding", "hidden", "output"}),
        ({"min_weights": WIDTH * HIDDEN}, {"embedding", "hidden"}),
        ({"min_weights": WIDTH * HIDDEN + 1}, {"embedding"}),
        ({"min_weights": 0, "embeddings": "float32"}, {"hidden", "output"}),
    ],
)
def test_small_layers_and_tables_are_left_out_as_the_recipe_says(settings: dict[str, Any], names: set[str]) -> None:
    options = sound().Options(method="dynamic_int8", **settings)
    assert dict(sound().quantize(small_model(), options, CALIBRATION)).keys() == names


def test_a_row_is_an_output_channel() -> None:
    model = small_model()
    with torch.no_grad():
        model.hidden.weight[3] *= 1000
    rows = dict(
        sound().quantize(
            model, sound().Options(method="dynamic_int8", min_weights=1, reduced_range="never"), CALIBRATION
        )
    )
    alone = quantize_rows(model.hidden.weight.detach().numpy()[:3], 127)
    assert np.array_equal(rows["hidden"].rows.codes[:3], alone.codes)
    assert rows["hidden"].rows.scales[3] > 100 * rows["hidden"].rows.scales[:3].max()


def test_an_unknown_cpu_is_told_with_the_choices() -> None:
    made: Callable[..., Any] = sound().decide_range
    with pytest.raises(ValueError, match=r"unknown target 'abacus'; choose one of: .*host"):
        made(sound().Options(method="dynamic_int8", cpus=("abacus",)))
