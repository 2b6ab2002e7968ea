"""The quantize stage decides every stored number once: its file gives the very logits that it measured."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished_build import Finished
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgedistill import registry
from edgedistill.errors import ModelError, QuantizationError
from edgedistill.files import sha256_of
from edgedistill.models.load import load_model
from edgedistill.models.quantized import load_quantized
from edgedistill.quantize.stage import quantize
from edgedistill.training.predict import outputs_of
from edgedistill.training.signals import SplitSignals
from edgedistill.values import QuantizedModel, Signals, Student


@pytest.fixture
def student(finished: Finished) -> Student:
    return finished.value("student")


@pytest.fixture
def quantized(finished: Finished) -> QuantizedModel:
    return finished.value("quantize-dynamic_int8")


def made(finished: Finished, folder: Path, **settings: Any) -> QuantizedModel:
    """Run the stage with other options on the finished build's student."""
    options = registry.load("edgedistill.quantize.methods", "dynamic_int8").Options(
        method="dynamic_int8", **({"min_weights": 1} | settings)
    )
    values = {name: finished.value(name) for name in ("student", "corpus", "signals", "tokens")}
    return quantize(options, **values, folder=folder)


def measured(model: torch.nn.Module, signals: Signals, split: str) -> np.ndarray:
    return outputs_of(model, SplitSignals(signals, split).rows, batch_size=1)  # as it is measured


def test_the_file_gives_the_very_logits_that_were_measured(
    finished: Finished, student: Student, quantized: QuantizedModel
) -> None:
    model = load_quantized(student.path(student.checkpoint), quantized.path(quantized.weights))
    for split, file in quantized.evaluation.outputs.items():
        assert np.array_equal(measured(model, finished.value("signals"), split), np.load(quantized.path(file)))


@pytest.mark.parametrize("part", ["codes", "scales"])
def test_another_number_in_the_file_gives_other_logits(
    finished: Finished, student: Student, quantized: QuantizedModel, part: str, tmp_path: Path
) -> None:
    state = load_file(quantized.path(quantized.weights))
    state[f"hidden.{part}"][0] = -state[f"hidden.{part}"][0]
    with safe_open(quantized.path(quantized.weights), framework="pt") as opened:
        save_file(state, tmp_path / "weights.safetensors", opened.metadata())
    model = load_quantized(student.path(student.checkpoint), tmp_path / "weights.safetensors")
    before = np.load(quantized.path(quantized.evaluation.outputs["test"]))
    assert not np.array_equal(measured(model, finished.value("signals"), "test"), before)


def test_the_tensors_are_the_students_and_add_up(student: Student, quantized: QuantizedModel) -> None:
    floats = load_model(student.path(student.checkpoint)).state_dict()
    assert {tensor.name for tensor in quantized.tensors} == set(floats)
    assert all(tensor.shape == tuple(floats[tensor.name].shape) for tensor in quantized.tensors)
    assert sum(math.prod(tensor.shape) for tensor in quantized.tensors) == student.parameters
    state = load_file(quantized.path(quantized.weights))
    stored = {name.replace(".codes", ".weight"): tensor.nbytes for name, tensor in state.items()}
    for name in [name for name in stored if name.endswith(".scales")]:
        stored[name.replace(".scales", ".weight")] += stored.pop(name)
    assert {tensor.name: tensor.stored_bytes for tensor in quantized.tensors} == stored
    assert 0 < quantized.weights_bytes - sum(stored.values()) < 2048, "the rest is the file's header"
    assert quantized.weights_bytes == quantized.path(quantized.weights).stat().st_size
    assert quantized.weights_sha256 == sha256_of(quantized.path(quantized.weights))


def test_what_is_said_of_a_tensor_is_so(finished: Finished, student: Student, quantized: QuantizedModel) -> None:
    floats = load_model(student.path(student.checkpoint)).state_dict()
    state = load_file(quantized.path(quantized.weights))
    for tensor in quantized.tensors:
        if tensor.code_limit is None:
            assert torch.equal(state[tensor.name], floats[tensor.name])
            assert (tensor.bits, tensor.scheme, tensor.max_error_in_steps) == (32, "float32", 0.0)
            continue
        module = tensor.name.removesuffix(".weight")
        codes, scales = state[f"{module}.codes"], state[f"{module}.scales"]
        assert int(codes.abs().max()) == tensor.code_limit
        weight = codes * scales if scales.dim() == 2 else (codes * scales).t()
        steps = (weight - floats[tensor.name]).abs() / scales.reshape(-1, 1)
        assert float(steps.max()) == pytest.approx(tensor.max_error_in_steps, abs=1e-3)
        assert 0 < tensor.max_error_in_steps <= 0.5001


def test_seven_bits_are_said_and_cost_more(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "8").mkdir()
    (tmp_path / "7").mkdir()
    full = made(finished, tmp_path / "8", reduced_range="never")
    reduced = made(finished, tmp_path / "7", cpus=("x86_64_avx2",))
    assert (full.reduced_range, reduced.reduced_range) == (False, True)
    assert "x86_64_avx2 has neither VNNI nor dotprod" in reduced.reduced_range_reason
    bits = {tensor.name: tensor.bits for tensor in reduced.tensors}
    assert bits["hidden.weight"] == bits["output.weight"] == 7
    assert bits["embedding.weight"] == 8, "a table is looked up, never multiplied in int8"
    assert {tensor.bits for tensor in full.tensors} == {8, 32}
    floats = {split: np.load(finished.value("student").path(file)) for split, file in
              finished.value("student").evaluation.outputs.items()}  # fmt: skip
    error = [
        np.abs(np.load(model.path(model.evaluation.outputs["test"])) - floats["test"]).mean()
        for model in (placed(full, tmp_path / "8"), placed(reduced, tmp_path / "7"))
    ]
    assert 0 < error[0] < error[1]


def placed(value: QuantizedModel, folder: Path) -> QuantizedModel:
    (folder / "result.json").write_text(value.model_dump_json(), encoding="utf-8")
    return QuantizedModel.load(folder)


def test_an_embedding_left_alone_is_listed_as_float(finished: Finished, tmp_path: Path) -> None:
    value = made(finished, tmp_path, embeddings="float32")
    schemes = {tensor.name: tensor.scheme for tensor in value.tensors}
    assert schemes["embedding.weight"] == "float32"
    assert schemes["hidden.weight"].startswith("int8")


def test_nothing_to_quantize_is_an_error_and_not_a_copy(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="dynamic_int8 found no linear layer or table in a static student"):
        made(finished, tmp_path, embeddings="float32", min_weights=10**6)


def test_a_weight_that_is_not_finite_is_an_error(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    file = copy.value("student").path(copy.value("student").checkpoint) / "model.safetensors"
    state = load_file(file)
    state["hidden.weight"][0, 0] = float("nan")
    save_file(state, file)
    with pytest.raises(ModelError, match=r"1 weights of hidden\.weight are NaN or infinite"):
        made(copy, tmp_path)
