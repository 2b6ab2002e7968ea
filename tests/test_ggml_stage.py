"""A decoder in ggml's types: all tensors, what is said of them, and the float model with the rounded weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_ggml import TinyDecoder, simulated, some_rows

from edgedistill import registry
from edgedistill.errors import QuantizationError
from edgedistill.models import ggml_tensors
from edgedistill.models.ggml_tensors import GgmlTensor
from edgedistill.quantize.ggml_stage import ggml_weights
from edgedistill.quantize.importance import importance_of

pytest.importorskip("llama_cpp", reason="ggml's encoder is in llama-cpp-python")
BY_BITS = ("q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "q8_0", "gguf_f16")
TABLE, DOWN = "model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"


def options_of(method: str, **settings: Any) -> Any:
    return registry.load("edgedistill.quantize.methods", method).Options(method=method, **settings)


def logits(model: Any) -> torch.Tensor:
    ids, mask = (torch.from_numpy(array) for array in some_rows(30, seed=5).padded(np.arange(30)))
    with torch.no_grad():
        said: torch.Tensor = model(ids, mask)[mask.bool()]
    return said


def loud_model() -> TinyDecoder:
    """Return a decoder in which some columns of each layer read much larger inputs than the others."""
    model = TinyDecoder(256, tied=False).eval()
    with torch.no_grad():
        for block in model.model.model.layers:
            block.input_layernorm.weight[5::32] *= 30
            block.post_attention_layernorm.weight[5::32] *= 30
    return model


def faults(model: Any, tensors: dict[str, GgmlTensor], facts: Any) -> list[str]:
    """Return what is wrong with a quantized decoder."""
    found = []
    floats = dict(model.model.named_parameters())
    if not tensors.keys() == floats.keys() == {one.name for one in facts}:
        return ["every tensor of the checkpoint is stored once, and described"]
    for one in facts:
        stored, weight = tensors[one.name], floats[one.name].detach().numpy().astype(np.float64)
        error = np.sqrt(((stored.floats() - weight) ** 2).mean() / (weight**2).mean())
        if (one.type, one.shape, one.stored_bytes) != (stored.type, weight.shape, stored.data.nbytes):
            found.append(f"{one.name} is stored as it is said")
        if not np.isclose(one.relative_error, error, rtol=1e-3, atol=1e-9):
            found.append(f"{one.name} has the error that is said")
    rounded = simulated(model, tensors).model.named_parameters()
    if any(not np.array_equal(place.detach(), tensors[name].floats()) for name, place in rounded):
        found.append("the simulated model has the stored numbers")
    return found


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("method", ["gguf_f16", "q4_0", "q4_k_m"])
def test_every_number_is_decided_and_told(method: str, tied: bool) -> None:
    model = TinyDecoder(256, tied=tied).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors, facts, _ = ggml_weights(options_of(method), model, model.config, importance_of(model, some_rows()))
    assert not faults(model, tensors, facts)
    assert ("lm_head.weight" in tensors) is not tied
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()), "left as it is"
    rounded = simulated(model, tensors).model
    assert (rounded.lm_head.weight is rounded.model.embed_tokens.weight) is tied


def test_the_check_rejects_what_is_told_wrongly() -> None:
    model = TinyDecoder(256).eval()
    tensors, facts, _ = ggml_weights(options_of("q4_k_m"), model, model.config, importance_of(model, some_rows()))
    first = facts[0].model_copy
    for twin in (
        first(update={"relative_error": 2 * facts[0].relative_error}),
        first(update={"stored_bytes": 1}),
        first(update={"type": "Q4_0"}),
        first(update={"name": "another"}),
    ):
        assert faults(model, tensors, (twin, *facts[1:]))
    assert faults(model, {**tensors, DOWN: tensors["model.layers.0.mlp.down_proj.weight"]}, facts)


def test_more_bits_say_what_the_float_model_says() -> None:
    model = TinyDecoder(256).eval()
    said = logits(model)
    errors = []
    for method in BY_BITS:
        tensors, _, _ = ggml_weights(options_of(method), model, model.config, importance_of(model, some_rows()))
        errors.append(float((logits(simulated(model, tensors)) - said).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 100 * errors[-2] > 100 * errors[-1]


@pytest.mark.parametrize("method", ["q4_0", "q4_k_m", "q3_k_m"])
def test_importance_protects_the_columns_that_are_loud(method: str) -> None:
    model = loud_model()
    said, errors = logits(model), []
    for importance in (False, True):
        tensors, _, used = ggml_weights(
            options_of(method, importance=importance), model, model.config, importance_of(model, some_rows(60))
        )
        assert (used is not None) is importance
        errors.append(float((logits(simulated(model, tensors)) - said).square().mean()))
    assert errors[1] < 0.85 * errors[0]


@pytest.mark.parametrize("method", ["gguf_f16", "q8_0"])
def test_where_nothing_is_chosen_calibration_is_not_read(method: str) -> None:
    model = TinyDecoder().eval()
    assert ggml_weights(options_of(method), model, model.config, None)[2] is None
    with pytest.raises(QuantizationError, match="was not measured"):
        ggml_weights(options_of(method, overrides={"*v_proj*": "Q5_0"}), model, model.config, None)
    with pytest.raises(QuantizationError, match="was not measured"):
        ggml_weights(options_of("q4_0"), model, model.config, None)
    assert ggml_weights(options_of("q4_0", importance=False), model, model.config, None)[2] is None


def test_a_table_that_is_the_head_too_is_stored_without_importance() -> None:
    model = TinyDecoder(256).eval()
    asked = options_of("q4_k_m", overrides={TABLE: "Q4_0"})
    with_it, _, used = ggml_weights(asked, model, model.config, importance_of(model, some_rows()))
    without, _, _ = ggml_weights(asked.model_copy(update={"importance": False}), model, model.config, None)
    assert used is not None
    assert "lm_head.weight" in used
    assert TABLE not in used
    assert np.array_equal(with_it[TABLE].data, without[TABLE].data)
    assert not np.array_equal(with_it[DOWN].data, without[DOWN].data)


def test_rows_that_do_not_divide_keep_the_reason() -> None:
    model = TinyDecoder(96).eval()
    _, facts, _ = ggml_weights(options_of("q4_k_m"), model, model.config, importance_of(model, some_rows()))
    told = {one.name: one for one in facts}
    assert (told[TABLE].type, told[TABLE].wanted) == ("Q8_0", "Q6_K")
    assert told[TABLE].reason == "96 columns do not divide into Q4_K's blocks of 256"
    assert (told["model.norm.weight"].type, told["model.norm.weight"].reason) == ("F32", "")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    model = TinyDecoder(256).eval()
    tensors, _, _ = ggml_weights(options_of("q4_k_m"), model, model.config, importance_of(model, some_rows()))
    ggml_tensors.save(tensors, tmp_path / "weights.safetensors")
    loaded = ggml_tensors.load(tmp_path / "weights.safetensors")
    assert torch.equal(logits(simulated(model, loaded)), logits(simulated(model, tensors)))


def test_tensors_of_another_model_are_refused() -> None:
    model = TinyDecoder().eval()
    tensors, _, _ = ggml_weights(options_of("q8_0"), model, model.config, None)
    with pytest.raises(QuantizationError, match=r"lm_head\.weight: in the model or among the tensors, but not in both"):
        simulated(TinyDecoder(tied=False), tensors)


def test_what_is_wrong_is_told_with_the_tensors_name() -> None:
    model = TinyDecoder().eval()
    with torch.no_grad():
        model.model.get_parameter(DOWN)[0, 0] = torch.nan
    with pytest.raises(QuantizationError, match=f"^{DOWN}: the weight has a NaN"):
        ggml_weights(options_of("q8_0"), model, model.config, None)
