"""A whole build of text generation on a tiny model: every stage, from the teacher to what is shipped."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_decoders import documents, write_decoder
from transformers import AutoModelForCausalLM

from edgedistill import pipeline, registry
from edgedistill.cli import main
from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import (
    DecoderArtifact,
    DecoderControls,
    DecoderSignals,
    DecoderStudent,
    MeasuredImportance,
    QuantizedDecoder,
)
from edgedistill.distill.decoder.asking import Asked, asked
from edgedistill.errors import QuantizationError
from edgedistill.export.decoder import export
from edgedistill.export.gguf_file import differences
from edgedistill.language_model import open_model
from edgedistill.models import ggml_tensors, gguf_header
from edgedistill.models.decoder import load_decoder
from edgedistill.quantize.decoder import quantize
from edgedistill.quantize.decoder_gate import held, said_by_floats
from edgedistill.quantize.decoder_ladder import passes
from edgedistill.quantize.methods._gate import DecoderGate
from edgedistill.recipe_file import load
from edgedistill.run import Run
from edgedistill.training.language import rows_of
from edgedistill.values import Corpus, Teacher

pytest.importorskip("llama_cpp", reason="llama.cpp runs what is built; it needs the extra gguf, and a C++ compiler")

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
    pipeline.build(load(recipe), folder, folder / "runs", until="report")
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


def test_in_half_precision_the_teacher_says_nearly_the_same_of_what_is_learned_from(built: Path) -> None:
    teacher, corpus, signals = (
        value(built, name, kind)
        for name, kind in (("teacher", Teacher), ("corpus", Corpus), ("signals", DecoderSignals))
    )
    task, rows, batch = load(built / "tiny.yaml").task, rows_of(signals, "train"), np.arange(6)

    def asked_in(precision: str) -> Asked:
        cache = task.cache.model_copy(update={"mixed_precision": precision})
        return asked(teacher, corpus, task.model_copy(update={"cache": cache}), 1)

    exact, half = asked_in("no"), asked_in("bf16")
    said, nearly = (one.positions(rows, batch, None) for one in (exact, half))
    assert nearly.dtype == said.dtype == torch.float32
    assert 0 < (said - nearly).abs().max() < 0.1 * said.abs().max()
    held_out = rows_of(signals, "test").counted.row(0).ids
    np.testing.assert_array_equal(half.row(held_out), exact.row(held_out), "held-out text is read in float32")


def test_the_student_comes_near_the_teacher(built: Path) -> None:
    signals, student = value(built, "signals", DecoderSignals), value(built, "student", DecoderStudent)
    controls = value(built, "controls", DecoderControls)
    found, untrained = student.evaluation.quality["test"], controls.untrained.quality["test"]
    assert found.kl_teacher.value < untrained.kl_teacher.value / 2
    assert found.perplexity.value < untrained.perplexity.value
    assert signals.evaluation.quality["test"].perplexity.value < found.perplexity.value * 1.1
    assert [repeat.seed for repeat in controls.repeats] == [1]
    again = controls.repeats[0]
    assert again.student.quality["test"].perplexity.value != found.perplexity.value, "another seed is another student"
    assert again.no_teacher.quality["test"].perplexity.value != controls.no_teacher.quality["test"].perplexity.value
    assert {check.name for check in student.preflight} == {"token_ids", "few_rows_overfit"}


def test_every_number_is_decided_by_quantize_and_found_in_the_file(built: Path) -> None:
    artifact = value(built, "export-gguf", DecoderArtifact)
    assert [file.name for file in artifact.files] == ["float32", "q8_0", "q4_k_m"]
    for method in ("q8_0", "q4_k_m"):
        model = value(built, f"quantize-{method}", QuantizedDecoder)
        (file,) = (one for one in artifact.files if one.name == method)
        decided = ggml_tensors.load(model.path(model.weights))
        assert differences(artifact.path(artifact.root) / file.file, decided) == []
        assert file.parity.weights_bit_equal
        assert file.parity.kl < file.parity.kl_limit
    fallen = [one for one in value(built, "quantize-q4_k_m", QuantizedDecoder).tensors if one.type != one.wanted]
    assert fallen, "64 columns do not divide into blocks of 256"
    assert all(one.reason for one in fallen)


def quantized_again(folder: Path, place: Path, **options: Any) -> QuantizedDecoder:
    """Run the stage of q4_k_m on what was built, with other options."""
    kinds = {"student": DecoderStudent, "corpus": Corpus, "signals": DecoderSignals, "importance": MeasuredImportance}
    place.mkdir()
    method: Any = registry.load("edgedistill.quantize.methods", "q4_k_m").Options
    given: dict[str, Any] = {name: value(folder, name, kind) for name, kind in kinds.items()}
    return quantize(method(method="q4_k_m", **options), **given, folder=place)


def test_the_gate_measures_what_the_rounded_weights_lose_on_validation(built: Path) -> None:
    model = value(built, "quantize-q4_k_m", QuantizedDecoder)
    signals, student = value(built, "signals", DecoderSignals), value(built, "student", DecoderStudent)
    rows = rows_of(signals, "validation")
    whole = AutoModelForCausalLM.from_pretrained(student.path(student.checkpoint)).eval()
    weights = {
        name: torch.from_numpy(one.floats()) for name, one in ggml_tensors.load(model.path(model.weights)).items()
    }
    rounded = AutoModelForCausalLM.from_pretrained(student.path(student.checkpoint)).eval()
    assert not rounded.load_state_dict(weights, strict=False).unexpected_keys
    divergences, lost = [], 0
    for row in rows.counted:
        with torch.no_grad():
            floats, codes = (one(torch.tensor([row.ids])).logits[0, row.places].double() for one in (whole, rounded))
        p, q = floats.log_softmax(-1), codes.log_softmax(-1)
        divergences += (p.exp() * (p - q)).sum(-1).tolist()
        right, after = ((one.argmax(-1).numpy() == row.tokens).sum() for one in (floats, codes))
        lost += int(right) - int(after)
    assert len(divergences) == model.gate.kl.n > 100
    assert model.gate.kl.value == pytest.approx(np.mean(divergences), rel=1e-2)
    assert model.gate.metric_loss.value == pytest.approx(lost / len(divergences))
    assert model.gate.kl.value < model.gate.max_kl == 0.1


def test_a_loss_of_right_tokens_is_above_zero(built: Path, tmp_path: Path) -> None:
    signals, student = value(built, "signals", DecoderSignals), value(built, "student", DecoderStudent)
    model = load_decoder(student.path(student.checkpoint))
    floats = said_by_floats(model, "cpu", signals, tmp_path)
    for parameter in model.parameters():
        parameter.data.zero_()
    found = held(DecoderGate(), model, "cpu", floats, signals)
    tokens = rows_of(signals, "validation").counted.tokens
    assert found.metric_loss.value == pytest.approx((floats.positions["top"] == tokens).mean() - (tokens == 0).mean())
    assert found.metric_loss.low > 0
    assert found.answer_loss is None, "documents have no answers"
    assert not passes(found)


def test_a_repaired_model_says_so_in_its_file(built: Path, tmp_path: Path) -> None:
    kinds = {"teacher": Teacher, "signals": DecoderSignals, "student": DecoderStudent}
    given: Any = {name: value(built, name, kind) for name, kind in kinds.items()}
    models: Any = {name: value(built, f"quantize-{name}", QuantizedDecoder) for name in ("q8_0", "q4_k_m")}
    models["q8_0"] = models["q8_0"].model_copy(update={"repaired": "all of attention stored as Q8_0"})
    recipe = load(built / "tiny.yaml")
    artifact = export(
        recipe.export[0], name="tiny", version="1.0.0", licence="MIT", recipe_sha256="0" * 64, task=recipe.task,
        start=None, system=None, quantized=models, folder=tmp_path, **given,
    )  # fmt: skip
    told = {
        file.name: gguf_header.metadata(tmp_path / artifact.root / file.file).get("edgedistill.repaired")
        for file in artifact.files
    }
    assert told == {"float32": None, "q8_0": "all of attention stored as Q8_0", "q4_k_m": None}


def test_a_scheme_that_misses_its_gate_fails_before_any_file_is_laid_out(built: Path, tmp_path: Path) -> None:
    assert quantized_again(built, tmp_path / "none", gate=None).gate is None
    with pytest.raises(QuantizationError) as missed:
        quantized_again(built, tmp_path / "strict", gate={"max_kl": 1e-9})
    said = str(missed.value)
    asked = "KL at most 1e-09, points lost at most 1 where that is more than chance"
    assert f"q4_k_m misses its gate on the validation split ({asked}), and no group" in said
    assert "no group of tensors at 8 bits mends it: as the recipe says: KL" in said
    assert "; the first and last layer as Q8_0: KL" in said
    assert re.search(r"rounded most are model\.\S+ \(Q\d_\S+, \d+\.\d% off\)", said)
    assert "or write gate: null" in said


def test_a_missed_gate_is_repaired_by_more_bits_where_they_help(built: Path, tmp_path: Path) -> None:
    missed = value(built, "quantize-q4_k_m", QuantizedDecoder)
    near = missed.gate.kl.value * 0.5
    made = quantized_again(built, tmp_path / "repaired", gate={"max_kl": near})
    assert made.gate.kl.value <= near == made.gate.max_kl
    assert made.repaired.endswith("stored as Q8_0")
    assert [rung.passed for rung in made.rungs] == [False] * (len(made.rungs) - 1) + [True]
    assert made.rungs[0].kl == missed.gate.kl
    assert made.rungs[-1].stored_bytes == sum(one.stored_bytes for one in made.tensors) > made.rungs[0].stored_bytes
    before = {one.name: one.type for one in missed.tensors}
    changed = {one.name for one in made.tensors if one.type != before[one.name]}
    assert changed
    assert {one.type for one in made.tensors if one.name in changed} == {"Q8_0"}
    decided = ggml_tensors.load(tmp_path / "repaired" / made.weights)
    assert {name: one.type for name, one in decided.items()} == {one.name: one.type for one in made.tensors}
    on_test = made.evaluation.quality["test"].kl_student.value
    assert on_test < missed.evaluation.quality["test"].kl_student.value, "what is judged is what was repaired"
    with pytest.raises(QuantizationError, match="and repair is off"):
        quantized_again(built, tmp_path / "unrepaired", gate={"max_kl": near}, repair=False)


def test_what_is_measured_is_what_ships(built: Path) -> None:
    measured = value(built, "benchmark", DecoderBenchmark)
    assert [one.name for one in measured.subjects] == [
        "teacher", "teacher.gguf", "gguf.float32", "gguf.q8_0", "gguf.q4_k_m",
    ]  # fmt: skip
    assert not measured.validity.wrong
    by_name = {one.name: one.quality["test"] for one in measured.subjects}
    student = value(built, "student", DecoderStudent).evaluation.quality["test"]
    assert by_name["gguf.float32"].perplexity.value == pytest.approx(student.perplexity.value, rel=1e-3)
    assert by_name["gguf.float32"].kl_student.value < 1e-4 < by_name["gguf.q4_k_m"].kl_student.value
    assert by_name["gguf.q8_0"].kl_student.value < by_name["gguf.q4_k_m"].kl_student.value
    for method in ("q8_0", "q4_k_m"):  # of the rounded weights: the runtime rounds activations, too
        rounded = measured.simulated_quality[method]["test"].kl_student.value
        assert (
            10 * by_name["gguf.float32"].kl_student.value < rounded < by_name[f"gguf.{method}"].kl_student.value * 1.2
        )
    assert [step.stage for step in measured.waterfall] == ["distill", "export", "quantize", "quantize"]
    lost = {step.after: step.mean.value for step in measured.waterfall}
    assert lost["student"] + lost["gguf.float32"] + lost["gguf.q4_k_m"] == pytest.approx(
        np.log(by_name["gguf.q4_k_m"].perplexity.value) - np.log(by_name["teacher"].perplexity.value), abs=1e-4
    )
    assert [control.control for control in measured.controls] == ["no_teacher", "untrained"]
    assert [one.seed for one in measured.seeds] == [0, 1]


def test_what_is_promoted_is_whole_and_says_what_it_is(built: Path) -> None:
    shipped = built / "runs" / "tiny-speech" / "artifacts" / "tiny-speech-0.1.0-gguf"
    names = sorted(file.name for file in shipped.iterdir())
    assert {"NOTICE", "README.md", "SHA256SUMS"} <= set(names)
    assert sum(name.endswith(".gguf") for name in names) == 3
    report = (built / "runs" / "tiny-speech" / "report.md").read_text(encoding="utf-8")
    assert "perplexity" in report


def test_what_is_promoted_answers_as_what_it_was_trained_on(built: Path) -> None:
    shipped = built / "runs" / "tiny-speech" / "artifacts" / "tiny-speech-0.1.0-gguf"
    (q4,) = shipped.glob("*-Q4_K_M.gguf")
    assert gguf_header.metadata(q4)["edgedistill.trained_on"] == "documents"
    model = open_model(shipped, threads=1)
    assert (model.name, model.conversations) == (q4.name, False)
    said = CliRunner().invoke(main, ["predict", str(shipped), "The cat", "--max-tokens", "8", "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["prompt_tokens"] == len(model.decoder.encode("The cat", special=False))
