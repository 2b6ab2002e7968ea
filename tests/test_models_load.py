"""A classifier is loaded whole or not at all, with its labels in order, and nothing in its folder is ever run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_artifact import LABELS, VOCAB, texts
from tiny_models import ARCHITECTURES, HIDDEN, write_model

from edgedistill.errors import ModelError
from edgedistill.models.classifier import StaticClassifier, TransformerClassifier
from edgedistill.models.config_json import has_head, labels_in, read_config
from edgedistill.models.load import load_encoder, load_encoder_with_new_head, load_model, load_tokenizer

IDS = torch.randint(4, VOCAB, (3, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes a key away."""
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def drop(folder: Path, part: str) -> None:
    """Leave the weights whose name holds `part` out of a checkpoint."""
    kept = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if part not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_classifier_computes_what_its_own_library_computes(architecture: str, tmp_path: Path) -> None:
    whole = write_model(tmp_path, architecture)
    model = load_model(tmp_path)
    with torch.no_grad():
        logits = model(IDS, MASK)
        assert torch.allclose(logits, whole(input_ids=IDS, attention_mask=MASK).logits, atol=1e-5)
    assert logits.std() > 0.01
    assert model.labels == LABELS
    assert not model.training


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("headed", [True, False])
def test_a_new_head_is_new_and_the_encoder_is_kept(architecture: str, headed: bool, tmp_path: Path) -> None:
    whole = write_model(tmp_path, architecture, headed=headed)
    loaded = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        loaded.append(load_encoder_with_new_head(tmp_path, ("x", "y", "z")))
    assert all(model.labels == ("x", "y", "z") for model in loaded)
    assert loaded[0](IDS, MASK).shape == (3, 3)
    for name, tensor in whole.base_model.state_dict().items():
        assert torch.equal(tensor, loaded[0].model.base_model.state_dict()[name]), name
    old = whole.state_dict()
    head = [name for name in old if not name.startswith(f"{whole.base_model_prefix}.") and name.endswith("weight")]
    first, again, other = (model.model.state_dict() for model in loaded)
    assert head
    for name in head:
        assert torch.equal(first[name], again[name]), "the seed decides"
        assert not torch.equal(first[name], other[name])
        assert first[name].shape != old[name].shape or not torch.equal(first[name], old[name])


def test_a_new_head_is_new_where_the_old_one_has_as_many_labels(tmp_path: Path) -> None:
    old = write_model(tmp_path).classifier.weight
    assert not torch.equal(load_encoder_with_new_head(tmp_path, ("x", "y")).model.classifier.weight, old)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("headed", [True, False])
def test_the_encoder_alone_gives_hidden_states(architecture: str, headed: bool, tmp_path: Path) -> None:
    whole = write_model(tmp_path, architecture, headed=headed)
    encoder = load_encoder(tmp_path, LABELS)
    with torch.no_grad():
        hidden = encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state
        expected = whole.base_model(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert hidden.shape == (3, 7, HIDDEN)
    assert torch.allclose(hidden, expected, atol=1e-5)


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1"), ("b", "a"), tuple(f"l{i}" for i in range(12))])
def test_labels_keep_the_order_of_the_logits_through_a_checkpoint(labels: tuple[str, ...], tmp_path: Path) -> None:
    write_model(tmp_path / "a", id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)})
    model = load_model(tmp_path / "a")
    assert labels_in(read_config(tmp_path / "a")) == model.labels == labels
    model.save(tmp_path / "b")
    assert list(read_config(tmp_path / "b")["id2label"].values()) == list(labels), "an app reads them from the file"
    assert load_model(tmp_path / "b").labels == labels


def test_labels_are_ordered_by_number_and_not_by_place_or_name(tmp_path: Path) -> None:
    write_model(tmp_path)
    edit(tmp_path / "config.json", id2label={"1": "a", "0": "b"})
    assert labels_in(read_config(tmp_path)) == load_model(tmp_path).labels == ("b", "a")


