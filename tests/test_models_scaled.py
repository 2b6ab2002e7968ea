"""A scaled student is the teacher where nothing is cut, and where nothing is lost; elsewhere it is a better start."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_artifact import LABELS, VOCAB, texts, write_tokenizer
from tiny_models import ARCHITECTURES, HIDDEN, config_of, model_of, write_model
from torch import Tensor

from edgedistill import registry
from edgedistill.errors import ModelError
from edgedistill.models.config_json import read_config
from edgedistill.models.encoder_names import ENCODERS, EncoderNames
from edgedistill.models.factorised import factorise
from edgedistill.models.load import load_model
from edgedistill.models.students import layers, scaled

IDS = torch.randint(4, VOCAB, (64, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS)
TEACHERS = {"hidden_size": HIDDEN, "num_attention_heads": 2, "intermediate_size": 48}
"""Sizes of the tiny teachers; they have four layers."""


def options(**sizes: Any) -> scaled.Options:
    return scaled.Options(kind="scaled", **sizes)


def make(folder: Path, **sizes: Any) -> Any:
    """Return a student of the teacher in `folder`, made there."""
    torch.manual_seed(0)
    return scaled.make(options(**sizes), folder, LABELS, folder).eval()


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(IDS, MASK)
        return logits


@pytest.mark.parametrize("sizes", [{}, {"layers": 4, **TEACHERS}])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_student_of_the_teachers_sizes_is_the_teacher(
    architecture: str, sizes: dict[str, int], tmp_path: Path
) -> None:
    write_model(tmp_path, architecture)
    expected = logits_of(load_model(tmp_path))
    assert torch.equal(logits_of(make(tmp_path, **sizes)), expected)
    for name, smaller in (("hidden_size", 30), ("num_attention_heads", 1), ("intermediate_size", 40)):
        assert not torch.allclose(logits_of(make(tmp_path, **{name: smaller})), expected, atol=1e-3)


@pytest.mark.parametrize("headed", [True, False])
@pytest.mark.parametrize("wanted", [2, (1, 3)])
def test_where_only_layers_are_cut_it_is_a_student_of_layers(wanted: Any, headed: bool, tmp_path: Path) -> None:
    write_model(tmp_path, headed=headed)
    student = make(tmp_path, layers=wanted)
    torch.manual_seed(0)
    other = layers.make(layers.Options(kind="layers", layers=wanted), tmp_path, LABELS, tmp_path).state_dict()
    state = student.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": 1, "hidden_size": 20, "num_attention_heads": 1, "intermediate_size": 7},
        {"hidden_size": 10},
        {"num_attention_heads": 1},
        {"intermediate_size": 5},
    ],
)
def test_its_config_and_its_anatomy_say_what_it_has(architecture: str, sizes: dict[str, int], tmp_path: Path) -> None:
    write_model(tmp_path, architecture)
    student = make(tmp_path, **sizes)
    wanted = {"num_hidden_layers": sizes.get("layers", 4), **TEACHERS, **sizes} | {"layers": None}
    config, inner = student.model.config, ENCODERS[architecture].sizes[2]
    found = {name: getattr(config, inner if name == "intermediate_size" else name, None) for name in wanted}
    assert found == wanted
    counted = scaled.anatomy(options(**sizes), read_config(tmp_path), len(LABELS), 8)
    assert counted.parameters == sum(parameter.numel() for parameter in student.parameters())
    smaller = scaled.anatomy(options(), read_config(tmp_path), len(LABELS), 8)
    assert counted.parameters < smaller.parameters or sizes == {"num_attention_heads": 1}


def test_embeddings_as_wide_as_the_layers_stay_so(tmp_path: Path) -> None:
    write_model(tmp_path, "electra", embedding_size=HIDDEN)
    student = make(tmp_path, hidden_size=20)
    assert student.model.config.embedding_size == 20
    assert student.model.electra.embeddings.word_embeddings.weight.shape == (VOCAB, 20)


def test_a_teacher_whose_token_table_is_factorised_gives_its_product(tmp_path: Path) -> None:
    write_model(tmp_path / "whole")
    teacher = load_model(tmp_path / "whole")
    factorise(teacher, 8)
    teacher.save(tmp_path / "factorised")
    write_tokenizer(tmp_path / "factorised")
    same = make(tmp_path / "factorised")
    assert same.model.get_input_embeddings().weight.shape == (VOCAB, HIDDEN)
    assert torch.allclose(logits_of(same), logits_of(teacher), atol=1e-4)
    assert not torch.allclose(logits_of(same), logits_of(load_model(tmp_path / "whole")), atol=1e-2)
    narrow = make(tmp_path / "factorised", hidden_size=20)
    counted = scaled.anatomy(options(hidden_size=20), read_config(tmp_path / "factorised"), len(LABELS), 8)
    assert counted.parameters == sum(parameter.numel() for parameter in narrow.parameters() if parameter.requires_grad)


def widened(small: Any, names: EncoderNames) -> dict[str, Tensor]:
    """Return the state of a model twice as wide, with twice the heads and neurons, that computes the same.

    Every number of the stream is there twice, and what is new in heads and neurons writes nothing.
    """
    state, count = small.state_dict(), small.config.num_hidden_layers
    place = [f"{names.layers}.{layer}" for layer in range(count)]
    heads = {f"{layer}.{name}" for layer in place for name in (names.query, names.key, names.value)}
    inner = {f"{layer}.{names.inner}" for layer in place} | {names.hidden_layer}
    outer = {f"{layer}.{name}" for layer in place for name in (names.output, names.outer)}
    projection = f"{names.embeddings}_project"
    narrow_embeddings = f"{projection}.weight" in state

    def wide(name: str, part: Tensor) -> Tensor:
        module = name.rpartition(".")[0]
        if module in heads | inner:  # reads the stream, of which it is now given twice as much
            read = torch.cat([part / 2, part / 2], dim=1) if part.dim() == 2 else part
            return torch.cat([read, torch.randn_like(read)])
        if module in outer:
            read = torch.cat([part, torch.zeros_like(part)], dim=1) if part.dim() == 2 else part
            return torch.cat([read, read])
        if module == names.classifier:
            return torch.cat([part, torch.zeros_like(part)], dim=1) if part.dim() == 2 else part
        if module == projection:
            return torch.cat([part, part])
        if name.startswith(names.embeddings) and narrow_embeddings:
            return part
        return torch.cat([part, part], dim=-1)  # tables and layer norms

    return {name: wide(name, part) for name, part in state.items()}


SHAPES = {
    "distilbert": {"dim": 2 * HIDDEN, "n_heads": 4, "hidden_dim": 96},
    "bert": {"hidden_size": 2 * HIDDEN, "num_attention_heads": 4, "intermediate_size": 96},
}


def write_widened(folder: Path, architecture: str, *, noise: float = 0.0, gains: float = 0.0) -> Any:
    """Write a teacher of width 64 that lies in 32 dimensions, and return the model of that width which it is.

    Args:
        noise: what else it says, over the size of each weight.
        gains: by how much those of one LayerNorm differ from each other.
    """
    torch.manual_seed(0)
    small = model_of(config_of(architecture, layers=2))
    with torch.no_grad():
        for name, part in small.named_parameters():
            if "norm" in name.lower():
                alike = 0.8 if name.endswith("weight") else 0.0
                part.copy_(alike + torch.randn_like(part) * (gains if name.endswith("weight") else 0.2))
    wide = model_of(config_of(architecture, layers=2, **SHAPES.get(architecture, SHAPES["bert"])))
    state = widened(small, ENCODERS[architecture])
    wide.load_state_dict({name: part + noise * part.std() * torch.randn_like(part) for name, part in state.items()})
    wide.save_pretrained(folder)
    write_tokenizer(folder)
    return small


HALF = {"hidden_size": HIDDEN, "num_attention_heads": 2, "intermediate_size": 48}


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_teacher_that_is_wider_than_it_needs_is_found_again(architecture: str, tmp_path: Path) -> None:
    small = write_widened(tmp_path, architecture)
    expected = logits_of(load_model(tmp_path))
    with torch.no_grad():
        assert distance(small(input_ids=IDS, attention_mask=MASK).logits, expected) < 1e-4, "it is the same model"
    assert distance(logits_of(make(tmp_path, **HALF)), expected) < 1e-3
    narrower = make(tmp_path, **HALF | {"hidden_size": HIDDEN - 6})
    assert distance(logits_of(narrower), expected) > 0.02


def test_gains_that_differ_cost_something(tmp_path: Path) -> None:
    write_widened(tmp_path, "bert", gains=0.3)
    assert distance(logits_of(make(tmp_path, **HALF)), logits_of(load_model(tmp_path))) > 0.02


def correlation(model: Any, expected: Tensor) -> float:
    """Return how far a model's margins between the two labels go with the expected ones over texts, -1..1."""
    both = torch.stack([logits[:, 1] - logits[:, 0] for logits in (logits_of(model), expected)])
    return float(torch.corrcoef(both)[0, 1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_where_a_teacher_is_nearly_that_narrow_it_starts_far_ahead_of_chance(architecture: str, tmp_path: Path) -> None:
    write_widened(tmp_path, architecture, noise=0.02)
    expected, student = logits_of(load_model(tmp_path)), make(tmp_path, **HALF)
    assert correlation(student, expected) > 0.95
    for seed in range(3):
        torch.manual_seed(seed)
        by_chance = type(student)(model_of(student.model.config))
        assert correlation(by_chance, expected) < 0.8


def test_the_hidden_states_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    first = make(tmp_path, hidden_size=20).state_dict()
    monkeypatch.setattr(scaled, "_sentences", lambda *_: pytest.fail("they were kept"))
    again = make(tmp_path, hidden_size=20).state_dict()
    assert all(torch.equal(again[name], first[name]) for name in first)
    (tmp_path / "stream_moment.npy").unlink()
    make(tmp_path, num_attention_heads=1)  # as wide as the teacher: nothing to ask
    with pytest.raises(pytest.fail.Exception, match="they were kept"):
        make(tmp_path, hidden_size=20)


def test_dropout_has_no_say_in_what_is_kept(tmp_path: Path) -> None:
    states = []
    for name, dropout in (("none", 0.0), ("much", 0.9)):
        write_model(tmp_path / name, hidden_dropout_prob=dropout)
        states.append(make(tmp_path / name, hidden_size=20).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(("vocab", "positions"), [(VOCAB, 48), (3000, 512), (100_000, 512), (10, 512), (500, 8)])
@pytest.mark.parametrize("frame", [(2, 3), (None, None), (None, 3)])
def test_sentences_hold_the_vocabulary_and_fit_the_positions(
    vocab: int, positions: int, frame: tuple[int | None, int | None]
) -> None:
    config = SimpleNamespace(vocab_size=vocab, max_position_embeddings=positions)
    tokenizer = SimpleNamespace(cls_token_id=frame[0], sep_token_id=frame[1])
    sentences = scaled._sentences(config, tokenizer)
    count, tokens = sentences.shape
    framed = None not in frame
    assert tokens <= positions
    inside = sentences[:, 1:-1] if framed else sentences
    assert len(np.unique(inside)) == min(vocab, inside.size)
    assert count <= scaled.MOST_SENTENCES
    assert not framed or (sentences[:, [0, -1]] == frame).all()


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_every_exporter_writes_it_without_changing_a_number(exporter: str, tmp_path: Path) -> None:
    layout, runtime = (
        registry.load("edgedistill.export.formats", "onnx"),
        registry.load("edgedistill.runtimes", "onnxruntime"),
    )
    write_model(tmp_path)
    student = make(tmp_path, layers=2, hidden_size=20, num_attention_heads=1, intermediate_size=10)
    student.save(tmp_path)
    layout.write(student, tmp_path / "onnx" / "model.onnx", exporter, layout.Options(format="onnx"), {})
    loaded = runtime.load(tmp_path, "onnx/model.onnx", threads=1)
    encoded = loaded.encode(texts(5))
    with torch.no_grad():
        expected = student(*(torch.from_numpy(encoded[key]) for key in ("input_ids", "attention_mask"))).numpy()
    assert loaded.labels == LABELS
    assert np.abs(loaded.run(encoded) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"hidden_size": 40}, "student.hidden_size: 40 is more than the teacher's 32; write 32 or less"),
        ({"num_attention_heads": 4}, "student.num_attention_heads: 4 is more than the teacher's 2; write 2 or less"),
        ({"intermediate_size": 49}, "student.intermediate_size: 49 is more than the teacher's 48; write 48 or less"),
        ({"layers": 5}, "student.layers: 5 is more than the teacher's 4 layers"),
        ({"layers": (0, 4)}, r"student.layers: \[0, 4\] must name layers of 0..3"),
        ({"hidden_size": 21}, "student.hidden_size: hidden_size 21 does not divide into 2 heads; write 20 or 22, or"),
    ],
)
def test_sizes_that_the_teacher_has_not_are_an_error(sizes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_model(tmp_path)
    with pytest.raises(ModelError, match=said):
        make(tmp_path, **sizes)
    with pytest.raises(ModelError, match=said):
        scaled.anatomy(options(**sizes), read_config(tmp_path), 2, 8)


def test_heads_that_do_not_fit_the_teachers_width_are_an_error() -> None:
    config = config_of("bert", num_attention_heads=4).to_dict()
    with pytest.raises(ModelError, match=r"student\.num_attention_heads: hidden_size 32 does not divide into 3 heads"):
        scaled.anatomy(options(num_attention_heads=3), config, 2, 8)


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 190, "num_attention_heads": 6}, {"hidden_size": 9, "num_attention_heads": 10},
        {"hidden_size": 7}, {"num_attention_heads": 0}, {"intermediate_size": 0}, {"layers": 0}, {"layers": (-1,)},
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused_by_the_recipe(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**sizes)


