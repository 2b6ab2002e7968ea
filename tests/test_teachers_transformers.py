"""A teacher answers for the corpus' labels in their order, or says why it cannot; fitting touches what it may."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny_artifact import LABELS
from tiny_build import write_encoder
from tiny_distill import TASK, make_corpus, make_teacher, teacher_options
from tiny_models import ARCHITECTURES, write_model

from edgedistill.corpus.read import read
from edgedistill.errors import DataError, ModelError
from edgedistill.files import files_in, sha256_of
from edgedistill.models.config_json import read_config
from edgedistill.models.load import load_encoder_with_new_head, load_model, load_tokenizer
from edgedistill.teachers import transformers
from edgedistill.training import loop
from edgedistill.values import Corpus, Teacher

FIT: dict[str, Any] = {"method": "full", "epochs": 1, "batch_size": 32, "learning_rate": 1e-3}


def loaded(teacher: Teacher) -> Any:
    """Return the model that a teacher's checkpoint holds."""
    return load_model(teacher.path(teacher.checkpoint)).model


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of weights that are in both and differ."""
    return {name for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])}


def test_fitting_teaches_the_task(corpus: Corpus, teacher: Teacher) -> None:
    model, tokenizer = (
        load_model(teacher.path(teacher.checkpoint)),
        load_tokenizer(teacher.path(teacher.checkpoint)),
    )
    rows = read(corpus, "test")
    encoded = tokenizer(rows.texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(encoded["input_ids"], encoded["attention_mask"]).numpy()
    right = (logits.argmax(axis=1) == rows.labels).mean()
    assert right > 0.8
    assert (logits[:, ::-1].argmax(axis=1) == rows.labels).mean() < 0.2, "labels the other way round are told apart"
    assert model.labels == teacher.labels == corpus.labels


def test_what_a_teacher_says_of_itself_is_so(corpus: Corpus, teacher: Teacher) -> None:
    checkpoint = teacher.path(teacher.checkpoint)
    model = load_model(checkpoint)
    assert teacher.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert teacher.weights_bytes == (checkpoint / "model.safetensors").stat().st_size >= 4 * teacher.parameters
    assert teacher.weights_sha256 != teacher.source_weights_sha256
    assert (teacher.fit_method, teacher.task, teacher.licence) == ("full", "text_classification", "MIT")
    assert teacher.signals == transformers.Options.SIGNALS
    assert teacher.fit is not None
    assert teacher.fit.rows == (read(corpus, "train").labels >= 0).sum() < corpus.splits["train"].rows
    assert teacher.fit.curve[-1].validation_metric > 0.8


def test_the_tokenizer_reads_as_much_as_the_task_says(corpus: Corpus, teacher: Teacher) -> None:
    assert teacher.base is not None
    for folder in (teacher.checkpoint, teacher.base):
        assert load_tokenizer(teacher.path(folder)).model_max_length == TASK.max_length == 32


def test_what_the_teacher_was_before_is_kept(corpus: Corpus, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    (tmp_path / "encoder" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "encoder" / "onnx").mkdir()
    teacher = make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "encoder", **FIT))
    assert teacher.base is not None
    base = teacher.path(teacher.base)
    assert sha256_of(base / "model.safetensors") == sha256_of(tmp_path / "encoder" / "model.safetensors")
    assert read_config(base) == read_config(tmp_path / "encoder")
    assert {file.suffix for file in files_in(base)} <= {".json", ".safetensors", ".txt"}
    assert not (base / "onnx").exists()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fitting_the_head_leaves_the_encoder_as_it_was(architecture: str, corpus: Corpus, tmp_path: Path) -> None:
    before = write_model(tmp_path / "encoder", architecture, headed=False).base_model.state_dict()
    teacher = make_teacher(
        tmp_path / "teacher", corpus, teacher_options(tmp_path / "encoder", **FIT | {"method": "head"})
    )
    model = loaded(teacher)
    moved = changed(before, model.base_model.state_dict())
    assert {name.partition(".")[0] for name in moved} <= {"pooler"}
    assert len(before.keys() & model.base_model.state_dict().keys()) > 20
    torch.manual_seed(0)
    untrained: Any = load_encoder_with_new_head(tmp_path / "encoder", LABELS).model
    head = {name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")}
    assert head <= changed(untrained.state_dict(), model.state_dict()), "the head did learn"
    assert teacher.fit_method == "head"


def test_fitting_in_full_moves_every_layer(corpus: Corpus, tmp_path: Path) -> None:
    before = write_model(tmp_path / "encoder", headed=False).base_model.state_dict()
    teacher = make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "encoder", **FIT))
    after = loaded(teacher).base_model.state_dict()
    still = before.keys() - changed(before, after)
    assert not [name for name in still if "layer." in name and "key.bias" not in name]  # softmax ignores key biases


def test_fitting_killed_and_resumed_ends_the_same(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_encoder(tmp_path / "encoder")
    options = teacher_options(tmp_path / "encoder", **FIT)
    whole = make_teacher(tmp_path / "whole", corpus, options)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    step, calls = loop._step, iter(range(4))

    def dying(*arguments: Any) -> float:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            make_teacher(tmp_path / "killed", corpus, options)
    resumed = make_teacher(tmp_path / "killed", corpus, options)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.fit is not None
    assert whole.fit is not None
    assert resumed.fit.curve == whole.fit.curve


def test_a_checkpoint_that_knows_the_labels_is_taken_as_it_is(corpus: Corpus, tmp_path: Path) -> None:
    whole = write_model(tmp_path / "headed")
    teacher = make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "headed"))
    assert (teacher.fit, teacher.fit_method, teacher.base) == (None, None, None)
    assert not changed(whole.state_dict(), loaded(teacher).state_dict())
    assert teacher.source_weights_sha256 != ""
    assert transformers.labels_of(teacher_options(tmp_path / "headed"), tmp_path, tmp_path) == LABELS


def test_a_checkpoint_with_other_labels_can_be_fitted_to_these(corpus: Corpus, tmp_path: Path) -> None:
    write_model(tmp_path / "headed", id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    options = teacher_options(tmp_path / "headed", **FIT)
    assert transformers.labels_of(options, tmp_path, tmp_path) is None
    teacher = make_teacher(tmp_path / "teacher", corpus, options)
    assert load_model(teacher.path(teacher.checkpoint)).labels == LABELS


def test_labels_that_the_library_leaves_out_are_known(tmp_path: Path) -> None:
    write_model(tmp_path, id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1})
    assert "id2label" not in read_config(tmp_path)
    assert transformers.labels_of(teacher_options(tmp_path), tmp_path, tmp_path) == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("labels", [("positive", "negative"), ("negative", "neutral", "positive"), ("no", "yes")])
def test_labels_that_are_not_the_corpus_are_an_error(labels: tuple[str, ...], corpus: Corpus, tmp_path: Path) -> None:
    write_model(tmp_path / "headed", id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)})
    with pytest.raises(ModelError, match=r"the teacher's labels are .*task\.labels in the teacher's order"):
        make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "headed"))


def test_no_head_and_no_fit_is_an_error_before_any_work_and_at_it(corpus: Corpus, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    options = teacher_options(tmp_path / "encoder")
    with pytest.raises(ModelError, match=r"encoder has no classification head; add teacher\.fit .*fit: \{method: full"):
        transformers.labels_of(options, tmp_path, tmp_path)
    with pytest.raises(ModelError, match=r"has no classification head; add teacher\.fit"):
        make_teacher(tmp_path / "teacher", corpus, options)


def test_fitting_without_gold_is_an_error(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    corpus = make_corpus(tmp_path / "corpus", labelled=False, count=40)
    with pytest.raises(DataError, match=r"teacher\.fit needs gold labels in train and validation; give labelled rows"):
        make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "encoder", **FIT))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_text_longer_than_the_teacher_reads_is_told_before_training(
    architecture: str, corpus: Corpus, tmp_path: Path
) -> None:
    write_model(tmp_path / "headed", architecture)  # 48 positions
    longest = 47 if architecture == "roberta" else 48  # which counts from the padding id on
    for length in (longest, longest + 1):
        task = TASK.model_copy(update={"max_length": length})
        if length == longest:
            make_teacher(tmp_path / "fits", corpus, teacher_options(tmp_path / "headed"), task)
        else:
            with pytest.raises(ModelError, match=f"task.max_length: {length} tokens are more than .*lower it"):
                make_teacher(tmp_path / "long", corpus, teacher_options(tmp_path / "headed"), task)


def test_a_tokenizer_of_another_checkpoint_is_told(corpus: Corpus, tmp_path: Path) -> None:
    write_model(tmp_path / "headed", vocab_size=100)
    with pytest.raises(ModelError, match="the tokenizer has 128 ids, the model's table 100 rows"):
        make_teacher(tmp_path / "teacher", corpus, teacher_options(tmp_path / "headed"))


def test_the_digest_follows_the_checkpoint(tmp_path: Path) -> None:
    write_model(tmp_path / "headed")
    options = teacher_options(tmp_path / "headed")
    before = transformers.digest(options, tmp_path)
    assert transformers.digest(options, tmp_path) == before
    config = json.loads((tmp_path / "headed" / "config.json").read_text())
    (tmp_path / "headed" / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert transformers.digest(options, tmp_path) != before


@pytest.mark.parametrize("wrong", [{"method": "lora"}, {"epochs": 0}, {"learning_rate": 0}, {"layers": 2}])
def test_a_fit_that_cannot_be_is_refused_by_the_recipe(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        teacher_options(tmp_path, **FIT | wrong)
