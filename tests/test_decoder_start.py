"""A student's start is settled once: a checkpoint that reads as its teacher does, or what the teacher's parts do."""

import json
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_decoders import documents, write_decoder, write_gguf

from edgedistill import pipeline
from edgedistill.decoder_values import DecoderControls, DecoderStart, DecoderStudent
from edgedistill.distill.decoder import controls as controlling
from edgedistill.distill.decoder import stage as distilling
from edgedistill.distill.decoder import unpacked
from edgedistill.distill.decoder.start import beginning, prove_same_ids
from edgedistill.errors import ModelError
from edgedistill.export.notice import write_notice
from edgedistill.models.activation_importance import Importance
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.load import load_reader, load_tokenizer
from edgedistill.models.students.pruned import IMPORTANCE
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.values import Teacher

PRUNED = "{kind: pruned, layers: 2, hidden_size: 32, num_attention_heads: 2, intermediate_size: 64}"
OWN = "{kind: pretrained, licence: BSD-3-Clause, model: {path: ., file: small.gguf}}"
FIT = "fit: {method: full, epochs: 1, batch_size: 16, learning_rate: 3.0e-3}"
RECIPE = """\
name: tiny
licence: MIT
task: {kind: text_generation, max_length: 48, judged_positions: 200}
teacher: {kind: transformers, licence: Apache-2.0, model: {path: teacher}, FIT}
data: {train: {source: jsonl, file: train.jsonl, label: null}}
student: STUDENT
distill: {epochs: 1, batch_size: 16, learning_rate: 3.0e-3}
"""
Weights = dict[str, torch.Tensor]


class Made:
    """A build up to its student and controls, and every student as it was before training."""

    def __init__(self, folder: Path, student: str, fit: str, monkeypatch: pytest.MonkeyPatch) -> None:
        write_decoder(folder / "teacher", layers=3)
        write_decoder(folder / "small", layers=1, seed=5)
        write_gguf(folder / "small", folder / "small.gguf", eos_token_id=0)  # which is not the teacher's
        lines = "".join(json.dumps({"text": text}) + "\n" for text in documents(80))
        (folder / "train.jsonl").write_text(lines, encoding="utf-8")
        self.file, self.run, self.initial = folder / "tiny.yaml", Run(folder / "runs" / "tiny"), list[Weights]()
        text = RECIPE.replace("STUDENT", student).replace("FIT", fit or "fit: null")
        self.file.write_text(text, encoding="utf-8")
        for module in (distilling, controlling):
            monkeypatch.setattr(module, "make_student", self._noted(module.make_student))
        pipeline.build(load(self.file), folder, folder / "runs", until="distill")

    def _noted(self, make: Any) -> Any:
        def noted(*given: Any) -> Any:
            student = make(*given)
            self.initial.append({name: tensor.clone() for name, tensor in student.model.state_dict().items()})
            return student

        return noted

    def value(self, name: str, kind: Any) -> Any:
        stages = pipeline.stages(load(self.file), self.file.parent, self.run)
        return kind.load(self.run.folder_of(name, stages[name].needs))


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_pruned_student_and_its_controls_start_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path, PRUNED, "", monkeypatch)
    start, student = made.value("start", DecoderStart), made.value("student", DecoderStudent)
    assert start.importance.keys() == {"checkpoint"}
    assert start.calibration_tokens > 50
    assert len(start.layers) == len(start.layer_losses) == 2, "of three, one went"
    trained, twin, untrained = made.initial
    assert same(trained, twin)
    assert same(trained, untrained)
    assert student.parameters == sum(p.numel() for p in load_decoder(student.path(student.checkpoint)).parameters())
    assert pipeline.anatomy(load(made.file), tmp_path)[1].parameters == student.parameters
    assert "pruned (layers, hidden size, attention heads, intermediate size)" in student.initialised_from
    stages = pipeline.stages(load(made.file), tmp_path, made.run)
    text = made.file.read_text(encoding="utf-8")
    for old, new, again in (
        ("hidden_size: 32", "hidden_size: 48", False), ("layers: 2,", "calibration_tokens: 64,", True),
        ("layers: 2,", "layers: 1,", True), ("layers: 2,", "layers: [0, 2],", True),
        ("max_length: 48", "max_length: 32", True),
    ):  # fmt: skip
        made.file.write_text(text.replace(old, new), encoding="utf-8")
        changed = pipeline.stages(load(made.file), tmp_path, made.run)
        assert (changed["start"].fingerprint != stages["start"].fingerprint) == again, "sizes need no new measurement"
        assert changed["student"].fingerprint != stages["student"].fingerprint


def test_the_twin_of_a_fitted_teachers_student_is_cut_out_of_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, PRUNED, FIT, monkeypatch)
    start, teacher = made.value("start", DecoderStart), made.value("teacher", Teacher)
    found = {}
    for checkpoint in (teacher.checkpoint, teacher.base):
        folder, measured = beginning(start, teacher, checkpoint, tmp_path)
        assert folder == teacher.path(checkpoint)
        found[str(checkpoint)] = Importance.load(measured / IMPORTANCE)
    assert found.keys() == {"checkpoint", "base"}
    assert not (found["checkpoint"].channels == found["base"].channels).any()
    trained, twin, untrained = made.initial
    assert same(trained, untrained)
    assert not same(trained, twin)