def test_weights_of_half_precision_become_float32(tmp_path: Path) -> None:
    write_model(tmp_path)
    halves = {name: tensor.half() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(halves, tmp_path / "model.safetensors", {"format": "pt"})
    edit(tmp_path / "config.json", dtype="float16")
    assert {parameter.dtype for parameter in load_model(tmp_path).parameters()} == {torch.float32}


def _cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def poison(folder: Path, number: str) -> None:
    """Put a number that is none into two tensors of a checkpoint; of the first, its name is to be told."""
    tensors = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "bert.encoder.layer.1.output.dense.weight"):
        tensors[name][0, 0] = float(number)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _only_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut": (_cut, "cannot be loaded as a text classifier"),
    "weights empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "cannot be loaded"),
    "only a pickle": (_only_a_pickle, "cannot be loaded"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config\.json cannot be read"),
    "config cut": (lambda folder: (folder / "config.json").write_text('{"a'), r"config\.json cannot be read"),
    "config a list": (lambda folder: (folder / "config.json").write_text("[]"), "holds a list"),
    "no head": (lambda folder: edit(folder / "config.json", architectures=["BertModel"]), r"add teacher\.fit"),
    "no architectures": (lambda folder: edit(folder / "config.json", architectures=None), r"add teacher\.fit"),
    "unknown architecture": (lambda folder: edit(folder / "config.json", model_type="none"), "cannot be loaded"),
    "head weights missing": (lambda folder: drop(folder, "classifier"), r"lacks 2 weights .* classifier\.bias"),
    "pooler missing": (lambda folder: drop(folder, "pooler"), "lacks 2 weights"),
    "layer missing": (lambda folder: drop(folder, "layer.1."), "lacks 16 weights"),
    "other shape": (lambda folder: edit(folder / "config.json", intermediate_size=56), "cannot be loaded"),
    **{
        f"config: {key} {value!r}": (
            lambda folder, key=key, value=value: edit(folder / "config.json", **{key: value}),
            text,
        )
        for key, value, text in (
            ("hidden_size", "wide", "cannot be loaded .*; fetch it again, and compare its sha256 with the source"),
            ("hidden_size", -1, "cannot be loaded"),
            ("num_attention_heads", 0, "cannot be loaded"),
            ("hidden_act", "none", "cannot be loaded as a text classifier: KeyError 'none'; fetch"),
            ("id2label", 7, "cannot be loaded"),
            ("model_type", ["bert"], "cannot be loaded"),
        )
    },
    "a weight is not a number": (lambda folder: poison(folder, "nan"), r"1 weights of bert\.encoder\.layer\.1.* NaN"),
    "a weight is infinite": (lambda folder: poison(folder, "-inf"), r"layer\.1\.output\.dense\.weight are NaN or inf"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_line_and_never_a_model(
    damage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path)
    change, text = DAMAGES[damage]
    change(tmp_path)
    capfd.readouterr()
    with pytest.raises(ModelError, match=text) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 420
    assert capfd.readouterr().out == ""


def test_a_teacher_that_is_to_be_fitted_has_finite_weights_too(tmp_path: Path) -> None:
    write_model(tmp_path)
    poison(tmp_path, "inf")
    for load in (load_encoder, load_encoder_with_new_head):
        with pytest.raises(ModelError, match=r"layer\.1\.output\.dense\.weight are NaN or infinite"):
            load(tmp_path, LABELS)


def test_a_table_of_token_vectors_has_finite_weights_too(tmp_path: Path) -> None:
    model = StaticClassifier(VOCAB, 8, 6, LABELS)
    model.embedding.weight.data[3, 3] = float("nan")
    model.save(tmp_path)
    with pytest.raises(ModelError, match=r"1 weights of embedding\.weight are NaN"):
        load_model(tmp_path)


def test_what_a_library_says_in_many_lines_is_told_whole_on_one(tmp_path: Path) -> None:
    write_model(tmp_path)
    edit(tmp_path / "config.json", model_type="none")
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    said = str(caught.value).removesuffix("; fetch it again, and compare its sha256 with the source")
    assert said != str(caught.value)
    assert not said.endswith((":", ","))
    assert 100 < len(said.removeprefix(str(tmp_path))) < 350


def test_a_machine_without_memory_is_no_broken_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def full(*_given: object, **_options: object) -> None:
        raise MemoryError

    write_model(tmp_path)
    monkeypatch.setattr(transformers.AutoModelForSequenceClassification, "from_pretrained", full)
    with pytest.raises(MemoryError):
        load_model(tmp_path)


def test_a_new_head_hides_no_missing_layer(tmp_path: Path) -> None:
    write_model(tmp_path, headed=False)
    drop(tmp_path, "pooler")
    load_encoder_with_new_head(tmp_path, LABELS)
    drop(tmp_path, "layer.3.output")
    with pytest.raises(ModelError, match="lacks 4 weights"):
        load_encoder_with_new_head(tmp_path, LABELS)


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_code_in_the_folder_is_not_run_whatever_a_person_would_answer(
    load: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import *\n")
    model = {"AutoConfig": "own.BertConfig", "AutoModelForSequenceClassification": "own.BertForSequenceClassification"}
    edit(tmp_path / "config.json", model_type="own", auto_map=model)
    tokenizer = {"AutoTokenizer": ["own.BertTokenizer", None]}
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="Own", auto_map=tokenizer)
    answers = iter("y" * 9)
    monkeypatch.setattr("builtins.input", lambda prompt="": next(answers))
    with pytest.raises(ModelError):
        load(tmp_path)
    assert len(list(answers)) == 9, "nobody is asked"
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_is_fast_and_keeps_its_longest_input(tmp_path: Path) -> None:
    write_model(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.is_fast
    assert tokenizer.model_max_length == 32
    assert len(tokenizer(texts(40)[3] * 9, truncation=True)["input_ids"]) == 32
    assert tokenizer("good film")["input_ids"][1:-1] == [tokenizer.get_vocab()[word] for word in ("good", "film")]


@pytest.mark.parametrize("gone", [("tokenizer.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_no_tokenizer_is_not_an_empty_one(gone: tuple[str, ...], tmp_path: Path) -> None:
    write_model(tmp_path)
    for name in gone:
        (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="has no tokenizer") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_pad_is_told(tmp_path: Path) -> None:
    write_model(tmp_path)
    assert load_tokenizer(tmp_path).pad_token_id is not None
    edit(tmp_path / "tokenizer_config.json", pad_token=None)
    with pytest.raises(ModelError, match="has a tokenizer without a padding token; name one as pad_token") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_static_classifier_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = StaticClassifier(VOCAB, 8, 6, ("b", "a", "c")).eval()
    model.save(tmp_path)
    found = load_model(tmp_path)
    assert isinstance(found, StaticClassifier)
    assert found.labels == ("b", "a", "c")
    assert torch.equal(found(IDS, MASK), model(IDS, MASK))
    assert not has_head(read_config(tmp_path))


@pytest.mark.parametrize("model", [StaticClassifier(VOCAB, 8, 6, LABELS), "bert", "roberta"])
def test_padding_changes_no_logit(model: StaticClassifier | str, tmp_path: Path) -> None:
    if isinstance(model, str):
        found: Any = TransformerClassifier(write_model(tmp_path, model))
    else:
        found = model.eval()
    with torch.no_grad():
        batch = found(IDS * MASK, MASK)
        alone = torch.cat([found(IDS[i : i + 1, : MASK[i].sum()], MASK[i : i + 1, : MASK[i].sum()]) for i in range(3)])
        junk = (
            found(IDS * MASK + 5 * (1 - MASK), MASK) if model != "roberta" else batch
        )  # it counts ids that are no pad
    assert torch.allclose(batch, alone, atol=1e-5)
    assert torch.allclose(junk, alone, atol=1e-5)


def test_a_text_without_tokens_has_finite_logits() -> None:
    logits = StaticClassifier(VOCAB, 8, 6, LABELS).eval()(IDS[:1], torch.zeros(1, 7, dtype=torch.int64))
    assert logits.isfinite().all()
