"""A factorised token table starts as near to the whole one as its rank allows, and is saved, loaded and exported."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_artifact import LABELS, VOCAB, write_tokenizer
from tiny_models import ARCHITECTURES, HIDDEN, write_model

from edgedistill import registry
from edgedistill.errors import ModelError
from edgedistill.models import student
from edgedistill.models.classifier import StaticClassifier
from edgedistill.models.config_json import read_config
from edgedistill.models.factorised import RANK, best_factors, factorise, rank_of
from edgedistill.models.load import load_encoder, load_encoder_with_new_head, load_model
from edgedistill.models.students import layers
from edgedistill.runtimes import onnxruntime

IDS = torch.randint(4, VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])
HEAD = student.Head(LABELS, len(LABELS))
KINDS: dict[str, dict[str, Any]] = {
    "layers": {"layers": 2},
    "pretrained": {"model": {"path": "."}, "licence": "MIT"},
    "scaled": {"layers": 2, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 20},
    "static": {"dimensions": 16, "hidden_size": 8},
}


def made(kind: str, folder: Path, rank: int | None = 6, architecture: str = "bert") -> Any:
    """Return a student of a tiny teacher that is written into `folder`."""
    write_model(folder / "teacher", architecture)
    torch.manual_seed(0)
    return student.make(options(kind, rank), folder / "teacher", HEAD, folder)


def options(kind: str, rank: int | None = 6) -> Any:
    return registry.load(student.STUDENTS, kind).Options.model_validate(
        {"kind": kind, "embedding_rank": rank, **KINDS[kind]}
    )


@pytest.mark.parametrize("shape", [(200, 24), (24, 24), (10, 24)])
@pytest.mark.parametrize("rank", [1, 5, 9])
def test_factors_are_the_best_ones_of_their_rank(shape: tuple[int, int], rank: int) -> None:
    table = np.random.default_rng(0).normal(size=shape) * np.geomspace(1, 0.01, shape[1])
    left, right = best_factors(torch.from_numpy(table).float(), rank)
    product = (left.double() @ right.double()).numpy()
    u, singular, v = np.linalg.svd(table, full_matrices=False)
    assert np.allclose(product, (u[:, :rank] * singular[:rank]) @ v[:rank], atol=1e-5)
    smallest = np.sqrt((singular[rank:] ** 2).sum())  # Eckart and Young's bound
    assert np.linalg.norm(table - product) == pytest.approx(smallest, rel=1e-4)
    worse = np.linalg.norm(table - (u[:, 1 : rank + 1] * singular[1 : rank + 1]) @ v[1 : rank + 1])
    assert worse > smallest * 1.01, "other singular vectors are not as good"


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_low_rank_loses_nothing(kind: str, tmp_path: Path) -> None:
    whole = made(kind, tmp_path, rank=None).eval()
    with torch.no_grad():
        table = whole.token_table.weight
        table.copy_(torch.randn(VOCAB, 3) @ torch.randn(3, table.shape[1]))
        before = whole(IDS, MASK)
        factorise(whole, 3)
        assert torch.allclose(whole(IDS, MASK), before, atol=1e-4)
        factorise_again = whole.token_table
        assert factorise_again.embedding.weight.shape == (VOCAB, 3)
        factorise_again.projection.weight.mul_(1.1)
        assert not torch.allclose(whole(IDS, MASK), before, atol=1e-4), "the check can fail"


def counted(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_counted_saved_and_loaded(kind: str, architecture: str, tmp_path: Path) -> None:
    model = made(kind, tmp_path, architecture=architecture).eval()
    said = student.anatomy(options(kind), read_config(tmp_path / "teacher"), len(LABELS), 8)
    assert said.parameters == counted(model)
    model.save(tmp_path / "saved")
    assert read_config(tmp_path / "saved")[RANK] == 6 == rank_of(model)
    again = load_model(tmp_path / "saved")
    assert rank_of(again) == 6
    assert again.labels == LABELS
    with torch.no_grad():
        assert torch.equal(again(IDS, MASK), model(IDS, MASK))
    again.save(tmp_path / "again")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("saved", "again")]
    assert files[0] == files[1]
    assert read_config(tmp_path / "again") == read_config(tmp_path / "saved")


def test_the_factors_cost_one_product_more(tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    operations = []
    for rank in (None, 6):
        model = made("layers", tmp_path / str(rank), rank).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(IDS[:1], MASK[:1])
        said = student.anatomy(options("layers", rank), read_config(tmp_path / str(rank) / "teacher"), 2, 9)
        operations.append((counter.get_total_flops(), 9 * said.flops_per_token))
    assert operations[1][0] - operations[0][0] == operations[1][1] - operations[0][1] == 9 * 2 * 6 * HIDDEN


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_encoder_is_taken_out_of_it_and_a_student_made_of_it(architecture: str, tmp_path: Path) -> None:
    model = made("layers", tmp_path, architecture=architecture).eval()
    model.save(tmp_path / "saved")
    with torch.no_grad():
        state = load_encoder(tmp_path / "saved", LABELS)(input_ids=IDS, attention_mask=MASK).last_hidden_state
        assert torch.equal(state, model.model.base_model(input_ids=IDS, attention_mask=MASK).last_hidden_state)
    other = load_encoder_with_new_head(tmp_path / "saved", ("x", "y", "z"))
    fewer = layers.make(layers.Options(kind="layers", layers=1), tmp_path / "saved", LABELS, tmp_path)
    for made_of_it in (other, fewer):
        assert rank_of(made_of_it) == 6
        assert torch.equal(made_of_it.token_table.embedding.weight, model.token_table.embedding.weight)


@pytest.mark.parametrize("harm", ["lacking", "left over", "other rank"])
def test_a_checkpoint_that_does_not_hold_what_it_says_is_refused(harm: str, tmp_path: Path) -> None:
    made("layers", tmp_path).save(tmp_path / "saved")
    file, config = tmp_path / "saved" / "model.safetensors", tmp_path / "saved" / "config.json"
    state = load_file(file)
    if harm == "lacking":
        state.pop("classifier.bias")
    if harm == "left over":
        state["more.weight"] = torch.zeros(2)
    save_file(state, file, {"format": "pt"})
    if harm == "other rank":
        config.write_text(json.dumps(read_config(tmp_path / "saved") | {RANK: 5}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"does not hold what its config\.json says: .*; fetch it again"):
        load_model(tmp_path / "saved")


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_that_saves_nothing_is_refused_and_the_largest_named(kind: str, tmp_path: Path) -> None:
    whole = made(kind, tmp_path, rank=None)
    width = whole.token_table.embedding_dim
    largest = max(rank for rank in range(1, width) if rank * (VOCAB + width) < VOCAB * width)
    wrong = options(kind, largest + 1)
    said = rf"student\.embedding_rank: {largest + 1} saves nothing .* write {largest} or less"
    with pytest.raises(ModelError, match=said):
        student.make(wrong, tmp_path / "teacher", HEAD, tmp_path)
    with pytest.raises(ModelError, match=said):
        student.anatomy(wrong, read_config(tmp_path / "teacher"), 2, 8)
    assert rank_of(student.make(options(kind, largest), tmp_path / "teacher", HEAD, tmp_path)) == largest


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("kind", ["layers", "static"])
def test_both_exporters_write_what_it_computes(kind: str, exporter: str, tmp_path: Path) -> None:
    layout = registry.load("edgedistill.export.formats", "onnx")
    model = made(kind, tmp_path).eval()
    model.save(tmp_path / "out")
    write_tokenizer(tmp_path / "out")
    layout.write(model, tmp_path / "out" / "model.onnx", exporter, layout.Options(format="onnx"), {})
    artifact = onnxruntime.load(tmp_path / "out", "model.onnx", threads=1)
    for size in (1, 3):
        given = {"input_ids": IDS[:size].numpy(), "attention_mask": MASK[:size].numpy()}
        with torch.no_grad():
            assert np.abs(artifact.run(given) - model(IDS[:size], MASK[:size]).numpy()).max() < 1e-5
    arrays = layout.stored_arrays(tmp_path / "out" / "model.onnx")
    assert model.token_table.embedding.weight.detach().numpy().tobytes() in arrays, "no exporter multiplied the two"


def test_quantization_finds_both_factors() -> None:
    from edgedistill.quantize.methods import dynamic_int8
    from edgedistill.training.rows import TokenRows

    model = StaticClassifier(VOCAB, 16, 8, LABELS, rank=4).eval()
    rows = TokenRows(np.arange(8), np.array([0, 8]), 0)
    found = dict(
        dynamic_int8.quantize(model, dynamic_int8.Options(method="dynamic_int8", cpus=("host",), min_weights=1), rows)
    )
    assert {"embedding.embedding", "embedding.projection"} <= found.keys()
