"""GGUF files of sentence encoders: every byte as decided, and llama.cpp's vectors are PyTorch's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sentence_encoder import MAX_TOKENS, POSITIONS, write_sentence_encoder
from tiny_tokenizers import texts

from edgedistill.errors import ModelError
from edgedistill.export import gguf_encoder
from edgedistill.export.gguf_encoder import differences, encoder_tensors, read_encoder, write_encoder
from edgedistill.models.ggml_tensors import GgmlTensor
from edgedistill.models.weight_only_layers import Float16Embedding, Float16Linear

CLOSE = 0.9999
FACTS = {"edgedistill.method": "float32"}
TEXTS = [*texts(30), "", "word " * 200, "[CLS] a [SEP]"]


def written(folder: Path, model: Any, tensors: Any = None, file_type: str = "F32") -> Path:
    file = folder / "model.gguf"
    tensors = encoder_tensors(model) if tensors is None else tensors
    write_encoder(file, folder, model.model.config, tensors, file_type=file_type, facts=FACTS, licence="mit")
    return file


def loaded(file: Path, **settings: Any) -> Any:
    pytest.importorskip("llama_cpp", reason="its bindings are an extra")
    from edgedistill.runtimes import llama_cpp_encoder

    return llama_cpp_encoder.load(file.parent, file.name, threads=1, **settings)


def vectors(model: Any, artifact: Any, given: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return what PyTorch and llama.cpp say of the same ids, of all texts at once and so with padding."""
    encoded = artifact.encode(given)
    with torch.no_grad():
        expected = model(*(torch.from_numpy(encoded[name]) for name in ("input_ids", "attention_mask"))).numpy()
    return expected, artifact.run(encoded)


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def in_half_precision(model: Any) -> Any:
    """Return the model with every matrix in half precision, as `float16` stores it."""
    for name, part in list(model.model.named_modules()):
        parent, _, leaf = name.rpartition(".")
        if isinstance(part, torch.nn.Linear):
            small: Any = Float16Linear(part.weight.detach().T.contiguous().half(), part.bias.detach())
        elif isinstance(part, torch.nn.Embedding):
            small = Float16Embedding(part.weight.detach().half())
        else:
            continue
        setattr(model.model.get_submodule(parent), leaf, small)
    return model


@pytest.mark.parametrize("half", [False, True])
def test_what_is_read_is_what_was_decided(tmp_path: Path, half: bool) -> None:
    model = write_sentence_encoder(tmp_path)
    tensors = encoder_tensors(in_half_precision(model) if half else model)
    file = written(tmp_path, model, tensors, "F16" if half else "F32")
    read = read_encoder(file)
    assert not differences(file, tensors)
    assert read.keys() == tensors.keys()
    query = "encoder.layer.1.attention.self.query.weight"
    state = model.model.state_dict()[query].numpy()
    assert read[query].type == ("F16" if half else "F32")
    assert read[query].data.tobytes() == (state.T if half else state).tobytes()
    positions = "embeddings.position_embeddings.weight"
    assert read[positions].type == "F32", "llama.cpp adds them to single precision"
    assert np.array_equal(read[positions].data, model.model.state_dict()[positions].float().numpy())


def test_one_other_number_is_seen(tmp_path: Path) -> None:
    model = write_sentence_encoder(tmp_path)
    tensors = encoder_tensors(model)
    file, name = written(tmp_path, model), "encoder.layer.0.output.dense.weight"
    changed = tensors[name].data.copy()
    changed.view(np.uint8)[3, 5] ^= 1
    assert differences(file, {**tensors, name: replace(tensors[name], data=changed)}) == [name]
    assert differences(file, {n: one for n, one in tensors.items() if n != name}) == [name]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("pooling", "changes"),
    [("mean", {}), ("cls", {"normalize": False}), ("mean", {"type_vocab_size": 1, "layer_norm_eps": 1e-5})],
)
def test_llama_cpp_gives_the_vectors_of_pytorch(tmp_path: Path, pooling: str, changes: Any, exact: bool) -> None:
    model = write_sentence_encoder(tmp_path, pooling, **changes)
    expected, given = vectors(model, loaded(written(tmp_path, model), exact=exact), TEXTS)
    assert least_cosine(expected, given) >= CLOSE
    assert np.allclose(np.linalg.norm(given, axis=1), np.linalg.norm(expected, axis=1), rtol=2e-3)
    assert np.ptp(expected, axis=0).min() > 1e-2, "texts that all give the same would prove nothing"


def test_half_precision_gives_the_vectors_of_its_own_simulation(tmp_path: Path) -> None:
    model = in_half_precision(write_sentence_encoder(tmp_path))
    expected, given = vectors(model, loaded(written(tmp_path, model, file_type="F16")), TEXTS)
    assert least_cosine(expected, given) >= CLOSE


