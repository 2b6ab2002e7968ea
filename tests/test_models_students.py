"""What a student takes from its teacher is the teacher's, to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_artifact import LABELS, VOCAB
from tiny_models import ARCHITECTURES, HIDDEN, write_model

from edgedistill.errors import ModelError
from edgedistill.models.load import load_encoder, load_model, load_tokenizer
from edgedistill.models.students import layers, static

IDS = torch.randint(4, VOCAB, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])


def of_layers(wanted: int | tuple[int, ...]) -> layers.Options:
    return layers.Options(kind="layers", layers=wanted)


@given(available=st.integers(1, 60), data=st.data())
def test_layers_are_spread_evenly_from_the_first_to_the_last(available: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, available))
    kept = layers.chosen(of_layers(count), available)
    assert len(kept) == count
    assert kept == tuple(sorted(set(kept)))
    assert kept[-1] == available - 1
    assert count == 1 or kept[0] == 0
    gaps = np.diff(kept)
    assert count < 3 or gaps.max() - gaps.min() <= 2
    assert count < 3 or abs(gaps - (available - 1) / (count - 1)).max() <= 1


def test_layers_that_are_named_are_kept() -> None:
    assert layers.chosen(of_layers((0, 2, 5)), 6) == (0, 2, 5)
    assert layers.chosen(of_layers(6), 6) == layers.chosen(of_layers((0, 1, 2, 3, 4, 5)), 6)


@pytest.mark.parametrize("wanted", [7, (6,), (0, 0), (3, 1), ()])
def test_layers_that_the_teacher_lacks_are_an_error(wanted: Any) -> None:
    with pytest.raises(ModelError, match=r"student\.layers: .*(more than the teacher's 6|must name layers of 0\.\.5)"):
        layers.chosen(of_layers(wanted), 6)


@pytest.mark.parametrize("wanted", [0, -1, (-1,), "two", 1.5])
def test_layers_that_cannot_be_are_refused_by_the_recipe(wanted: Any) -> None:
    with pytest.raises(ValidationError):
        of_layers(wanted)


def parts(model: Any, layer: int) -> dict[str, torch.Tensor]:
    """Return the weights of one encoder layer, by their name in the layer."""
    return {
        name.partition(f"layer.{layer}.")[2]: tensor
        for name, tensor in model.model.state_dict().items()
        if f"layer.{layer}." in name
    }


def others(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights that are in no encoder layer: embeddings, pooler, head."""
    return {name: tensor for name, tensor in model.model.state_dict().items() if ".layer." not in name}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and len(one) > 0 and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("wanted", [2, 3, (1,), (1, 2, 3)])
def test_kept_layers_embeddings_and_head_are_the_teachers(
    architecture: str, wanted: int | tuple[int, ...], tmp_path: Path
) -> None:
    write_model(tmp_path, architecture)
    teacher, student = load_model(tmp_path), layers.make(of_layers(wanted), tmp_path, LABELS, tmp_path)
    kept = layers.chosen(of_layers(wanted), 4)
    assert student.model.config.num_hidden_layers == len(kept)
    assert all(equal(parts(student, new), parts(teacher, old)) for new, old in enumerate(kept))
    assert not parts(student, len(kept))
    assert equal(others(student), others(teacher))
    assert not equal(parts(teacher, 0), parts(teacher, 1)), "layers that are all alike would prove nothing"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_student_of_all_layers_is_the_teacher_and_of_fewer_is_not(architecture: str, tmp_path: Path) -> None:
    write_model(tmp_path, architecture)
    teacher = load_model(tmp_path)
    whole, fewer = (layers.make(of_layers(count), tmp_path, LABELS, tmp_path).eval() for count in (4, 3))
    with torch.no_grad():
        assert torch.equal(whole(IDS, MASK), teacher(IDS, MASK))
        assert not torch.allclose(fewer(IDS, MASK), teacher(IDS, MASK), atol=1e-3)


def test_a_student_of_an_encoder_gets_a_new_head(tmp_path: Path) -> None:
    whole = write_model(tmp_path, headed=False)
    torch.manual_seed(1)
    student = layers.make(of_layers(2), tmp_path, ("x", "y", "z"), tmp_path)
    assert student.labels == ("x", "y", "z")
    assert student.model.classifier.weight.shape == (3, HIDDEN)
    embeddings = student.model.bert.embeddings.state_dict()
    assert equal(embeddings, whole.bert.embeddings.state_dict())


