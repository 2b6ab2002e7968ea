"""A build of a language model that keeps some of its teacher's tokens: what it reads, says and costs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_texts import ODD_TEXTS
from test_pipeline import uncovered
from tiny_decoders import VOCAB, documents, write_decoder

from edgedistill import pipeline
from edgedistill.decoder_values import DecoderArtifact, DecoderControls, DecoderSignals, DecoderStudent, DecoderTokens
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.load import load_tokenizer
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.training.language import folding_of, rows_of
from edgedistill.values import Teacher

pytest.importorskip("llama_cpp", reason="llama.cpp runs what is built; it needs the extra gguf, and a C++ compiler")

SIZE = 310
RECIPE = f"""\
name: tiny-trimmed
licence: MIT
task: {{kind: text_generation, max_length: 48, judged_positions: 300, train_tokens: 3000}}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {{path: teacher}}
  fit: {{method: full, epochs: 1, batch_size: 8, learning_rate: 3.0e-3}}
data:
  train: {{source: jsonl, file: train.jsonl, label: null}}
  test: {{source: jsonl, file: test.jsonl, label: null}}
student: {{kind: layers, layers: 1, vocabulary: {{size: {SIZE}}}}}
distill: {{epochs: 1, batch_size: 8, learning_rate: 3.0e-3}}
quantize: [{{method: q8_0}}]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trimmed")
    write_decoder(folder / "teacher")
    texts = documents(160)
    for name, some in (
        ("train", texts[:130]),
        ("test", [*texts[130:], "A Zürich 🎬 of 東京. The queen sees 7 birds."]),
    ):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in some)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    pipeline.build(load(recipe), folder, folder / "runs", until="export")
    return folder


def value(folder: Path, name: str, kind: Any) -> Any:
    recipe, run = load(folder / "tiny.yaml"), Run(folder / "runs" / "tiny-trimmed")
    return kind.load(run.folder_of(name, pipeline.stages(recipe, folder, run)[name].needs))


def test_the_teacher_reads_what_the_student_reads(built: Path) -> None:
    tokens, signals = value(built, "tokens", DecoderTokens), value(built, "signals", DecoderSignals)
    folding = folding_of(signals)
    assert folding is not None
    assert (tokens.vocabulary, tokens.whole_vocabulary, signals.vocabulary) == (SIZE, VOCAB, SIZE)
    test = rows_of(signals, "test")
    said = np.load(signals.path(signals.reference["test"])).astype(np.float64)
    assert said.shape == (test.counted.positions, SIZE)
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1, atol=2e-3)
    teacher = value(built, "teacher", Teacher)
    whole, row = load_decoder(teacher.path(teacher.checkpoint)).model, test.counted.row(0)
    with torch.no_grad():
        logits = whole(torch.tensor([folding.kept[row.ids].tolist()])).logits[0, row.places].double()
    expected = torch.zeros(len(logits), SIZE, dtype=torch.float64)
    expected.index_add_(1, torch.from_numpy(folding.first), logits.softmax(dim=-1))
    np.testing.assert_allclose(np.exp(said[row.positions]), expected, atol=2e-3)
    assert 0 < signals.logits["train"].moved_mass < 1


def test_what_trimming_costs_the_teacher_is_told(built: Path) -> None:
    tokens, signals = value(built, "tokens", DecoderTokens), value(built, "signals", DecoderSignals)
    assert signals.whole is not None
    reading, split = signals.whole.readings["test"], tokens.splits["test"]
    assert reading.tokens > reading.whole_tokens
    assert reading.difference.value == pytest.approx(reading.loss.value - reading.whole_loss.value)
    assert split.proven_passages <= split.identical_passages < split.passages
    assert split.dropped_tokens > 0
    assert split.tokens > split.whole_tokens


def test_the_student_has_a_row_for_each_kept_token(built: Path) -> None:
    tokens, student = value(built, "tokens", DecoderTokens), value(built, "student", DecoderStudent)
    config = read_config(student.path(student.checkpoint))
    assert config["vocab_size"] == SIZE == len(load_tokenizer(student.path(student.checkpoint)))
    assert student.initialised_from.endswith("with only the tokens that its texts need")
    teacher = value(built, "teacher", Teacher)
    assert tokens.parameters == teacher.parameters - (VOCAB - SIZE) * config["hidden_size"]
    planned = pipeline.anatomy(load(built / "tiny.yaml"), built)[1]
    assert (planned.parameters, planned.name) == (student.parameters, f"student, with at most {SIZE} tokens")