def test_an_uneven_width_is_told_with_its_neighbours() -> None:
    with pytest.raises(ValidationError, match="hidden_size 190 does not divide into 6 heads; write 186 or 192, or"):
        options(hidden_size=190, num_attention_heads=6)
    with pytest.raises(ValidationError, match="hidden_size 9 does not divide into 10 heads; write 10, or"):
        options(hidden_size=9, num_attention_heads=10)


def test_an_architecture_that_is_not_known_is_an_error() -> None:
    config = config_of("bert").to_dict() | {"model_type": "mpnet"}
    with pytest.raises(ModelError, match=r"scaled knows the parts of bert, .* and the teacher's model_type is 'mpnet'"):
        scaled.anatomy(options(hidden_size=20), config, 2, 8)


def test_a_width_at_which_electra_has_no_projection_is_an_error(tmp_path: Path) -> None:
    write_model(tmp_path, "electra", embedding_size=20)
    with pytest.raises(ModelError, match=r"student\.hidden_size: 20 is the width of the teacher's embeddings"):
        make(tmp_path, hidden_size=20)
    assert make(tmp_path, hidden_size=18).model.electra.embeddings_project.weight.shape == (18, 20)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_names_are_those_of_transformers(name: str) -> None:
    from transformers import AutoConfig

    config: Any = AutoConfig.for_model(name)
    for word, size in zip(ENCODERS[name].sizes, (HIDDEN, 2, 48), strict=True):
        assert hasattr(config, word)
        setattr(config, word, size)
    config.update({"vocab_size": VOCAB, "num_hidden_layers": 2})
    with torch.device("meta"):
        modules = dict(model_of(config).named_modules())
    names = ENCODERS[name]
    below = [
        names.query,
        names.key,
        names.value,
        names.output,
        names.attention_norm,
        names.inner,
        names.outer,
        names.norm,
    ]
    parts = [names.embeddings, names.hidden_layer, names.classifier, *(f"{names.layers}.1.{part}" for part in below)]
    assert set(parts) <= modules.keys()
    left = {part for part, module in modules.items() if f"{names.layers}.1." in part and hasattr(module, "weight")}
    assert left <= set(parts), "a layer has no other weights"
