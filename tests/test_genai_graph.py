"""Folders for onnxruntime-genai: the numbers in them, what they compute, and the tokenizer beside them."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from odd_texts import ODD_TEXTS
from tiny_decoders import documents, write_decoder
from tiny_ggml import simulated

from edgedistill.errors import ModelError, StageError
from edgedistill.export import genai_builder
from edgedistill.export.decoder_file import Described
from edgedistill.export.formats import onnx_genai
from edgedistill.export.genai_names import checkpoint_names
from edgedistill.export.genai_tokenizer import spelled_out
from edgedistill.models.block_tensors import BlockTensor
from edgedistill.models.decoder import load_decoder
from edgedistill.models.load import load_tokenizer
from edgedistill.quantize.block_stage import block_weights
from edgedistill.quantize.methods.onnx_int4 import Options

pytest.importorskip("onnxruntime_genai", reason="its model builder is in the extra genai")
OF = onnx_genai.Options
QUERY, TABLE, HEAD = "model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen2")
    write_decoder(folder, "qwen2")  # biases, and a head of its own
    return folder


@pytest.fixture(scope="module")
def built(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_genai.start(checkpoint, tmp_path_factory.mktemp("built"))


def written(built: Path, checkpoint: Path, root: Path, tensors: dict[str, BlockTensor], level: int = 4) -> Path:
    facts = {"teacher_source": "a teacher", "method": "onnx_int4"}
    described = Described("tiny", "1.0", "MIT", "onnx_int4", 1, facts)
    place = onnx_genai.place(root, described)
    onnx_genai.write(place, built, checkpoint, tensors, described, OF(format="onnx_genai", accuracy_level=level))
    return place


def divergence(model: Any, folder: Path, checkpoint: Path) -> float:
    """Return the mean KL divergence of what onnxruntime-genai says from what PyTorch says, in nats."""
    from edgedistill.runtimes.onnxruntime_genai import load

    ids = load_tokenizer(checkpoint)(documents(1, seed=3)[0])["input_ids"][:60]
    row = torch.tensor([ids])
    with torch.no_grad():
        expected = model(row, torch.ones_like(row))[0].log_softmax(-1)
    said = torch.from_numpy(load(folder, "", threads=1, context_tokens=64).logits(ids)).log_softmax(-1)
    return float((expected.exp() * (expected - said)).sum(-1).mean())


MIXED = {QUERY: "int8", "*layers.1.self_attn.k_proj*": "float32", HEAD: "int8", "*down_proj*": "float32"}


@pytest.mark.parametrize(
    "settings",
    [{}, {"symmetric": True, "group_size": 16}, {"overrides": MIXED}, {"overrides": {"*": "float32"}},
     {"overrides": {TABLE: "float32", "*gate_proj*": "int8"}}],
)  # fmt: skip
def test_a_folder_holds_and_computes_what_was_decided(
    built: Path, checkpoint: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = load_decoder(checkpoint)
    tensors, facts, _ = block_weights(Options(method="onnx_int4", importance=False, **settings), model, None)
    place = written(built, checkpoint, tmp_path, tensors)
    assert onnx_genai.differences(place, tensors) == []
    graph = onnx.load(place / "model.onnx").graph
    kinds = {one.type.partition("_")[0] for one in facts}
    bits = {f"INT{a.i}" for node in graph.node for a in node.attribute if a.name == "bits"}
    assert bits == kinds - {"F32"}
    twin = onnx_genai.exact_twin(place, _empty(tmp_path / "exact"))
    rounded = simulated(model, tensors)
    assert divergence(rounded, twin, checkpoint) < 1e-6
    if bits:
        assert 1e-6 < divergence(rounded, place, checkpoint) < 0.02, "8-bit activations"
        assert divergence(model, place, checkpoint) > divergence(rounded, place, checkpoint)


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_accuracy_level_is_the_recipes(built: Path, checkpoint: Path, tmp_path: Path) -> None:
    model = load_decoder(checkpoint)
    tensors, _, _ = block_weights(Options(method="onnx_int4", importance=False), model, None)
    for level in (0, 1, 4):
        place = written(built, checkpoint, tmp_path / str(level), tensors, level)
        stored = onnx.load(place / "model.onnx", load_external_data=False)
        found = [a.i for node in stored.graph.node for a in node.attribute if a.name == "accuracy_level"]
        assert set(found) == {level}
        said = {one.key: one.value for one in stored.metadata_props}
        assert said["edgedistill.accuracy_level"] == str(level)
        assert "builder quantized nothing" in said["edgedistill.quantized_by"]
        assert (divergence(simulated(model, tensors), place, checkpoint) < 1e-6) is (level != 4)


def test_two_writes_give_the_same_bytes(built: Path, checkpoint: Path, tmp_path: Path) -> None:
    tensors, _, _ = block_weights(Options(method="onnx_int4", importance=False), load_decoder(checkpoint), None)
    one, other = (written(built, checkpoint, tmp_path / name, tensors) for name in ("one", "other"))
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes()
        assert str(checkpoint.parent) not in file.read_bytes().decode("latin-1"), "no folder of this machine is named"
    assert {file.name for file in one.iterdir()} >= {"genai_config.json", "tokenizer.json", "chat_template.jinja"}


def tampered(place: Path, change: Any) -> None:
    model = onnx.load(place / "model.onnx")
    change(model.graph)
    (place / "model.onnx.data").unlink()
    onnx.save(model, place / "model.onnx")


def _flip_a_code(graph: Any) -> None:
    (codes,) = (one for one in graph.initializer if one.name == f"{HEAD}.codes")
    codes.raw_data = bytes([codes.raw_data[0] ^ 1]) + codes.raw_data[1:]


def _shift_a_bias(graph: Any) -> None:
    (bias,) = (one for one in graph.initializer if one.name.endswith("layers.0.attn.qkv_proj.Add.bias"))
    bias.raw_data = bias.raw_data[4:] + bias.raw_data[:4]


def _share_a_norm(graph: Any) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == "model.layers.1.input_layernorm.weight":
                node.input[i] = "model.layers.0.input_layernorm.weight"


def _say_larger_blocks(graph: Any) -> None:
    (table,) = (node for node in graph.node if node.op_type == "GatherBlockQuantized")
    for attribute in table.attribute:
        if attribute.name == "block_size":
            attribute.i = 64


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_flip_a_code, HEAD),
        (_shift_a_bias, "model.layers.0.self_attn.q_proj.bias"),
        (_share_a_norm, "model.layers.1.input_layernorm.weight"),
        (_say_larger_blocks, TABLE),
    ],
)
def test_what_was_changed_is_found(built: Path, checkpoint: Path, tmp_path: Path, change: Any, named: str) -> None:
    tensors, _, _ = block_weights(Options(method="onnx_int4", importance=False), load_decoder(checkpoint), None)
    place = written(built, checkpoint, tmp_path, tensors)
    tampered(place, lambda graph: None)
    assert onnx_genai.differences(place, tensors) == []
    tampered_again = written(built, checkpoint, tmp_path, tensors)
    tampered(tampered_again, change)
    assert named in onnx_genai.differences(tampered_again, tensors)


def test_numbers_that_the_builder_changed_are_refused(built: Path, checkpoint: Path, tmp_path: Path) -> None:
    tensors, _, _ = block_weights(
        Options(method="onnx_int4", importance=False, overrides={"*": "float32"}), load_decoder(checkpoint), None
    )
    other = tensors[QUERY].data.copy()
    other[0, 0] += 1
    changed = {**tensors, QUERY: BlockTensor("F32", other.shape, other)}
    with pytest.raises(StageError, match=r"qkv_proj\.MatMul\.weight: .* changed the numbers"):
        written(built, checkpoint, tmp_path, changed)
    fewer = {name: one for name, one in tensors.items() if name != QUERY}
    with pytest.raises(StageError, match="is no matrix of the checkpoint"):
        written(built, checkpoint, tmp_path, fewer)


def test_what_the_builder_does_not_know_is_told(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(checkpoint, tmp_path / "gpt2")
    config = json.loads((tmp_path / "gpt2" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "gpt2" / "config.json").write_text(json.dumps(config | {"architectures": ["AbacusForCausalLM"]}))
    with pytest.raises(StageError, match=r"model builder could not build gpt2: NotImplementedError"):
        genai_builder.build(tmp_path / "gpt2", tmp_path / "made")
    monkeypatch.setattr(genai_builder, "BUILDER", "onnxruntime_genai_that_is_not_there")
    with pytest.raises(StageError, match=r"No module named onnxruntime_genai.*pip install 'edgedistill\[genai\]'"):
        genai_builder.build(checkpoint, tmp_path / "made")


def test_names_are_those_of_the_checkpoint() -> None:
    known = [QUERY, QUERY.replace("q_proj", "k_proj"), QUERY.replace("q_proj", "v_proj"), TABLE, "model.norm.weight"]
    assert checkpoint_names("model.layers.0.attn.qkv_proj.MatMul.weight", known) == tuple(known[:3])
    assert checkpoint_names("lm_head.MatMul.weight", known) == (TABLE,)
    assert checkpoint_names("lm_head.MatMul.weight", [*known, HEAD]) == (HEAD,)
    assert checkpoint_names("model.layers.7.final_norm_layernorm.weight", known) == ("model.norm.weight",)
    assert checkpoint_names("model.layers.1.attn.qkv_proj.MatMul.weight", known) == ()
    assert checkpoint_names("model.layers.0.attn.qkv_proj.MatMul.weight", known[1:]) == ()


@pytest.mark.parametrize("individual", [True, False])
def test_a_tokenizer_that_is_spelled_out_is_the_same(tmp_path: Path, individual: bool) -> None:
    from tokenizers import Tokenizer

    write_decoder(tmp_path, layers=1)
    said = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    said["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = individual
    before = json.dumps(said)
    one, other = Tokenizer.from_str(before), Tokenizer.from_str(spelled_out(before))
    assert spelled_out(before) != before
    for text in (*ODD_TEXTS, *documents(20), "x½ ² Ⅷ ٣٤ 12 345"):
        assert one.encode(text).ids == other.encode(text).ids
        assert one.decode(one.encode(text).ids) == other.decode(other.encode(text).ids)
    assert spelled_out(spelled_out(before)) == spelled_out(before)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    from edgedistill.runtimes.onnxruntime_genai import load

    for said in ("{", "{}", '{"model": {"context_length": 8}}'):
        (tmp_path / "genai_config.json").write_text(said, encoding="utf-8")
        with pytest.raises(ModelError, match="is not a model's settings"):
            load(tmp_path, "", threads=1, context_tokens=8)
