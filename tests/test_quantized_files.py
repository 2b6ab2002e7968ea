"""A quantized model comes back from its file to the bit, whatever its layers; a file that was changed is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgedistill.errors import ModelError
from edgedistill.models.classifier import StaticClassifier
from edgedistill.models.quantized import KINDS, batch_matters, load_quantized, rounds_activations, save_quantized
from edgedistill.quantize.affine import quantize_groups, quantize_rows, quantize_whole
from edgedistill.quantize.decisions import Decision, Float16, InputRange, Int4, Int8
from edgedistill.quantize.exchange import exchange

VOCAB, WIDTH, HIDDEN = 12, 32, 16
RANGE = InputRange.of(-1.5, 2.5)
SMOOTHING = np.linspace(0.5, 4, WIDTH, dtype=np.float32)

Make = Callable[[np.ndarray], Decision]
LINEAR: dict[str, Make] = {
    "dynamic": lambda weight: Int8(quantize_rows(weight, 127)),
    "dynamic, one scale": lambda weight: Int8(quantize_whole(weight, 63)),
    "dynamic, unsigned": lambda weight: Int8(quantize_rows(weight, 127), unsigned=True),
    "static": lambda weight: Int8(quantize_rows(weight, 127), RANGE),
    "static, one scale": lambda weight: Int8(quantize_whole(weight, 127), RANGE),
    "smoothed dynamic": lambda weight: Int8(quantize_rows(weight * SMOOTHING, 127), None, SMOOTHING),
    "smoothed static": lambda weight: Int8(quantize_rows(weight * SMOOTHING, 127), RANGE, SMOOTHING),
    "int4 symmetric": lambda weight: Int4(quantize_groups(weight, 16, symmetric=True)),
    "int4 asymmetric": lambda weight: Int4(quantize_groups(weight, 32, symmetric=False)),
    "float16": Float16.of,
}
TABLE: dict[str, Make] = {
    "int8": lambda weight: Int8(quantize_rows(weight, 127)),
    "int4": lambda weight: Int4(quantize_groups(weight, 16, symmetric=False)),
    "float16": Float16.of,
}


def student(folder: Path) -> StaticClassifier:
    torch.manual_seed(0)
    model = StaticClassifier(VOCAB, WIDTH, HIDDEN, ("negative", "positive")).eval()
    model.save(folder)
    return model


def quantized(folder: Path, **decided: Make) -> Any:
    model = student(folder)
    weights = {name: model.get_submodule(name).weight.detach().numpy() for name in decided}
    exchange(model, {name: make(weights[name]) for name, make in decided.items()})
    save_quantized(model, folder / "weights.safetensors")
    return model


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(VOCAB).reshape(3, 4)
    with torch.no_grad():
        found: torch.Tensor = model(ids, torch.ones_like(ids))
    return found


@pytest.mark.parametrize("kind", LINEAR)
def test_a_linear_layer_comes_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    model = quantized(tmp_path, hidden=LINEAR[kind])
    again = load_quantized(tmp_path, tmp_path / "weights.safetensors")
    assert torch.equal(logits(again), logits(model))
    assert [type(part) for part in again.modules()] == [type(part) for part in model.modules()]
    assert not torch.equal(logits(again), logits(student(tmp_path))), "it is not the float layer"
    assert rounds_activations(again) is ("dynamic" in kind or "static" in kind)
    assert batch_matters(again) is ("dynamic" in kind)
    assert not again.training


@pytest.mark.parametrize("kind", TABLE)
def test_a_table_comes_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    model = quantized(tmp_path, embedding=TABLE[kind])
    again = load_quantized(tmp_path, tmp_path / "weights.safetensors")
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(again), logits(student(tmp_path)))
    assert not rounds_activations(again)


def test_every_kind_of_layer_is_saved_here(tmp_path: Path) -> None:
    made = [quantized(tmp_path, hidden=make) for make in LINEAR.values()]
    made += [quantized(tmp_path, embedding=make) for make in TABLE.values()]
    assert {type(part) for model in made for part in model.modules()} >= set(KINDS.values())


def test_layers_of_several_kinds_are_one_file(tmp_path: Path) -> None:
    model = quantized(tmp_path, embedding=TABLE["int4"], hidden=LINEAR["smoothed static"], output=LINEAR["float16"])
    assert torch.equal(logits(load_quantized(tmp_path, tmp_path / "weights.safetensors")), logits(model))


def changed(folder: Path, kinds: dict[str, Any] | None = None, without: str = "", **more: torch.Tensor) -> Path:
    """Write the file again with other words about its layers, or with other numbers; None: with no words at all."""
    file = folder / "weights.safetensors"
    with safe_open(file, framework="pt") as opened:
        said = json.loads(opened.metadata()["quantized_layers"])
    state = {name: tensor for name, tensor in (load_file(file) | more).items() if name != without}
    words = None if kinds is None else {"quantized_layers": json.dumps(said | kinds)}
    save_file(state, folder / "changed.safetensors", words)
    return folder / "changed.safetensors"


@pytest.mark.parametrize(
    ("kinds", "without", "said"),
    [
        (None, "", "cannot be read as a quantized model: KeyError"),
        ({"hidden": "int3_linear"}, "", "calls hidden 'int3_linear'; a layer is one of: dynamic_int8_linear"),
        ({"hidden": "int8_embedding"}, "", r"holds \['factors'\] of hidden, and int8_embedding is made of"),
        ({"hidden.layer": "static_int8_linear"}, "", "made of .*input_scale"),
        ({}, "hidden.layer.scales", r"holds \['bias', 'codes'\] of hidden.layer, and dynamic_int8_linear is made of"),
        ({}, "hidden.factors", r"holds \[\] of hidden, and smoothed is made of \['factors'\]"),
        ({}, "output.bias", "is not of the student in .*output.bias"),
        ({"elsewhere.layer": "float16_linear"}, "", r"holds \[\] of elsewhere.layer, and float16_linear"),
    ],
)
def test_a_file_whose_words_and_numbers_differ_is_refused(
    kinds: dict[str, Any] | None, without: str, said: str, tmp_path: Path
) -> None:
    quantized(tmp_path, hidden=LINEAR["smoothed dynamic"])
    assert load_quantized(tmp_path, changed(tmp_path, {})), "the same words and numbers are no fault"
    with pytest.raises(ModelError, match=said):
        load_quantized(tmp_path, changed(tmp_path, kinds, without))


def test_numbers_of_another_student_are_refused(tmp_path: Path) -> None:
    quantized(tmp_path, hidden=LINEAR["dynamic"])
    more = {"layer.0.factors": torch.ones(WIDTH)}
    with pytest.raises(ModelError, match="is not of the student in"):
        load_quantized(tmp_path, changed(tmp_path, {"layer.0": "smoothed"}, **more))
    wider = tmp_path / "wider"
    StaticClassifier(VOCAB + 1, WIDTH, HIDDEN, ("negative", "positive")).save(wider)
    with pytest.raises(ModelError, match=r"is not of the student in .*embedding\.weight"):
        load_quantized(wider, tmp_path / "weights.safetensors")


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 100])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    student(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read as a quantized model"):
        load_quantized(tmp_path, tmp_path / "weights.safetensors")