def test_blocks_of_codes_give_the_vectors_of_what_they_stand_for(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="its bindings are an extra")
    from edgedistill.quantize.ggml_encoder import encode

    model = write_sentence_encoder(tmp_path)
    floats = encoder_tensors(model)
    kept = (*gguf_encoder.SUMMED,)
    blocks = {
        name: one if len(one.shape) == 1 or name in kept else encode(one.data, "Q8_0") for name, one in floats.items()
    }
    file = written(tmp_path, model, blocks, "Q8_0")
    assert not differences(file, blocks)
    model.model.load_state_dict({name: torch.from_numpy(one.floats()) for name, one in blocks.items()})
    expected, given = vectors(model, loaded(file), TEXTS)
    assert least_cosine(expected, given) >= 0.999


def test_a_wrong_file_is_told_by_its_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: by rows of two matrices changed for each other, and by another pooling."""
    from gguf import PoolingType

    model = write_sentence_encoder(tmp_path)
    tensors = encoder_tensors(model)
    query, value = (f"encoder.layer.0.attention.self.{part}.weight" for part in ("query", "value"))
    swapped = {**tensors, query: tensors[value], value: tensors[query]}
    expected, given = vectors(model, loaded(written(tmp_path, model, swapped)), TEXTS)
    assert least_cosine(expected, given) < CLOSE
    monkeypatch.setattr(gguf_encoder, "pooling_type", lambda steps: PoolingType.CLS)
    expected, given = vectors(model, loaded(written(tmp_path, model)), TEXTS)
    assert least_cosine(expected, given) < CLOSE


def test_a_text_is_cut_where_the_tokenizer_cuts_it(tmp_path: Path) -> None:
    from edgedistill.models.load import load_tokenizer

    model = write_sentence_encoder(tmp_path)
    artifact, tokenizer = loaded(written(tmp_path, model)), load_tokenizer(tmp_path)
    assert artifact.longest_tokens == MAX_TOKENS < POSITIONS
    for text in ("word " * 200, "word " * (MAX_TOKENS - 2), "word " * (MAX_TOKENS - 1)):
        assert artifact.encode([text])["input_ids"][0].tolist() == tokenizer(text, truncation=True)["input_ids"]


def test_the_operators_that_ran_are_told(tmp_path: Path) -> None:
    model = write_sentence_encoder(tmp_path)
    file = written(tmp_path, model)
    deployed, exact = loaded(file).kernels(), loaded(file, exact=True).kernels()
    assert deployed["GELU"] == exact["GELU"] == 2
    assert deployed["FLASH_ATTN_EXT"] == exact["SOFT_MAX"] == 2
    assert "FLASH_ATTN_EXT" not in exact


def test_the_file_says_what_the_folder_says(tmp_path: Path) -> None:
    from gguf import GGUFReader

    model = write_sentence_encoder(tmp_path, "cls", normalize=False, layer_norm_eps=1e-7)
    fields = GGUFReader(written(tmp_path, model)).fields
    said = {key: field.contents() for key, field in fields.items()}
    assert said["general.architecture"] == "bert"
    assert said["general.license"] == "mit"
    assert said["bert.pooling_type"] == 2
    assert said["bert.attention.causal"] is False
    assert said["bert.attention.layer_norm_epsilon"] == pytest.approx(1e-7)
    assert said["bert.context_length"] == POSITIONS
    assert (said["edgedistill.normalize"], said["edgedistill.max_tokens"]) == (False, MAX_TOKENS)
    assert said["edgedistill.method"] == "float32"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu' is none of gelu"),
        ({"is_decoder": True}, "is_decoder is true"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path, changes: Any, said: str) -> None:
    model = write_sentence_encoder(tmp_path, **changes)
    with pytest.raises(ModelError, match=said):
        written(tmp_path, model)


def test_steps_that_llama_cpp_does_not_have_are_refused(tmp_path: Path) -> None:
    model = write_sentence_encoder(tmp_path / "max", "max")
    with pytest.raises(ModelError, match="pools by mean or cls, and this model by max"):
        written(tmp_path / "max", model)
    model = write_sentence_encoder(tmp_path / "dense")
    model.project(torch.eye(64)[:32])
    model.save(tmp_path / "dense")
    with pytest.raises(ModelError, match="no linear map behind"):
        written(tmp_path / "dense", model)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    model = write_sentence_encoder(tmp_path)
    tensors, name = encoder_tensors(model), "encoder.layer.1.intermediate.dense.weight"
    norm = "embeddings.LayerNorm.weight"
    half = GgmlTensor("F16", tensors[norm].shape, tensors[norm].data.astype(np.float16))
    for wrong, said in (
        ({n: one for n, one in tensors.items() if n != name}, f"{name} is missing"),
        ({**tensors, name: tensors[norm]}, r"has shape \(64,\) instead of \(128, 64\)"),
        ({**tensors, "unheard_of": tensors[norm]}, "unheard_of is unknown"),
        ({**tensors, norm: half}, "is F16, and llama.cpp computes it in F32"),
    ):
        with pytest.raises(ModelError, match=said):
            written(tmp_path, model, wrong)
    assert not list(tmp_path.glob("*.gguf*")), "whole or not at all"


def test_a_static_embedder_is_refused() -> None:
    from edgedistill.models.embedder import StaticEmbedder

    with pytest.raises(ModelError, match="a static one has none"):
        encoder_tensors(StaticEmbedder(10, 4, 4, ()))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ModelError, match="cannot be read as a GGUF file"):
        read_encoder(tmp_path / "text.gguf")