def test_controls_start_from_kept_tokens_and_the_unfitted_teacher_speaks_in_them(built: Path) -> None:
    controls, signals = value(built, "controls", DecoderControls), value(built, "signals", DecoderSignals)
    for evaluation in (controls.no_teacher, controls.untrained, controls.unfitted):
        assert len(np.load(controls.path(evaluation.positions["test"]))) == signals.splits["test"].positions
    fitted, before = signals.evaluation.quality["test"], controls.unfitted.quality["test"]
    assert before.perplexity.value > fitted.perplexity.value


def test_llama_cpp_reads_and_says_what_the_checkpoint_does(built: Path) -> None:
    from edgedistill.runtimes import llama_cpp

    artifact, student = value(built, "export-gguf", DecoderArtifact), value(built, "student", DecoderStudent)
    tokenizer = load_tokenizer(student.path(student.checkpoint))
    for file in artifact.files:
        assert file.parity.weights_bit_equal
        assert file.parity.conversations > 0
    loaded = llama_cpp.load(artifact.path(artifact.root), artifact.files[0].file, threads=1, context_tokens=48)
    assert loaded.vocabulary == SIZE
    for text in ODD_TEXTS:
        assert loaded.encode(text, special=True) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert artifact.teacher.parity.kl < artifact.teacher.parity.kl_limit, "asked under ids of its own"


@pytest.mark.parametrize("stage", ["tokens", "signals"])
def test_the_code_of_a_stage_names_all_that_it_runs(built: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.stages.code_of", lambda *rooms: " ".join(rooms))
    modules = {"tokens": "distill/decoder/vocabulary.py", "signals": "distill/decoder/signals.py"}
    monkeypatch.setattr("test_pipeline.MODULES", {name: [file] for name, file in modules.items()})
    named = pipeline.stages(load(built / "tiny.yaml"), built, Run(built / "none"))
    assert list(named).index("tokens") < list(named).index("signals")
    assert uncovered(named, stage) == set()


def test_other_tokens_are_another_teacher_to_learn_from(built: Path) -> None:
    run, recipe = Run(built / "none"), built / "tiny.yaml"
    before = pipeline.stages(load(recipe), built, run)
    other = built / "other.yaml"
    for vocabulary, same in (("{size: 311}", {"corpus", "teacher"}), ("null", {"corpus", "teacher"})):
        text = recipe.read_text(encoding="utf-8").replace(f"{{size: {SIZE}}}", vocabulary)
        other.write_text(text, encoding="utf-8")
        after = pipeline.stages(load(other), built, run)
        assert {
            name for name in after if name in before and after[name].fingerprint == before[name].fingerprint
        } == same
        assert ("tokens" in after) == (vocabulary != "null")


KINDS = {
    "pruned": "{kind: pruned, hidden_size: 48, calibration_tokens: 200",
    "pretrained": "{kind: pretrained, licence: MIT, model: {path: other}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_composes_with_students_of_every_kind(built: Path, kind: str) -> None:
    write_decoder(built / "other", layers=1, seed=5)
    recipe = built / f"{kind}.yaml"
    text = RECIPE.replace("{kind: layers, layers: 1", KINDS[kind]).replace("tiny-trimmed", f"tiny-{kind}")
    recipe.write_text(text.replace("distill: {", "distill: {controls: false, "), encoding="utf-8")
    pipeline.build(load(recipe), built, built / "runs", until="distill")
    run = Run(built / "runs" / f"tiny-{kind}")
    named = pipeline.stages(load(recipe), built, run)
    student = DecoderStudent.load(run.folder_of("student", named["student"].needs))
    place = student.path(student.checkpoint)
    assert read_config(place)["vocab_size"] == SIZE == len(load_tokenizer(place))
    assert load_decoder(place).vocab_size == SIZE
    assert pipeline.anatomy(load(recipe), built)[1].parameters == student.parameters
    assert ("start" in named["tokens"].needs["after"]) == (kind == "pretrained")
