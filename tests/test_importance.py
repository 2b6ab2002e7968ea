"""What flows into each layer of a decoder, against a computation by hand that knows no hooks."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_ggml import TinyDecoder, some_rows

from edgedistill.errors import QuantizationError
from edgedistill.quantize import importance as module
from edgedistill.quantize.importance import LEAST, importance_of, load_importance, save_importance
from edgedistill.training.rows import TokenRows

LAYER = "model.layers.1"


@pytest.fixture(scope="module")
def model() -> TinyDecoder:
    return TinyDecoder().eval()


@torch.no_grad()
def by_hand(model: TinyDecoder, rows: TokenRows) -> dict[str, np.ndarray]:
    """Return the mean squares for a few weights, row by row, so that there is no padding."""
    inner, seen = model.model, {name: [] for name in ("q_proj", "gate_proj", "down_proj", "lm_head")}
    for row in range(len(rows)):
        ids, _ = rows.padded([row])
        states = inner(input_ids=torch.from_numpy(ids), output_hidden_states=True).hidden_states
        block, before = inner.model.layers[1], states[1]
        seen["q_proj"].append(block.input_layernorm(before)[0])
        positions = torch.arange(ids.shape[1])[None]
        attended, _ = block.self_attn(
            block.input_layernorm(before),
            position_embeddings=inner.model.rotary_emb(before, positions),
            attention_mask=torch.full((1, 1, ids.shape[1], ids.shape[1]), -torch.inf).triu(1),
        )
        middle = block.post_attention_layernorm(before + attended)
        seen["gate_proj"].append(middle[0])
        seen["down_proj"].append((block.mlp.act_fn(block.mlp.gate_proj(middle)) * block.mlp.up_proj(middle))[0])
        seen["lm_head"].append(states[-1][0])
    return {name: torch.cat(parts).square().mean(dim=0).numpy() for name, parts in seen.items()}


def faults(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> list[str]:
    """Return the layers whose importance is not what flows into them."""
    places = {
        "q_proj": f"{LAYER}.self_attn.q_proj", "gate_proj": f"{LAYER}.mlp.gate_proj",
        "down_proj": f"{LAYER}.mlp.down_proj", "lm_head": "lm_head",
    }  # fmt: skip
    return [
        name
        for name, place in places.items()
        if not np.allclose(
            found[f"{place}.weight"], np.maximum(expected[name], LEAST * expected[name].mean()), rtol=1e-3
        )
    ]


def test_importance_is_the_mean_square_of_what_flows_in(model: TinyDecoder) -> None:
    rows = some_rows()
    found = importance_of(model, rows)
    assert not faults(found, by_hand(model, rows))
    assert all(values.dtype == np.float32 and (values > 0).all() for values in found.values())
    linear = {name for name, part in model.model.named_modules() if isinstance(part, torch.nn.Linear)}
    assert found.keys() == {f"{name}.weight" for name in linear}, "checkpoint names, and no token table"
    assert np.array_equal(found[f"{LAYER}.self_attn.q_proj.weight"], found[f"{LAYER}.self_attn.v_proj.weight"])


def test_the_check_rejects_padding_that_counts_and_values_that_are_not_squared(model: TinyDecoder) -> None:
    rows = some_rows()
    ids, _ = rows.padded(np.arange(len(rows)))
    padded = TokenRows(ids.astype(np.int32).ravel(), np.arange(0, ids.size + 1, ids.shape[1]), 0)
    assert faults(importance_of(model, padded), by_hand(model, rows))
    rooted = {name: np.sqrt(values) for name, values in importance_of(model, rows).items()}
    assert faults(rooted, by_hand(model, rows))


def test_few_tokens_are_read_at_once_and_the_result_is_the_same(
    model: TinyDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, sizes = some_rows(60), []
    whole = importance_of(model, rows)
    watch = model.register_forward_pre_hook(lambda _model, given: sizes.append(given[0].numel()))
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 40)
    parts = importance_of(model, rows)
    watch.remove()
    assert max(sizes) <= 40 < len(sizes) * 40
    assert all(np.allclose(whole[name], parts[name], rtol=1e-4) for name in whole)


def test_a_silent_column_matters_little_and_not_nothing() -> None:
    model = TinyDecoder().eval()
    with torch.no_grad():
        model.model.model.norm.weight[3] = 0
        model.model.model.layers[0].input_layernorm.weight[:] = 0
    found = importance_of(model, some_rows())
    head = found["lm_head.weight"]
    assert head[3] == pytest.approx(LEAST * head.mean(), rel=1e-3)
    assert (found["model.layers.0.self_attn.q_proj.weight"] == 1).all(), "of a silent layer all columns are alike"


def test_what_is_saved_is_loaded(model: TinyDecoder, tmp_path: Path) -> None:
    found = importance_of(model, some_rows())
    save_importance(found, tmp_path / "importance.safetensors")
    loaded: Any = load_importance(tmp_path / "importance.safetensors")
    assert loaded.keys() == found.keys()
    assert all(np.array_equal(loaded[name], found[name]) for name in found)


def test_without_rows_nothing_is_known(model: TinyDecoder) -> None:
    with pytest.raises(QuantizationError, match="the calibration split has no rows"):
        importance_of(model, some_rows().take(np.arange(0)))


def test_a_student_is_measured_on_calibration_alone(
    model: TinyDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {"calibration": SimpleNamespace(tokens=some_rows())}
    monkeypatch.setattr(module, "rows_of", lambda _, split: splits[split])
    monkeypatch.setattr(module, "load_decoder", lambda _: model)
    student: Any = SimpleNamespace(path=lambda _: tmp_path, checkpoint="")
    signals: Any = None
    found = module.measure(student, signals, tmp_path)
    assert found.positions == len(some_rows().ids)
    assert load_importance(tmp_path / found.file).keys() == importance_of(model, some_rows()).keys()
