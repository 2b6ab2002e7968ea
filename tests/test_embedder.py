"""Sentence embedders: pooled as their folder says, saved whole, and read by sentence-transformers as they are."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_artifact import VOCAB, WORDS, write_tokenizer
from tiny_models import write_model

from edgedistill.errors import ModelError
from edgedistill.models import sentence_transformers as layout
from edgedistill.models.embedder import StaticEmbedder, TransformerEmbedder, linear, projected
from edgedistill.models.factorised import factorise
from edgedistill.models.load import load_embedder, load_model, load_tokenizer
from edgedistill.models.pooling import pooled
from edgedistill.models.sentence_transformers import Pooling

TEXTS = [" ".join(WORDS[8:14]), WORDS[20], " ".join(WORDS[9:40:3])]
WAYS: tuple[Pooling, ...] = ("mean", "cls", "max", "mean_sqrt_len_tokens")


def vectors_of(model: Any, folder: Path) -> np.ndarray:
    """Return the vectors of TEXTS in one batch."""
    read = load_tokenizer(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        said: np.ndarray = model(read["input_ids"], read["attention_mask"]).numpy()
    return said


def by_sentence_transformers(folder: Path) -> np.ndarray:
    """Return the vectors that the library gives, told nothing but the folder's name."""
    from sentence_transformers import SentenceTransformer

    given: np.ndarray = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(TEXTS)
    return given


def transformer(folder: Path, way: Pooling = "mean", *, normalize: bool = True) -> TransformerEmbedder:
    write_model(folder / "bert", headed=False)
    encoder = load_embedder(folder / "bert", "mean").model
    return TransformerEmbedder(encoder, way, normalize=normalize).eval()


def static(folder: Path) -> StaticEmbedder:
    write_model(folder / "bert", headed=False)
    tokenizer = load_tokenizer(folder / "bert")
    torch.manual_seed(0)
    return StaticEmbedder(VOCAB, 16, 12, (tokenizer.cls_token_id, tokenizer.sep_token_id)).eval()


def saved(model: Any, folder: Path) -> Path:
    model.save(folder / "saved")
    load_tokenizer(folder / "bert").save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("way", WAYS)
def test_pooling_is_what_its_name_says_and_never_reads_padding(way: Pooling) -> None:
    vectors, mask = (
        torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[1] * 5, [1] * 3 + [0] * 2]),
    )
    rows = [vectors[0], vectors[1, :3]]
    by_hand = {
        "mean": [row.mean(dim=0) for row in rows],
        "cls": [row[0] for row in rows],
        "max": [row.max(dim=0).values for row in rows],
        "mean_sqrt_len_tokens": [row.sum(dim=0) / len(row) ** 0.5 for row in rows],
    }
    assert torch.allclose(pooled(vectors, mask, way), torch.stack(by_hand[way]), atol=1e-6)
    vectors[1, 3:] = 99.0
    assert torch.allclose(pooled(vectors, mask, way), torch.stack(by_hand[way]), atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_sentence_transformers_gives_the_vectors_of_a_saved_embedder(
    way: Pooling, normalize: bool, tmp_path: Path
) -> None:
    model = transformer(tmp_path, way, normalize=normalize)
    folder = saved(model, tmp_path)
    expected = vectors_of(model, folder)
    assert np.array_equal(vectors_of(load_model(folder), folder), expected)
    assert np.allclose(by_sentence_transformers(folder), expected, atol=1e-5)
    settings = folder / layout.POOLING_FOLDER / "config.json"
    other = "pooling_mode_cls_token" if way != "cls" else "pooling_mode_mean_tokens"
    changed = {word: word == other for word in layout.WORDS}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changed))
    assert not np.allclose(vectors_of(load_model(folder), folder), expected, atol=1e-3), "the folder's word counts"


def test_a_linear_map_is_saved_and_read_too(tmp_path: Path) -> None:
    model = transformer(tmp_path)
    torch.manual_seed(1)
    projected(model, 6, None)
    folder = saved(model, tmp_path)
    expected = vectors_of(model, folder)
    assert expected.shape == (3, 6)
    assert np.array_equal(vectors_of(load_model(folder), folder), expected)
    assert np.allclose(by_sentence_transformers(folder), expected, atol=1e-5)


@pytest.mark.parametrize("rank", [None, 4])
def test_a_static_embedder_is_read_back(rank: int | None, tmp_path: Path) -> None:
    model = static(tmp_path)
    if rank is not None:
        factorise(model, rank)
    folder = saved(model, tmp_path)
    assert np.allclose(vectors_of(load_model(folder), folder), vectors_of(model, folder), atol=1e-6)


def test_sentence_transformers_gives_the_vectors_of_a_static_embedder(tmp_path: Path) -> None:
    model = static(tmp_path)
    folder = saved(model, tmp_path)
    assert np.allclose(by_sentence_transformers(folder), vectors_of(model, folder), atol=1e-5)
    model.frame = ()
    assert not np.allclose(by_sentence_transformers(folder), vectors_of(model, folder), atol=1e-3), "it can fail"


def test_an_embedder_with_factors_is_read_back(tmp_path: Path) -> None:
    model = transformer(tmp_path)
    factorise(model, 6)
    folder = saved(model, tmp_path)
    assert np.array_equal(vectors_of(load_model(folder), folder), vectors_of(model, folder))