def test_a_students_own_checkpoint_is_what_student_and_twin_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, OWN, FIT, monkeypatch)
    start, small = made.value("start", DecoderStart), load_decoder(tmp_path / "small").model.state_dict()
    assert len(made.initial) == 3
    assert all(same(one, small) for one in made.initial)
    assert start.importance == {}
    assert start.compared_texts > 60
    assert start.start.licence == "BSD-3-Clause"
    assert made.value("controls", DecoderControls).untrained is not None
    teacher = made.value("teacher", Teacher)
    write_notice(tmp_path / "runs", teacher, "MIT", start)
    notice = (tmp_path / "runs" / "NOTICE").read_text(encoding="utf-8")
    assert "training started from: ./small.gguf\nwhich is under: BSD-3-Clause" in notice
    counted = pipeline.anatomy(load(made.file), tmp_path)[1]
    assert (counted.parameters, counted.layers) == (made.value("student", DecoderStudent).parameters, 1)
    config = read_config(start.path(start.start.checkpoint))
    assert config["eos_token_id"] == read_config(teacher.path(teacher.checkpoint))["eos_token_id"]


def test_what_a_student_starts_from_is_the_teachers_where_nothing_was_settled(tmp_path: Path) -> None:
    class Told:
        def path(self, place: PurePosixPath) -> Path:
            return tmp_path / place

    teacher: Any = Told()
    assert beginning(None, teacher, PurePosixPath("base"), tmp_path / "x") == (tmp_path / "base", tmp_path / "x")


def test_other_ids_are_refused_before_anything_is_learned(tmp_path: Path) -> None:
    write_decoder(tmp_path / "a")
    write_decoder(tmp_path / "b", pre="qwen2")
    theirs, other = load_tokenizer(tmp_path / "a"), load_tokenizer(tmp_path / "b")
    assert prove_same_ids(load_tokenizer(tmp_path / "a"), theirs, documents(9), framed=True) == 9
    if other.get_vocab() == theirs.get_vocab():  # then the texts tell
        other.add_tokens(["zzz"])
    with pytest.raises(
        ModelError, match=r"student\.model: has another vocabulary .* token by token: name a checkpoint"
    ):
        prove_same_ids(other, theirs, [], framed=True)


def test_the_same_vocabulary_that_reads_otherwise_is_seen_in_the_texts(tmp_path: Path) -> None:
    write_decoder(tmp_path / "a")
    theirs = load_tokenizer(tmp_path / "a")
    file = tmp_path / "a" / "tokenizer.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    said["model"]["merges"] = said["model"]["merges"][:-20]
    file.write_text(json.dumps(said), encoding="utf-8")
    other = load_tokenizer(tmp_path / "a")
    assert other.get_vocab() == theirs.get_vocab()
    with pytest.raises(ModelError, match=r"student\.model: its tokenizer reads '.*' as \[.* the teacher's as \["):
        prove_same_ids(other, theirs, documents(50), framed=True)


def test_a_checkpoint_of_its_own_needs_no_padding(tmp_path: Path) -> None:
    write_decoder(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    del said["pad_token"]
    file.write_text(json.dumps(said), encoding="utf-8")
    assert load_reader(tmp_path).pad_token_id is None
    with pytest.raises(ModelError, match="without a padding token"):
        load_tokenizer(tmp_path)


def test_a_student_that_cannot_be_is_told_before_any_stage_runs(tmp_path: Path) -> None:
    write_decoder(tmp_path / "teacher")
    write_gguf(tmp_path / "teacher", tmp_path / "teacher.gguf")  # which no check of the recipe looks into
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "the cat"}) + "\n", encoding="utf-8")
    text = RECIPE.replace("STUDENT", PRUNED.replace("32", "128")).replace("FIT", "fit: null")
    file = tmp_path / "tiny.yaml"
    file.write_text(text.replace("{path: teacher}", "{path: ., file: teacher.gguf}"), encoding="utf-8")
    with pytest.raises(ModelError, match=r"student\.hidden_size: 128 is more than the teacher's 64"):
        pipeline.build(load(file), tmp_path, tmp_path / "runs", until="distill")
    assert not list((tmp_path / "runs").rglob("result.json"))


def test_what_is_cut_out_is_decided_on_calibration_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_decoder(tmp_path)
    (tmp_path / "progress").mkdir()
    texts = {"calibration": documents(3)}
    monkeypatch.setattr(unpacked, "texts_of", lambda _, split: texts[split])
    teacher: Any = SimpleNamespace(path=lambda _: tmp_path, checkpoint="")
    corpus: Any = None
    task = SimpleNamespace(max_length=64, conversations=False)
    rows = unpacked.calibration_rows(task, teacher, corpus, tmp_path, 10_000)
    tokenizer = load_tokenizer(tmp_path)
    assert rows.tokens.ids.tolist() == [
        token for text in texts["calibration"] for token in tokenizer(text)["input_ids"]
    ]
