"""A whole build of text generation on a tiny model: every stage, from the teacher to what is shipped."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_decoders import documents, write_decoder

from edgedistill import pipeline
from edgedistill.decoder_values import DecoderControls, DecoderSignals, DecoderStudent
from edgedistill.recipe_file import load
from edgedistill.run import Run

RECIPE = """\
name: tiny-speech
licence: MIT
task: {kind: text_generation, max_length: 48, judged_positions: 400}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {path: teacher}
  fit: {method: full, epochs: 2, batch_size: 8, learning_rate: 3.0e-3}
data:
  train: {source: jsonl, file: train.jsonl, label: null}
  test: {source: jsonl, file: test.jsonl, label: null}
student: {kind: layers, layers: 1}
distill: {epochs: 3, batch_size: 8, learning_rate: 3.0e-3, seeds: 2}
quantize: [{method: q8_0}, {method: q4_k_m}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01, prompt_tokens: 16, decode_tokens: 4}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    write_decoder(folder / "teacher")
    texts = documents(260)
    for name, some in (("train", texts[:220]), ("test", texts[220:])):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in some)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    pipeline.build(load(recipe), folder, folder / "runs", until="bench")
    return folder


def value(folder: Path, name: str, kind: type) -> object:
    recipe, run = load(folder / "tiny.yaml"), Run(folder / "runs" / "tiny-speech")
    return kind.load(run.folder_of(name, pipeline.stages(recipe, folder, run)[name].needs))


def test_the_teacher_is_read_token_by_token(built: Path) -> None:
    signals = value(built, "signals", DecoderSignals)
    test = signals.splits["test"]
    assert test.positions <= 400
    assert np.load(signals.path(signals.reference["test"])).shape == (test.positions, signals.vocabulary)
    cached = signals.logits["train"]
    assert cached.way == "sampled"
    assert len(np.load(signals.path(cached.offsets))) == signals.splits["train"].positions + 1
    assert signals.evaluation.quality["test"].kl_teacher is None


def test_the_student_comes_near_the_teacher(built: Path) -> None:
    signals, student = value(built, "signals", DecoderSignals), value(built, "student", DecoderStudent)
    controls = value(built, "controls", DecoderControls)
    found, untrained = student.evaluation.quality["test"], controls.untrained.quality["test"]
    assert found.kl_teacher.value < untrained.kl_teacher.value / 2
    assert found.perplexity.value < untrained.perplexity.value
    assert signals.evaluation.quality["test"].perplexity.value < found.perplexity.value * 1.1
    assert [repeat.seed for repeat in controls.repeats] == [1]
    assert {check.name for check in student.preflight} == {"token_ids", "few_rows_overfit"}
