"""A build of sentence vectors that ships ONNX and GGUF: both are proven, measured side by side, and can be loaded."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_artifact import WORDS
from tiny_build import write_search_recipe
from tiny_sentence_encoder import write_sentence_encoder

from edgedistill import language_model, pipeline
from edgedistill.errors import ModelError, RecipeError
from edgedistill.export import parity
from edgedistill.predict import Predictor
from edgedistill.recipe_file import load
from edgedistill.results import BenchmarkResult
from edgedistill.values import Artifact

RECIPE = """\
name: found
licence: MIT
task: {kind: sentence_embedding, max_length: 32}
teacher: {kind: transformers, licence: Apache-2.0, model: {path: teacher}}
data:
  train: {source: jsonl, file: train.jsonl}
  test: {source: retrieval, queries: queries.jsonl, documents: documents.jsonl}
student: {kind: layers, layers: 1, vocabulary: {size: 200}}
distill: {epochs: 2, batch_size: 8, learning_rate: 2.0e-4, controls: false}
quantize: [{method: float16}]
export: [{format: onnx}, {format: gguf_encoder}]
benchmark: {rounds: 3, calls: 5, seconds: 0.01}
"""


def know_words(file: Path) -> None:
    """Give a tokenizer the words of the corpus as tokens: of pieces alone, all vectors would be much alike."""
    written = json.loads(file.read_text(encoding="utf-8"))
    vocab = written["model"]["vocab"]
    kept = [token for token in vocab if len(token.removeprefix("##")) == 1 or token.startswith("[")]
    written["model"]["vocab"] = {token: i for i, token in enumerate(dict.fromkeys([*kept, *WORDS]))}
    file.write_text(json.dumps(written), encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("llama_cpp", reason="its bindings are an extra")
    folder = tmp_path_factory.mktemp("found")
    file = write_search_recipe(folder, RECIPE)
    for old in (folder / "teacher").iterdir():
        old.unlink()
    write_sentence_encoder(folder / "teacher", biases=0.01, initializer_range=0.05)
    know_words(folder / "teacher" / "tokenizer.json")
    pipeline.build(load(file), folder, folder / "runs")
    return folder / "runs"


def folder_of(built: Path, stage: str) -> Path:
    return next(found.parent for found in built.rglob("result.json") if found.parent.name.startswith(stage))


@pytest.fixture(scope="module")
def artifact(built: Path) -> Artifact:
    return Artifact.load(folder_of(built, "export-gguf_encoder"))


def test_every_file_is_proven(artifact: Artifact) -> None:
    assert artifact.teacher is not None
    names = [(variant.name, variant.file.name) for variant in artifact.variants]
    assert names == [("float32", "model-F32.gguf"), ("float16", "model-F16.gguf")]
    for variant in (*artifact.variants, artifact.teacher):
        proof = variant.parity
        assert proof.weights_bit_equal
        assert 0 < proof.exact.max_abs_diff <= (proof.exact.tolerance or 0)
        assert proof.deployed.top1_agreement == 1
        assert proof.tokenizer_texts >= len(parity.ODD_TEXTS) - len(proof.read_otherwise) > len(parity.ODD_TEXTS) - 4
    assert not any(name.endswith(".gguf") for name in artifact.shared_files)
    assert {"tokenizer.json", "modules.json"} <= artifact.shared_files.keys()


def test_both_formats_are_measured_and_say_the_same(built: Path) -> None:
    measured = BenchmarkResult.load(folder_of(built, "benchmark"))
    subjects = {subject.name: subject for subject in measured.subjects}
    assert subjects.keys() >= {"onnx.float32", "gguf_encoder.float32", "gguf_encoder.float16", "teacher.gguf_encoder"}
    one, other = (
        np.load(measured.folder / "answers" / f"{name}.float32" / "test.npy") for name in ("onnx", "gguf_encoder")
    )
    assert (one * other).sum(axis=1).min() > 0.9999
    assert subjects["gguf_encoder.float32"].outputs_checked
    assert "GELU" in subjects["gguf_encoder.float32"].kernels


def test_an_app_needs_only_the_lines_of_the_card(built: Path, artifact: Artifact) -> None:
    root = artifact.path(artifact.root)
    card = next(file for file in built.rglob("README.md") if list(file.parent.glob("*.gguf")))
    text = card.read_text(encoding="utf-8")
    assert "transformers.js" not in text.partition("## Quality")[0]
    lines = text.partition("```python\n")[2].partition("```")[0]
    ran = subprocess.run([sys.executable, "-c", lines], cwd=root, capture_output=True, text=True, check=True)
    vector = json.loads(ran.stdout)
    expected = Predictor(root, "F16").predict("a text to search with").vector
    assert float(np.dot(vector, expected)) > 0.9999
    assert Predictor(root, None).predict("a text").vector == Predictor(root, "F16").predict("a text").vector
    with pytest.raises(RecipeError, match="choose one of: F16, F32"):
        Predictor(root, "Q8_0")


def test_it_is_no_language_model(artifact: Artifact) -> None:
    from edgedistill.runtimes import llama_cpp

    root = artifact.path(artifact.root)
    assert not language_model.is_there(root)
    with pytest.raises(ModelError, match="is a sentence encoder, and no language model"):
        llama_cpp.load(root, "model-F32.gguf", threads=1, context_tokens=16)


@pytest.mark.parametrize(
    ("change", "key", "said"),
    [
        (("kind: layers, layers: 1", "kind: static"), "student.kind", "no attention"),
        (("layers: 1,", "layers: 1, embedding_rank: 8,"), "student.embedding_rank", "in two factors"),
        (("max_length: 32", "max_length: 32, dimensions: 16"), "task.dimensions", "a linear map behind the pooling"),
        (("max_length: 32", "max_length: 32, pooling: max"), "task.pooling", "pools by mean or cls"),
    ],
)
def test_what_it_cannot_hold_is_told_before_any_training(
    tmp_path: Path, change: tuple[str, str], key: str, said: str
) -> None:
    file = write_search_recipe(tmp_path, RECIPE.replace(*change))
    with pytest.raises(RecipeError, match=rf"(?s){key}.*{said}"):
        load(file)