def test_a_student_is_trained_as_itself_and_leaves_its_teacher_alone(tmp_path: Path) -> None:
    write_model(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    student = layers.make(of_layers(2), tmp_path, LABELS, tmp_path)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_teacher_without_layers_is_told(tmp_path: Path) -> None:
    write_model(tmp_path / "bert")
    static_model(tmp_path).save(tmp_path / "static")
    with pytest.raises(ModelError, match="no layers to keep; choose"):
        layers.make(of_layers(1), tmp_path / "static", LABELS, tmp_path)


def of_static(dimensions: int) -> static.Options:
    return static.Options(kind="static", dimensions=dimensions, hidden_size=8)


def static_model(folder: Path, dimensions: int = 16, seed: int = 0) -> Any:
    """Return a static student of the teacher in `folder`/bert, made in `folder`."""
    torch.manual_seed(seed)
    return static.make(of_static(dimensions), folder / "bert", LABELS, folder)


def token_vectors(checkpoint: Path) -> np.ndarray:
    """Return the encoder's mean output for each token alone, asked one by one, (vocab, hidden)."""
    encoder, tokenizer = load_encoder(checkpoint, LABELS), load_tokenizer(checkpoint)
    rows = [[tokenizer.cls_token_id, token, tokenizer.sep_token_id] for token in range(VOCAB)]
    with torch.no_grad():
        means = [encoder(input_ids=torch.tensor([row])).last_hidden_state.mean(dim=1) for row in rows]
    return np.asarray(torch.cat(means))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_table_is_made_of_what_the_teacher_says_of_each_token(architecture: str, tmp_path: Path) -> None:
    write_model(tmp_path / "bert", architecture)
    table = static_model(tmp_path, HIDDEN).embedding.weight.detach().numpy()
    raw = token_vectors(tmp_path / "bert")
    scale = table / raw
    assert np.allclose(scale, scale[:, :1], rtol=1e-2), "as many dimensions as the teacher: only the length changes"
    assert (np.diff(scale[:, 0]) > 0).all(), "rare tokens, which stand late in a vocabulary, weigh more"
    assert table.std() == pytest.approx(1.0, abs=1e-5)


def test_fewer_dimensions_keep_the_distances_as_well_as_they_can(tmp_path: Path) -> None:
    write_model(tmp_path / "bert")
    raw = token_vectors(tmp_path / "bert")
    table = static_model(tmp_path, 8).embedding.weight.detach().numpy()
    centred = raw - raw.mean(axis=0)
    best = np.linalg.svd(centred, full_matrices=False)[1][:8]
    lengths = np.linalg.norm(centred, axis=1)
    weight = static.RARITY / (static.RARITY + 1 / np.arange(2, VOCAB + 2) / (1 / np.arange(2, VOCAB + 2)).sum())
    back = table / weight[:, None]
    back *= np.sqrt((best**2).sum() / (back**2).sum())
    assert np.allclose(np.linalg.svd(back, compute_uv=False), best, rtol=1e-3)
    assert (np.linalg.norm(back, axis=1) <= lengths * 1.001).all()


@pytest.mark.parametrize("dimensions", [HIDDEN + 8, VOCAB + 8])
def test_more_dimensions_than_the_teacher_has_are_free_to_learn(dimensions: int, tmp_path: Path) -> None:
    write_model(tmp_path / "bert")
    table = static_model(tmp_path, dimensions).embedding.weight
    assert table.shape == (VOCAB, dimensions)
    assert not table[:, HIDDEN:].any()
    assert table[:, :HIDDEN].any(dim=1).all()


def test_fewer_tokens_than_dimensions_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "bert")
    monkeypatch.setattr(static, "_encode_each_token", lambda *_: np.random.default_rng(0).normal(size=(12, 20)))
    assert static_model(tmp_path, 16).embedding.weight.shape == (12, 16)


@pytest.mark.parametrize("headed", [True, False])  # loading a checkpoint without a head draws random numbers
def test_token_vectors_are_paid_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headed: bool) -> None:
    write_model(tmp_path / "bert", headed=headed)
    first = static_model(tmp_path)
    asked: list[Path] = []
    monkeypatch.setattr(static, "_encode_each_token", lambda teacher, labels, folder: asked.append(teacher))
    again = static_model(tmp_path)
    assert not asked
    assert equal(first.state_dict(), again.state_dict())
    (tmp_path / "token_vectors.npz").unlink()
    with pytest.raises((AttributeError, TypeError)):
        static_model(tmp_path)
    assert asked


def test_half_written_token_vectors_are_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "bert")
    save = np.savez

    def killed(file: Path, **arrays: np.ndarray) -> None:
        save(file, **arrays)
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)
    with pytest.raises(KeyboardInterrupt):
        static_model(tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "token_vectors.npz").exists()
    assert static_model(tmp_path).embedding.weight.shape == (VOCAB, 16)


def test_the_seed_decides_the_head_and_not_the_table(tmp_path: Path) -> None:
    write_model(tmp_path / "bert")
    one, other = static_model(tmp_path, seed=0), static_model(tmp_path, seed=1)
    assert torch.equal(one.embedding.weight, other.embedding.weight)
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
