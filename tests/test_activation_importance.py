"""What is said of a part's importance is what its activations are, computed once more in numpy alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import write_decoder
from tiny_gguf import ARCHITECTURES, write_checkpoint
from tiny_pruning import calibration_rows

from edgedistill.errors import DataError, ModelError
from edgedistill.models.activation_importance import Importance, measure
from edgedistill.models.decoder import load_decoder

HEADS, GROUPS, HEAD = 4, 2, 16


def normed(stream: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return stream / np.sqrt((stream**2).mean(axis=-1, keepdims=True) + 1e-6) * gain


def turned(vectors: np.ndarray) -> np.ndarray:
    """Return queries or keys, (tokens, heads, HEAD), with rotary positions."""
    angles = np.arange(len(vectors))[:, None] / 10000.0 ** (np.arange(0, HEAD, 2) / HEAD)
    cos, sin = (np.concatenate([of, of], axis=1)[:, None] for of in (np.cos(angles), np.sin(angles)))
    first, second = np.split(vectors, 2, axis=-1)
    return vectors * cos + np.concatenate([-second, first], axis=-1) * sin


def in_numpy(state: dict[str, np.ndarray], row: np.ndarray, layers: int) -> dict[str, list[np.ndarray]]:
    """Return what the parts of a tiny llama do at each token of a row, by part and then by layer (or norm)."""
    seen: dict[str, list[np.ndarray]] = {"channels": [], "heads": [], "neurons": [], "shares": []}

    def read(norm: str, stream: np.ndarray) -> np.ndarray:
        given = normed(stream, state[f"model.{norm}.weight"])
        seen["channels"].append(np.abs(given))
        seen["shares"].append(stream**2 / (stream**2).sum(axis=-1, keepdims=True))
        return given

    stream = state["model.embed_tokens.weight"][row]
    for layer in range(layers):
        w = {name: state[f"model.layers.{layer}.{name}.weight"] for name in (
            "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        )}  # fmt: skip
        given = read(f"layers.{layer}.input_layernorm", stream)
        queries = turned((given @ w["self_attn.q_proj"].T).reshape(-1, HEADS, HEAD))
        keys = turned((given @ w["self_attn.k_proj"].T).reshape(-1, GROUPS, HEAD)).repeat(HEADS // GROUPS, axis=1)
        values = (given @ w["self_attn.v_proj"].T).reshape(-1, GROUPS, HEAD).repeat(HEADS // GROUPS, axis=1)
        scores = np.einsum("ihd,jhd->hij", queries, keys) / np.sqrt(HEAD)
        scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads = np.einsum("hij,jhd->ihd", weights / weights.sum(axis=-1, keepdims=True), values)
        seen["heads"].append(np.sqrt((heads**2).sum(axis=-1)))
        stream = stream + heads.reshape(len(row), -1) @ w["self_attn.o_proj"].T
        given = read(f"layers.{layer}.post_attention_layernorm", stream)
        gate = given @ w["mlp.gate_proj"].T
        neurons = gate / (1 + np.exp(-gate)) * (given @ w["mlp.up_proj"].T)
        seen["neurons"].append(np.abs(neurons))
        stream = stream + neurons @ w["mlp.down_proj"].T
    read("norm", stream)
    return seen


def expected(state: dict[str, np.ndarray], rows: Any, layers: int) -> dict[str, np.ndarray]:
    """Return the means over all tokens of all rows, (layer or norm, columns)."""
    found = [in_numpy(state, rows.ids[a:b], layers) for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]
    return {
        part: np.stack([np.concatenate(one).mean(axis=0) for one in zip(*(of[part] for of in found), strict=True)])
        for part in found[0]
    }


def agree(importance: Importance, wanted: dict[str, np.ndarray]) -> bool:
    return all(
        np.allclose(found, of, rtol=1e-4)
        for found, of in (
            (importance.channels, wanted["channels"].mean(axis=0)),
            (np.stack(importance.heads), wanted["heads"]),
            (np.stack(importance.neurons), wanted["neurons"]),
            (np.stack(list(importance.shares.values())), wanted["shares"]),
        )
    )


def test_importance_is_what_numpy_computes_and_nothing_else_is_taken_for_it(tmp_path: Path) -> None:
    write_decoder(tmp_path, layers=2)
    decoder = load_decoder(tmp_path)
    for name, weight in decoder.named_parameters():  # gains of 1 would not show whether they are applied
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(weight, 0.5, 2)
    state = {name: tensor.double().numpy() for name, tensor in decoder.model.state_dict().items()}
    importance, wanted = measure(decoder, calibration_rows()), expected(state, calibration_rows(), 2)
    assert agree(importance, wanted)
    assert np.allclose([share.sum() for share in importance.shares.values()], 1)
    order = np.random.default_rng(0).permutation(64)
    broken = {
        "channels": importance.channels[order],
        "heads": importance.heads[::-1],
        "neurons": tuple(np.roll(of, 1) for of in importance.neurons),
        "shares": {name: share[order] for name, share in importance.shares.items()},
    }
    for part, other in broken.items():
        assert not agree(replace(importance, **{part: other}), wanted), part


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_batches_padding_and_a_second_time_change_nothing(family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family)
    decoder, rows = load_decoder(tmp_path), calibration_rows()
    together, again, alone = measure(decoder, rows), measure(decoder, rows), measure(decoder, rows, tokens_at_once=1)
    for one, other in ((together, again), (together, alone)):
        tolerance = 0 if other is again else 1e-4
        assert np.allclose(one.channels, other.channels, rtol=tolerance, atol=0)
        for part in ("heads", "neurons"):
            assert np.allclose(getattr(one, part), getattr(other, part), rtol=tolerance, atol=0)
        assert all(np.allclose(one.shares[name], other.shares[name], rtol=tolerance, atol=0) for name in one.shares)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in decoder.modules()), "left as it was"


def test_only_sums_are_kept_whatever_the_rows(tmp_path: Path) -> None:
    write_decoder(tmp_path)
    decoder, rows = load_decoder(tmp_path), calibration_rows()
    once = measure(decoder, rows)
    thrice = measure(decoder, rows.take(np.tile(np.arange(len(rows)), 3)))
    assert np.allclose(once.channels, thrice.channels)
    assert np.allclose(once.neurons, thrice.neurons)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_decoder(tmp_path, layers=11)  # layer 10 comes before layer 2, by name
    importance = measure(load_decoder(tmp_path), calibration_rows())
    importance.save(tmp_path / "importance.safetensors")
    read = Importance.load(tmp_path / "importance.safetensors")
    assert np.array_equal(read.channels, importance.channels)
    assert np.array_equal(read.heads, importance.heads)
    assert np.array_equal(read.neurons, importance.neurons)
    assert read.shares.keys() == importance.shares.keys()


def test_without_rows_and_with_activations_that_are_no_numbers_it_is_an_error(tmp_path: Path) -> None:
    write_decoder(tmp_path)
    decoder = load_decoder(tmp_path)
    with pytest.raises(DataError, match=r"no row .* data\.split\.calibration"):
        measure(decoder, calibration_rows().take(np.array([], dtype=np.int64)))
    decoder.model.model.layers[1].mlp.up_proj.weight.data[3] = float("inf")
    with pytest.raises(ModelError, match=r"not finite, in neurons\.1"):
        measure(decoder, calibration_rows())
