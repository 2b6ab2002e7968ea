"""A whole build of sentence vectors: from a teacher that knows no labels to a folder that stock tools load."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from finished_build import Finished
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from tiny_build import SEARCH_RECIPE, write_search_recipe
from tokenizers import Tokenizer

from edgedistill import pipeline
from edgedistill.corpus.read import read
from edgedistill.models.load import load_model
from edgedistill.predict import Predictor
from edgedistill.recipe_file import load
from edgedistill.report import loading
from edgedistill.results import BenchmarkResult
from edgedistill.training.predict import outputs_of
from edgedistill.training.signals import SplitSignals


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("found")
    file = write_search_recipe(folder)
    pipeline.build(load(file), folder, folder / "runs")
    return Finished(file, folder / "runs")


@pytest.fixture(scope="module")
def measured(built: Finished) -> BenchmarkResult:
    value: BenchmarkResult = built.value("benchmark")
    return value


def test_the_teachers_words_are_its_vectors(built: Finished) -> None:
    signals, teacher = built.value("signals"), built.value("teacher")
    test = SplitSignals(signals, "test")
    model = load_model(teacher.path(teacher.checkpoint))
    assert (signals.width, signals.projection, test.outputs.shape) == (64, None, (110, 64))
    assert np.allclose(outputs_of(model, test.rows), test.outputs, atol=1e-5)
    assert np.allclose(np.linalg.norm(test.outputs, axis=1), 1, atol=1e-5)


def test_the_metric_is_recall_of_the_document_that_is_asked_for(built: Finished, measured: BenchmarkResult) -> None:
    assert measured.metric_name == "recall_at_5"
    found = np.load(measured.folder / "answers" / "onnx.float32" / "test.npy")
    similar = cosine_similarity(found[60:], found[:60])
    ranks = (similar >= similar[np.arange(50), np.arange(50)][:, None]).sum(axis=1)
    subject = next(s for s in measured.subjects if s.name == "onnx.float32")
    assert subject.quality["test"].metric.value == pytest.approx((ranks <= 5).mean())
    assert subject.quality["test"].metric.n == 50, "queries alone are measured"
    assert read(built.value("corpus"), "test").labels[60:].tolist() == list(range(50))


def test_texts_alone_are_judged_by_the_teachers_neighbours(measured: BenchmarkResult) -> None:
    teacher, *_, student = measured.subjects
    assert teacher.quality["challenge.texts"].metric.value == 1.0
    assert 0.3 < student.quality["challenge.texts"].metric.value <= 1
    assert student.quality["challenge.texts"].teacher_agreement == student.quality["challenge.texts"].metric


def test_distances_are_told_in_the_tasks_own_words(measured: BenchmarkResult) -> None:
    assert (measured.agreement_name, measured.divergence_name) == ("nearest text among five", "1 - cosine")
    small = next(s for s in measured.subjects if s.name == "onnx.dynamic_int8")
    apart = small.quality["test"].student_divergence
    assert apart is not None
    assert 0 < apart < 0.02


def test_every_control_ran(measured: BenchmarkResult) -> None:
    assert [control.control for control in measured.controls] == [
        "no_teacher",
        "tfidf_words",
        "tfidf_characters",
        "untrained",
    ]
    assert [result.seed for result in measured.seeds] == [0, 1]


def test_tfidf_searches_as_scikit_learn_does(built: Finished) -> None:
    controls, texts = built.value("controls"), read(built.value("corpus"), "test").texts
    for baseline, words in zip(
        controls.baselines[:2], ({}, {"analyzer": "char_wb", "ngram_range": (3, 5)}), strict=True
    ):
        vectorizer = TfidfVectorizer(sublinear_tf=True, **words).fit(texts[:60])
        expected = vectorizer.transform(texts[60:]) @ vectorizer.transform(texts[:60]).T
        given = np.load(controls.path(baseline.evaluation.outputs["test"]))
        assert np.allclose(given[60:] @ given[:60].T, expected.toarray(), atol=1e-4)
        assert given.shape[1] <= 60


def test_the_folder_says_how_its_vectors_are_made(built: Finished) -> None:
    files = {file.relative_to(built.artifact).as_posix() for file in built.artifact.rglob("*") if file.is_file()}
    assert {"modules.json", "1_Pooling/config.json", "onnx/model.onnx", "onnx/model_quantized.onnx"} <= files
    settings = json.loads((built.artifact / "1_Pooling" / "config.json").read_text())
    assert settings["pooling_mode_mean_tokens"] is True
    assert not any("id2label" in line for line in (built.artifact / "config.json").read_text().splitlines())


def test_onnxruntime_alone_gives_the_students_vectors(built: Finished) -> None:
    student = built.value("student")
    read = Tokenizer.from_file(str(built.artifact / "tokenizer.json")).encode("w10 w20 w30")
    given = {"input_ids": np.array([read.ids]), "attention_mask": np.array([read.attention_mask])}
    session = onnxruntime.InferenceSession(str(built.artifact / "onnx" / "model.onnx"))
    vectors = session.run(["sentence_embedding"], given)[0]
    with torch.no_grad():
        expected = load_model(student.path(student.checkpoint))(*(torch.from_numpy(array) for array in given.values()))
    assert np.allclose(vectors, expected.numpy(), atol=1e-5)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the lines are short; a script's end closes its files
def test_the_cards_own_lines_run(
    built: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(built.artifact)
    lines = loading.lines(built.value("export-onnx").variants[1], "sentence_embedding")
    assert lines.strip() in (built.artifact / "README.md").read_text()
    exec(lines, {})
    assert capsys.readouterr().out.strip() == "(1, 64)"


def test_predict_gives_vectors(built: Finished) -> None:
    said = Predictor(built.artifact, "float32").predict("w10 w20 w30")
    line: dict[str, Any] = json.loads(said.line(as_json=False))
    assert line.keys() == {"text", "vector"}
    assert np.linalg.norm(line["vector"]) == pytest.approx(1, abs=1e-4)
    assert said.line(as_json=True) == said.line(as_json=False)


def test_the_cards_javascript_prints_the_vector_and_warns_of_the_pipeline_that_does_not(built: Finished) -> None:
    card = (built.artifact / "README.md").read_text()
    blocks = re.findall(r"```js\n(.*?)```", card, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert block.endswith("console.log(sentence_embedding.dims, sentence_embedding.data);\n")
        assert "pipeline" not in block
    assert "`feature-extraction` of transformers.js" in card


def test_the_report_speaks_of_search(built: Finished) -> None:
    report = (built.run / "report.html").read_text()
    for words in ("recall at 5", "search by TF-IDF", "60 documents to search among", "No labels", "1 - cosine"):
        assert words in report, words
    assert "top class" not in report


def test_shorter_vectors_are_turned_and_measured(tmp_path: Path) -> None:
    text = SEARCH_RECIPE.replace("pooling: mean", "pooling: mean, dimensions: 32, truncations: [8, 16]")
    text = text.replace("{kind: layers, layers: 1}", "{kind: static, dimensions: 16}").replace(", seeds: 2", "")
    file = write_search_recipe(tmp_path, text)
    pipeline.build(load(file), tmp_path, tmp_path / "runs", "bench")
    built = Finished(file, tmp_path / "runs")
    student, signals = built.value("student"), built.value("signals")
    assert [one.length for one in student.truncations] == [16, 8]
    assert (signals.width, load_model(student.path(student.checkpoint)).width) == (32, 32)
    for one in student.truncations:
        outputs = np.load(student.path(student.evaluation.outputs["test"]))[:, : one.length]
        similar = cosine_similarity(outputs[60:], outputs[:60])
        ranks = (similar >= similar[np.arange(50), np.arange(50)][:, None]).sum(axis=1)
        assert one.student["test"].value == pytest.approx((ranks <= 5).mean())
    teacher, *_, small = built.value("benchmark").subjects
    assert small.quality["test"].teacher_divergence is None, "other directions are not compared"
    assert teacher.quality["test"].student_divergence is None
    assert small.quality["test"].student_divergence is not None
