"""A decoder in blocks for onnxruntime: all tensors, what is said of them, and the float model with rounded weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_ggml import TinyDecoder, simulated, some_rows

from edgedistill import registry
from edgedistill.errors import ModelError, QuantizationError
from edgedistill.models import block_tensors
from edgedistill.models.block_tensors import BlockTensor
from edgedistill.quantize.block_stage import block_weights
from edgedistill.quantize.importance import importance_of

TABLE, DOWN = "model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"


def options_of(method: str = "onnx_int4", **settings: Any) -> Any:
    given = {"importance": False, **settings}
    return registry.load("edgedistill.quantize.methods", method).Options(method=method, **given)


def plain(tensor: BlockTensor) -> np.ndarray:
    """Return the numbers of a tensor, one code after another: slow, and written apart from the package's."""
    rows, columns = tensor.shape
    per_byte, mask = 8 // tensor.bits, (1 << tensor.bits) - 1
    numbers = np.empty(tensor.shape, np.float32)

    def code(packed: np.ndarray, row: int, at: int) -> int:
        return int(packed[row, at // per_byte]) >> (tensor.bits * (at % per_byte)) & mask

    for row in range(rows):
        for column in range(columns):
            block = column // tensor.block_size
            zero = (mask + 1) // 2 if tensor.zero_points is None else code(tensor.zero_points, row, block)
            assert tensor.scales is not None
            numbers[row, column] = np.float32(code(tensor.data, row, column) - zero) * tensor.scales[row, block]
    return numbers


def faults(model: Any, options: Any, tensors: dict[str, BlockTensor], facts: Any) -> list[str]:
    """Return what is wrong with a quantized decoder."""
    found = []
    floats = dict(model.model.named_parameters())
    if not tensors.keys() == floats.keys() == {one.name for one in facts}:
        return ["every tensor of the checkpoint is stored once, and described"]
    for one in facts:
        found += _faults_of_one(one, tensors[one.name], floats[one.name].detach().numpy(), symmetric=options.symmetric)
    rounded = simulated(model, tensors).model.named_parameters()
    if any(not np.array_equal(place.detach(), tensors[name].floats()) for name, place in rounded):
        found.append("the simulated model has the stored numbers")
    return found


def _faults_of_one(one: Any, stored: BlockTensor, weight: np.ndarray, *, symmetric: bool) -> list[str]:
    found = []
    if (one.type, one.shape, one.stored_bytes) != (stored.type, weight.shape, stored.stored_bytes):
        found.append(f"{one.name} is stored as it is said")
    if (one.type == one.wanted) != (not one.reason):
        found.append(f"{one.name}: a reason stands where the type is not the wanted one, and only there")
    error = np.linalg.norm(stored.floats() - weight) / np.linalg.norm(weight)
    if not np.isclose(one.relative_error, error, rtol=1e-3, atol=1e-9):
        found.append(f"{one.name} has the error that is said")
    if stored.scales is not None:
        step = np.repeat(stored.scales, stored.block_size, axis=1)
        if (np.abs(stored.floats() - weight) > step * 0.5001).any():
            found.append(f"{one.name} moves by no more than half a step")
    if (stored.zero_points is None) != (symmetric or stored.type == "F32"):
        found.append(f"{one.name} has zero points where they were asked for")
    return found


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("method", ["onnx_int4", "onnx_int8"])
def test_every_number_is_decided_and_told(method: str, symmetric: bool, tied: bool) -> None:
    model = TinyDecoder(64, tied=tied).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = options_of(method, symmetric=symmetric)
    tensors, facts, _ = block_weights(options, model, importance_of(model, some_rows()))
    assert not faults(model, options, tensors, facts)
    kinds = {name: tensor.type for name, tensor in tensors.items()}
    assert kinds[TABLE] == kinds[DOWN] == f"{method.removeprefix('onnx_').upper()}_32"
    assert ("lm_head.weight" in tensors) is not tied
    assert kinds["model.norm.weight"] == "F32"
    assert np.array_equal(tensors[DOWN].floats(), plain(tensors[DOWN]))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()), "left as it is"


def test_the_check_rejects_what_is_told_wrongly() -> None:
    model, options = TinyDecoder(64).eval(), options_of()
    tensors, facts, _ = block_weights(options, model, importance_of(model, some_rows()))
    first = facts[0].model_copy
    for twin in (
        first(update={"relative_error": 2 * facts[0].relative_error}),
        first(update={"stored_bytes": 1}),
        first(update={"type": "INT4_64"}),
        first(update={"reason": "none"}),
        first(update={"name": "another"}),
    ):
        assert faults(model, options, tensors, (twin, *facts[1:]))
    assert faults(model, options, {**tensors, DOWN: tensors["model.layers.0.mlp.down_proj.weight"]}, facts)


def test_more_bits_and_smaller_blocks_say_what_the_float_model_says() -> None:
    model = TinyDecoder(64).eval()
    ids, mask = (torch.from_numpy(array) for array in some_rows(30, seed=5).padded(np.arange(30)))
    errors = []
    for options in (options_of(group_size=64), options_of(group_size=16), options_of("onnx_int8")):
        tensors, _, _ = block_weights(options, model, importance_of(model, some_rows()))
        with torch.no_grad():
            said, float_said = (one(ids, mask)[mask.bool()] for one in (simulated(model, tensors), model))
        errors.append(float((said - float_said).square().mean()))
    assert errors[0] > errors[1] > 50 * errors[2] > 0


@pytest.mark.parametrize("symmetric", [True, False])
def test_importance_protects_what_flows_into_loud_columns(symmetric: bool) -> None:
    model = TinyDecoder(64).eval()
    with torch.no_grad():
        for block in model.model.model.layers:
            block.input_layernorm.weight[5::32] *= 30
            block.post_attention_layernorm.weight[5::32] *= 30
    ids, mask = (torch.from_numpy(array) for array in some_rows(30, seed=5).padded(np.arange(30)))
    errors = []
    for importance in (False, True):
        options = options_of(symmetric=symmetric, importance=importance, overrides={TABLE: "float32"})
        tensors, _, used = block_weights(options, model, importance_of(model, some_rows(60)))
        assert (used is not None) is importance
        with torch.no_grad():
            said, float_said = (one(ids, mask)[mask.bool()] for one in (simulated(model, tensors), model))
        errors.append(float((said - float_said).square().mean()))
    assert errors[1] < 0.85 * errors[0]
    with pytest.raises(QuantizationError, match="was not measured"):
        block_weights(options_of(importance=True), model, None)


def test_rows_that_do_not_divide_get_smaller_blocks_and_keep_the_reason() -> None:
    _, facts, _ = block_weights(
        options_of(group_size=128), model := TinyDecoder(96).eval(), importance_of(model, some_rows())
    )
    told = {one.name: one for one in facts}
    assert (told[TABLE].type, told[TABLE].wanted) == ("INT4_32", "INT4_128")
    assert told[TABLE].reason == "96 columns do not divide into blocks of 128"
    with pytest.raises(QuantizationError, match=f"^{TABLE}: group_size 32 does not divide 40 columns"):
        block_weights(options_of(), model := TinyDecoder(40).eval(), importance_of(model, some_rows()))


def test_an_override_gives_a_matrix_another_width() -> None:
    options = options_of(overrides={TABLE: "int8", "*.layers.0.*": "float32", "*v_proj*": "int8"})
    tensors, _, _ = block_weights(options, model := TinyDecoder(64).eval(), importance_of(model, some_rows()))
    kinds = {name: tensor.type for name, tensor in tensors.items()}
    assert kinds[TABLE] == kinds["model.layers.1.self_attn.v_proj.weight"] == "INT8_32"
    assert kinds["model.layers.0.self_attn.v_proj.weight"] == "F32"
    assert kinds[DOWN] == "INT4_32"
    with pytest.raises(
        QuantizationError, match=r"overrides: '\*\.norm\*' fits no matrix; there are: lm_head\.weight, "
    ):
        block_weights(
            options_of(overrides={"*.norm*": "int8"}),
            model := TinyDecoder(64, tied=False).eval(),
            importance_of(model, some_rows()),
        )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for symmetric in (True, False):
        options = options_of(symmetric=symmetric, overrides={TABLE: "int8"})
        tensors, _, _ = block_weights(options, model := TinyDecoder(64).eval(), importance_of(model, some_rows()))
        block_tensors.save(tensors, tmp_path / "weights.safetensors")
        loaded = block_tensors.load(tmp_path / "weights.safetensors")
        assert loaded.keys() == tensors.keys()
        for name, one in tensors.items():
            assert (loaded[name].type, loaded[name].shape) == (one.type, one.shape)
            assert np.array_equal(loaded[name].floats(), one.floats())
            assert loaded[name].stored_bytes == one.stored_bytes


def test_what_is_wrong_is_told_with_the_tensors_name() -> None:
    model = TinyDecoder(64).eval()
    with torch.no_grad():
        model.model.get_parameter(DOWN)[0, 0] = torch.nan
    with pytest.raises(QuantizationError, match=f"^{DOWN}: the weight has a NaN"):
        block_weights(options_of(importance=False), model, None)
    with pytest.raises(ModelError, match=r"INT4_32 of shape \(2, 64\) is not stored as uint8 of shape \(2, 64\)"):
        BlockTensor("INT4_32", (2, 64), np.zeros((2, 64), np.uint8))
