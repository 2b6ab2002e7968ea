"""Conversations whose answers are judged whole: exact match at positions is what greedy decoding gives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_decoders import documents, write_decoder
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgedistill import pipeline
from edgedistill.decoder_values import DecoderControls, DecoderSignals, DecoderStudent
from edgedistill.models.decoder import load_decoder
from edgedistill.quantize.decoder_gate import held, said_by_floats
from edgedistill.quantize.methods._gate import DecoderGate
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.training.decoder_quality import exact, summary
from edgedistill.training.language import rows_of
from edgedistill.values import Teacher

RECIPE = """\
name: tiny-choice
licence: MIT
task: {kind: text_generation, conversations: true, max_length: 128, judged_positions: 400}
teacher:
  kind: transformers
  licence: Apache-2.0
  model: {path: teacher}
  fit: {method: full, epochs: 12, batch_size: 8, learning_rate: 3.0e-3}
data:
  train: {source: conversations, file: train.jsonl, prompt: prompt, answer: answer}
  test: {source: conversations, file: test.jsonl, prompt: prompt, answer: answer}
student: {kind: layers, layers: 1}
distill: {epochs: 3, batch_size: 8, learning_rate: 3.0e-3}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choice")
    write_decoder(folder / "teacher")
    texts = documents(320)
    for name, some in (("train", texts[:260]), ("test", texts[260:])):
        rows = "".join(json.dumps({"prompt": text, "answer": text.split()[1]}) + "\n" for text in some)
        (folder / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    pipeline.build(load(folder / "tiny.yaml"), folder, folder / "runs", until="distill")
    return folder


def value(folder: Path, name: str, kind: type) -> object:
    recipe, run = load(folder / "tiny.yaml"), Run(folder / "runs" / "tiny-choice")
    return kind.load(run.folder_of(name, pipeline.stages(recipe, folder, run)[name].needs))


def test_exact_match_is_what_greedy_decoding_gives(built: Path) -> None:
    teacher, signals = value(built, "teacher", Teacher), value(built, "signals", DecoderSignals)
    tokenizer = AutoTokenizer.from_pretrained(teacher.path(teacher.checkpoint))
    model = AutoModelForCausalLM.from_pretrained(teacher.path(teacher.checkpoint)).eval()
    rows = rows_of(signals, "test").counted
    positions = np.load(signals.path(signals.evaluation.positions["test"]))
    generated = []
    for one in rows:
        prompt = one.ids[: int(one.places[0]) + 1]
        with torch.no_grad():
            said = model.generate(
                torch.tensor([prompt]), do_sample=False, max_new_tokens=len(one.tokens), eos_token_id=None,
                pad_token_id=tokenizer.pad_token_id,
            )[0]  # fmt: skip
        generated.append(said[len(prompt) :].tolist() == one.tokens.tolist())
    found = exact(positions, rows.starts, rows.tokens)
    assert found.tolist() == generated
    assert np.mean(generated) > 0, "a teacher that is never right would prove nothing"
    assert signals.evaluation.quality["test"].exact_match.value == pytest.approx(np.mean(generated))
    assert signals.evaluation.quality["test"].exact_match.n == len(generated)


def test_the_teacher_is_measured_before_its_fit_and_after(built: Path) -> None:
    signals, controls = value(built, "signals", DecoderSignals), value(built, "controls", DecoderControls)
    fitted, before = signals.evaluation.quality["test"], controls.unfitted.quality["test"]
    assert before.exact_match.value < fitted.exact_match.value
    assert before.judged == before.exact_match


def test_what_is_retained_is_answers(built: Path) -> None:
    signals, student = value(built, "signals", DecoderSignals), value(built, "student", DecoderStudent)
    found, teacher = student.evaluation.quality["test"], signals.evaluation.quality["test"]
    assert found.retained.value == pytest.approx(found.exact_match.value / teacher.exact_match.value)
    assert found.metric == "exact match"


def test_a_gate_counts_answers_that_are_lost_whole(built: Path, tmp_path: Path) -> None:
    teacher, signals = value(built, "teacher", Teacher), value(built, "signals", DecoderSignals)
    model, counted = load_decoder(teacher.path(teacher.checkpoint)), rows_of(signals, "validation").counted
    floats = said_by_floats(model, "cpu", signals, tmp_path)
    right = exact(floats.positions, counted.starts, counted.tokens).mean()
    assert right > 0.1, "a model that is never right would prove nothing"
    same = held(DecoderGate(), model, "cpu", floats, signals).answer_loss
    assert same.value == 0
    assert same.low < 0 < same.high, "of few answers"
    for parameter in model.parameters():
        parameter.data.zero_()
    lost = held(DecoderGate(), model, "cpu", floats, signals).answer_loss
    assert lost.value == pytest.approx(right)
    assert lost.low > 0


def test_one_wrong_token_makes_an_answer_wrong_and_leaves_the_others() -> None:
    starts, tokens = np.array([0, 2, 2, 5, 6]), np.array([4, 5, 6, 7, 8, 9])  # the second row has no position
    said = np.zeros(6, dtype=[("top", "i4"), ("log_prob", "f8"), ("kl_teacher", "f8"), ("kl_student", "f8")])
    said["top"] = tokens
    assert exact(said, starts, tokens).tolist() == [True, True, True]
    said["top"][3] = 0
    assert exact(said, starts, tokens).tolist() == [True, False, True]
    found = summary(said, starts, tokens=tokens, whole=True)
    assert found.exact_match.value == pytest.approx(2 / 3)
    assert found.accuracy.value == pytest.approx(5 / 6)
    assert summary(said, starts, tokens=tokens).exact_match is None