def test_turned_vectors_keep_every_cosine(tmp_path: Path) -> None:
    model = transformer(tmp_path)
    folder = saved(model, tmp_path)
    before = vectors_of(model, folder)
    turn = torch.linalg.qr(torch.randn(model.width, model.width, generator=torch.Generator().manual_seed(0)))[0]
    projected(model, model.width, turn)
    after = vectors_of(model, folder)
    assert np.allclose(after, before @ turn.numpy(), atol=1e-5)
    assert np.allclose(after @ after.T, before @ before.T, atol=1e-5)


def test_a_head_is_left_behind_and_a_folder_that_says_nothing_needs_a_word(tmp_path: Path) -> None:
    write_model(tmp_path / "bert", headed=True)
    assert load_embedder(tmp_path / "bert", "cls").pooling == "cls"
    with pytest.raises(ModelError, match=r"does not say how it pools .*; write task.pooling, such as mean"):
        load_embedder(tmp_path / "bert")


def steps(folder: Path, *kinds: str, path: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    listed = [{"idx": i, "type": f"sentence_transformers.models.{kind}", "path": path} for i, kind in enumerate(kinds)]
    (folder / layout.MODULES).write_text(json.dumps(listed))
    return folder


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("Transformer", "Pooling", "LSTM"), "has the steps Transformer, Pooling, LSTM"),
        (("WordEmbeddings",), "WordEmb"),
    ],
)
def test_steps_that_are_not_known_are_told(kinds: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        layout.read(steps(tmp_path, *kinds))


def test_a_way_of_pooling_that_is_not_known_is_told(tmp_path: Path) -> None:
    folder = steps(tmp_path, "Transformer", "Pooling")
    (folder / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}))
    with pytest.raises(ModelError, match=r"pools by lasttoken; known is one of: cls, mean"):
        layout.read(folder)
    (folder / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    assert layout.read(folder) == layout.Steps("mean", normalize=False)


@pytest.mark.parametrize("said", ["{}", "[1]", '[{"type": "Transformer"}]', "3"])
def test_what_is_no_list_of_steps_is_told(tmp_path: Path, said: str) -> None:
    (tmp_path / layout.MODULES).write_text(said)
    with pytest.raises(ModelError, match=r"modules.json (is no list of steps|has the steps )"):
        layout.read(tmp_path)


def test_settings_that_are_no_object_are_told(tmp_path: Path) -> None:
    (steps(tmp_path, "Transformer", "Pooling") / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"config.json holds a list, and must hold an object"):
        layout.read(tmp_path)


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_bytes(b"abc")])
def test_a_linear_map_that_cannot_be_read_is_told(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    model = transformer(tmp_path)
    model.project(torch.ones(4, model.width))
    folder = saved(model, tmp_path)
    spoil(folder / layout.DENSE_FOLDER / "model.safetensors")
    with pytest.raises(ModelError, match=r"2_Dense has no matrix in model.safetensors that can be read \("):
        load_model(folder)


@pytest.mark.parametrize(
    ("settings", "normalize", "said"),
    [
        ({"prompts": {"query": "query: "}, "default_prompt_name": "query"}, True, "puts 'query: ' before every text"),
        ({"prompts": {"query": "query: "}, "default_prompt_name": None}, True, None),
        ({"prompts": {"query": ""}, "default_prompt_name": "query"}, True, None),
        ({"similarity_fn_name": "dot"}, False, "compares vectors by dot, and here it is by cosine"),
        ({"similarity_fn_name": "manhattan"}, True, "compares vectors by manhattan"),
        ({"similarity_fn_name": "dot"}, True, None),
        ({"similarity_fn_name": None}, False, None),
    ],
)
def test_a_teacher_is_read_and_compared_as_its_own_users_do_it(
    settings: dict[str, Any], normalize: bool, said: str | None, tmp_path: Path
) -> None:
    layout.write(tmp_path, layout.Steps("mean", normalize=normalize), 8, 8)
    (tmp_path / layout.SETTINGS).write_text(json.dumps(settings))
    with nullcontext() if said is None else pytest.raises(ModelError, match=said):
        layout.check_used_alike(tmp_path, None)
    with pytest.raises(ModelError, match=r"pools by mean, and task\.pooling says max; leave"):
        layout.check_used_alike(tmp_path, "max")


def test_a_linear_map_with_an_activation_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"activation_function": "torch.nn.modules.activation.Tanh"}))
    with pytest.raises(ModelError, match="has the activation Tanh"):
        layout.check_plain(tmp_path, {"linear.weight": None})
    (tmp_path / "config.json").write_text(json.dumps({"activation_function": layout.IDENTITY}))
    layout.check_plain(tmp_path, {"linear.weight": None})
    with pytest.raises(ModelError, match=r"linear\.bias"):
        layout.check_plain(tmp_path, {"linear.weight": None, "linear.bias": None})


def test_a_linear_map_is_the_matrix_and_draws_nothing() -> None:
    torch.manual_seed(5)
    weight, expected = torch.ones(2, 3), torch.Generator().manual_seed(5)
    assert torch.equal(linear(weight)(torch.ones(1, 3)), torch.full((1, 2), 3.0))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))
