"""A whole build of text generation to a folder that stock onnxruntime-genai loads, on a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_decoders import documents, write_decoder

from edgedistill import pipeline
from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import DecoderArtifact, DecoderSignals, QuantizedDecoder
from edgedistill.export.formats import onnx_genai
from edgedistill.generate import prompt_of
from edgedistill.language_model import open_model
from edgedistill.models import block_tensors
from edgedistill.recipe_file import load
from edgedistill.run import Run

pytest.importorskip("onnxruntime_genai", reason="it runs what is built; it is in the extra genai")

RECIPE = """\
name: tiny-folder
licence: MIT
task: {kind: text_generation, conversations: true, max_length: 64, judged_positions: 400}
teacher: {kind: transformers, licence: Apache-2.0, model: {path: teacher}}
data:
  train: {source: conversations, file: train.jsonl, system: Go on.}
  test: {source: conversations, file: test.jsonl, system: Go on.}
student: {kind: layers, layers: 1}
distill: {epochs: 1, batch_size: 8, learning_rate: 3.0e-3, controls: false}
quantize: [{method: onnx_int4, overrides: {model.embed_tokens.weight: int8}}]
export: [{format: onnx_genai}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01, prompt_tokens: 16, decode_tokens: 4}
"""

STOCK = """\
import sys
import onnxruntime_genai as og

model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
params = og.GeneratorParams(model)
params.set_search_options(max_length=24, do_sample=False)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode("The cat sees"))
while not generator.is_done():
    generator.generate_next_token()
print(list(map(int, generator.get_sequence(0))))
assert not any(name.startswith("edgedistill") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    write_decoder(folder / "teacher")
    texts = documents(160)
    for name, some in (("train", texts[:120]), ("test", texts[120:])):
        pairs = ({"prompt": text[:8], "answer": text[8:]} for text in some)
        lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    pipeline.build(load(folder / "tiny.yaml"), folder, folder / "runs", until="report")
    return folder


def value(folder: Path, name: str, kind: type) -> object:
    recipe, run = load(folder / "tiny.yaml"), Run(folder / "runs" / "tiny-folder")
    return kind.load(run.folder_of(name, pipeline.stages(recipe, folder, run)[name].needs))


def test_importance_is_measured_on_the_calibration_split(built: Path) -> None:
    """Not on what quality is judged on."""
    signals = value(built, "signals", DecoderSignals)
    model = value(built, "quantize-onnx_int4", QuantizedDecoder)
    assert model.importance_positions == signals.splits["calibration"].tokens
    assert signals.splits["calibration"].tokens not in {signals.splits[name].tokens for name in ("train", "test")}


def test_every_number_is_decided_by_quantize_and_found_in_the_folder(built: Path) -> None:
    artifact = value(built, "export-onnx_genai", DecoderArtifact)
    model = value(built, "quantize-onnx_int4", QuantizedDecoder)
    assert [file.name for file in artifact.files] == ["float32", "onnx_int4"]
    decided = block_tensors.load(model.path(model.weights))
    assert {one.type for one in model.tensors} == {"F32", "INT4_32", "INT8_32"}
    whole, small = artifact.files
    assert onnx_genai.differences(artifact.path(artifact.root) / small.file, decided) == []
    for file in artifact.files:
        assert file.parity.weights_bit_equal
        assert file.parity.kl_exact < 1e-6
        assert file.parity.conversations > 0
    assert whole.parity.kl < 1e-6 < small.parity.kl < small.parity.kl_limit
    assert small.beside_bytes == whole.beside_bytes > 0
    assert small.bits_per_weight == model.bits_per_weight < 8


def test_what_is_measured_is_what_ships(built: Path) -> None:
    measured = value(built, "benchmark", DecoderBenchmark)
    assert [one.name for one in measured.subjects] == [
        "teacher", "teacher.onnx_genai", "onnx_genai.float32", "onnx_genai.onnx_int4",
    ]  # fmt: skip
    assert not measured.validity.wrong
    by_name = {one.name: one for one in measured.subjects}
    whole, small = by_name["onnx_genai.float32"], by_name["onnx_genai.onnx_int4"]
    assert whole.quality["test"].kl_student.value < 1e-4 < small.quality["test"].kl_student.value
    simulated = measured.simulated_quality["onnx_int4"]["test"]
    assert small.quality["test"].perplexity.value == pytest.approx(simulated.perplexity.value, rel=0.02)
    assert small.model_bytes < small.shipped_bytes < whole.shipped_bytes


def test_stock_onnxruntime_genai_loads_what_is_promoted(built: Path) -> None:
    shipped = built / "runs" / "tiny-folder" / "artifacts" / "tiny-folder-0.1.0-onnx_genai"
    assert {"NOTICE", "README.md", "SHA256SUMS", "float32", "onnx_int4"} == {file.name for file in shipped.iterdir()}
    for variant in ("float32", "onnx_int4"):
        ended = subprocess.run(
            [sys.executable, "-I", "-c", STOCK, str(shipped / variant)], capture_output=True, text=True, check=False,
            env={"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        ids = json.loads(ended.stdout)
        assert 3 < len(ids) <= 24
    card = (shipped / "README.md").read_text(encoding="utf-8")
    assert "import onnxruntime_genai as og" in card
    assert "llama" not in card.partition("## Quality")[0]
    lines = card.partition("```python\n")[2].partition("```")[0]
    ran = subprocess.run([sys.executable, "-c", lines], cwd=shipped, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


def test_what_is_promoted_is_asked_under_the_words_that_it_learned_under(built: Path) -> None:
    shipped = built / "runs" / "tiny-folder" / "artifacts" / "tiny-folder-0.1.0-onnx_genai"
    model = open_model(shipped)
    assert (model.name, model.conversations, model.system) == ("onnx_int4", True, "Go on.")
    whole = model.decoder.chat([{"role": "system", "content": "Go on."}, {"role": "user", "content": "The cat"}])
    assert prompt_of(model, "The cat") == whole
    assert prompt_of(model, "The cat", system="Stop.") != whole


def test_the_report_speaks_of_onnx(built: Path) -> None:
    report = (built / "runs" / "tiny-folder" / "report.md").read_text(encoding="utf-8")
    assert "INT4 student" in report
    assert "than in ONNX" in report
    assert "GGUF" not in report
