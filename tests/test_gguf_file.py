"""GGUF files hold every number as it was decided, and transformers' own reader finds the same model in them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_gguf import ARCHITECTURES, change_tokenizer, tensors_of, write_checkpoint

from edgedistill.errors import ModelError
from edgedistill.export import gguf_layout
from edgedistill.export.gguf_file import differences, read_tensors, write_gguf
from edgedistill.models.ggml_tensors import GgmlTensor

KINDS = {"llama": "smollm", "mistral": "llama2", "qwen2": "qwen2", "qwen3": "qwen2", "gemma3": "gemma"}
READABLE = {"qwen3": {"head_dim": 128}, "gemma3": {"head_dim": 256, "query_pre_attn_scalar": 256}}
"""transformers' reader of GGUF files takes these architectures' usual head_dim, whatever the file says."""
Tensors = dict[str, GgmlTensor]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensors]:
    folder = tmp_path_factory.mktemp("llama")
    return folder, tensors_of(write_checkpoint(folder))


def written(folder: Path, tensors: Tensors, file: Path | None = None, **changes: Any) -> Path:
    file = file or folder / "model.gguf"
    said = {"name": "tiny", "version": "1.0", "licence": "mit", "file_type": "F32", "facts": {}, "importance": None}
    write_gguf(file, folder, tensors, **{**said, **changes})
    return file


def logits_of_gguf(file: Path, ids: torch.Tensor) -> torch.Tensor:
    """Return what transformers computes of a GGUF file."""
    from transformers import AutoModelForCausalLM, GgufConfig

    made: Any = AutoModelForCausalLM
    loaded = made.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    with torch.no_grad():
        logits: torch.Tensor = loaded.eval()(ids).logits
    return logits


def furthest(model: Any, file: Path) -> float:
    """Return the largest difference between the logits of a model and of its file."""
    ids = torch.randint(3, 352, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float((model(ids).logits - logits_of_gguf(file, ids)).abs().max())


@pytest.mark.parametrize("stored_as", ["F32", "F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_read_is_what_was_decided(tmp_path: Path, architecture: str, stored_as: str) -> None:
    tensors = tensors_of(write_checkpoint(tmp_path, architecture, KINDS[architecture]), stored_as)
    file = written(tmp_path, tensors, file_type=stored_as)
    read = read_tensors(file)
    assert not differences(file, tensors)
    assert read.keys() == tensors.keys()
    for name, one in tensors.items():
        assert (read[name].type, read[name].shape) == (one.type, one.shape)
        if not (architecture == "gemma3" and one.type == "F32" and len(one.shape) == 1):
            assert read[name].data.tobytes() == one.data.tobytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_finds_the_same_model(tmp_path: Path, architecture: str) -> None:
    model = write_checkpoint(tmp_path, architecture, KINDS[architecture], **READABLE.get(architecture, {}))
    assert furthest(model, written(tmp_path, tensors_of(model))) < 1e-5


def test_rows_in_the_order_of_transformers_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_checkpoint(tmp_path)
    monkeypatch.setattr(gguf_layout, "turn", lambda rows, heads: np.arange(rows))
    assert furthest(model, written(tmp_path, tensors_of(model))) > 0.1


def test_norms_without_their_one_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_checkpoint(tmp_path, "gemma3", "gemma", **READABLE["gemma3"])
    monkeypatch.setattr(gguf_layout, "is_shifted", lambda architecture, name: False)
    assert furthest(model, written(tmp_path, tensors_of(model))) > 0.1


@pytest.mark.parametrize("stored_as", ["F16", "Q4_0"])
def test_one_other_number_is_seen(tmp_path: Path, stored_as: str) -> None:
    tensors = tensors_of(write_checkpoint(tmp_path), stored_as)
    file = written(tmp_path, tensors, file_type=stored_as)
    name = "model.layers.1.self_attn.k_proj.weight"
    changed = tensors[name].data.copy()
    changed.view(np.uint8)[3, 5] ^= 1
    assert differences(file, {**tensors, name: replace(tensors[name], data=changed)}) == [name]
    swapped = tensors[name].data[::-1].copy()
    assert differences(file, {**tensors, name: replace(tensors[name], data=swapped)}) == [name]
    assert differences(file, {n: one for n, one in tensors.items() if n != name}) == [name]


def test_a_tied_head_is_left_out_unless_it_is_stored_otherwise(
    checkpoint: tuple[Path, Tensors], tmp_path: Path
) -> None:
    from gguf import GGUFReader

    folder, tensors = checkpoint
    table = tensors["model.embed_tokens.weight"]
    tied = written(folder, {**tensors, "lm_head.weight": table}, tmp_path / "tied.gguf")
    assert "output.weight" not in {one.name for one in GGUFReader(tied).tensors}
    assert not differences(tied, {**tensors, "lm_head.weight": table})
    finer = GgmlTensor("F16", table.shape, table.data.astype(np.float16))
    own = written(folder, {**tensors, "lm_head.weight": finer}, tmp_path / "own.gguf")
    assert not differences(own, {**tensors, "lm_head.weight": finer})
    assert differences(tied, {**tensors, "lm_head.weight": finer}) == ["lm_head.weight"]


def test_a_truncated_checkpoint_is_refused(checkpoint: tuple[Path, Tensors]) -> None:
    folder, tensors = checkpoint
    lost = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ModelError, match=f"{lost} is missing"):
        written(folder, {name: one for name, one in tensors.items() if name != lost})
    table = tensors["model.embed_tokens.weight"]
    short = GgmlTensor("F32", (300, 64), table.data[:300])
    with pytest.raises(ModelError, match=r"has shape \(300, 64\) instead of \(352, 64\)"):
        written(folder, {**tensors, "model.embed_tokens.weight": short})
    with pytest.raises(ModelError, match="unheard_of is unknown"):
        written(folder, {**tensors, "unheard_of": short})
    norm = tensors["model.norm.weight"]
    half = GgmlTensor("F16", norm.shape, norm.data.astype(np.float16))
    with pytest.raises(ModelError, match=r"is F16, and .* computes norms and biases in F32"):
        written(folder, {**tensors, "model.norm.weight": half})


def test_a_file_is_written_whole_or_not_at_all(
    checkpoint: tuple[Path, Tensors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    folder, tensors = checkpoint
    file = written(folder, tensors, tmp_path / "model.gguf")
    before = file.read_bytes()

    def breaks(self: Any, **_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", breaks)
    with pytest.raises(OSError, match="no space"):
        written(folder, tensors, file)
    with pytest.raises(ModelError, match="no file type"):
        written(folder, tensors, file, file_type="Q9")
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["model.gguf"]


def test_the_same_model_is_the_same_file(checkpoint: tuple[Path, Tensors], tmp_path: Path) -> None:
    folder, tensors = checkpoint
    one, other = (written(folder, tensors, tmp_path / name).read_bytes() for name in ("a.gguf", "b.gguf"))
    assert one == other
    shuffled = dict(sorted(tensors.items(), reverse=True))
    assert written(folder, shuffled, tmp_path / "c.gguf").read_bytes() == one


def test_an_unknown_architecture_names_those_known(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, "gpt2")
    with pytest.raises(ModelError, match=r"llama, mistral, qwen2, qwen3, gemma3_text, and .* is of type 'gpt2'"):
        written(tmp_path, tensors_of(model))


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path, checkpoint: tuple[Path, Tensors]) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ModelError, match="cannot be read as a GGUF file"):
        read_tensors(tmp_path / "text.gguf")
    folder, tensors = checkpoint
    (tmp_path / "cut.gguf").write_bytes(written(folder, tensors).read_bytes()[:4000])
    with pytest.raises(ModelError, match="cannot be read as a GGUF file"):
        read_tensors(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("architecture", "changes", "said"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'gelu' is not 'silu'"),
        ("qwen3", {"attention_bias": True}, "attention_bias is true"),
        ("gemma3", {"query_pre_attn_scalar": 256}, "query_pre_attn_scalar 256 is not 32"),
        ("qwen2", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic' is none"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "attention_factor": 1.5}},
            "rope_parameters.attention_factor has no key",
        ),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, architecture: str, changes: dict[str, Any], said: str
) -> None:
    model = write_checkpoint(tmp_path, architecture, **changes)
    with pytest.raises(ModelError, match=said):
        written(tmp_path, tensors_of(model))


def test_a_context_is_no_longer_than_a_window_that_llama_cpp_does_not_have(tmp_path: Path) -> None:
    from gguf import GGUFReader

    model = write_checkpoint(tmp_path, "mistral", sliding_window=64)
    reader = GGUFReader(written(tmp_path, tensors_of(model)))
    assert reader.fields["llama.context_length"].contents() == 64


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path, checkpoint: tuple[Path, Tensors]) -> None:
    folder, tensors = checkpoint
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def add(tokenizer: dict[str, Any]) -> None:
        tokenizer["model"]["vocab"]["more"] = 352

    change_tokenizer(tmp_path, add)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 352
    with pytest.raises(ModelError, match="token 352, and the model's embedding 352 rows"):
        written(tmp_path, tensors)
