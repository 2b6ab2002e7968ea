"""A whole build where several labels may hold: from a teacher that is fitted to a folder that stock tools load."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from finished_build import Finished, command
from scipy.special import expit  # type: ignore[import-untyped]
from sklearn.metrics import accuracy_score
from tiny_build import HEADED_RECIPE, SEVERAL_RECIPE, write_headed_recipe, write_recipe_of_several
from tokenizers import Tokenizer
from transformers import AutoTokenizer, TextClassificationPipeline

from edgedistill import pipeline
from edgedistill.corpus.read import read
from edgedistill.errors import ModelError, StageError
from edgedistill.export import parity
from edgedistill.models.load import load_model, load_tokenizer
from edgedistill.predict import Prediction, Predictor
from edgedistill.recipe_file import load
from edgedistill.report import loading
from edgedistill.results import BenchmarkResult
from edgedistill.runtimes import onnxruntime as runtime

BOTH, ONE, NEITHER = "w5 w6 w13 w14 w20", "w12 w13 w14 w15 w30", "w20 w30 w40 w31"
SEVERAL = "multi_label_classification"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("several")
    file = write_recipe_of_several(folder)
    pipeline.build(load(file), folder, folder / "runs")
    return Finished(file, folder / "runs")


@pytest.fixture(scope="module")
def measured(built: Finished) -> BenchmarkResult:
    value: BenchmarkResult = built.value("benchmark")
    return value


def held(built: Finished, split: str) -> np.ndarray:
    """Return which labels hold in each row of a split, as its file says."""
    labels = read(built.value("corpus"), split).labels
    return np.column_stack([labels & 1 == 1, labels & 2 == 2])


def test_the_teacher_learns_each_label_for_itself(built: Finished) -> None:
    teacher, signals = built.value("teacher"), built.value("signals")
    outputs = np.load(signals.path(signals.splits["test"].outputs))
    assert accuracy_score(held(built, "test"), outputs > 0) > 0.85
    assert {tuple(row) for row in (outputs > 0).tolist()} == {(a, b) for a in (True, False) for b in (True, False)}
    assert load_model(teacher.path(teacher.checkpoint)).several


def test_the_metric_is_exact_match_of_whole_sets(built: Finished, measured: BenchmarkResult) -> None:
    assert (measured.metric_name, measured.agreement_name) == ("exact_match", "same labels")
    for subject in measured.subjects:
        if subject.role != "artifact":
            continue
        for split in ("test", "challenge.other"):
            said = np.load(measured.folder / "answers" / subject.name / f"{split}.npy")
            exact = accuracy_score(held(built, split), said > 0)
            assert subject.quality[split].metric.value == pytest.approx(exact)
            assert exact > 0.7, "of four sets, a quarter would be chance"


def test_csv_and_lists_give_the_same_kinds_of_sets(built: Finished) -> None:
    assert set(read(built.value("corpus"), "challenge.other").labels.tolist()) == {0, 1, 2, 3}
    train = built.value("corpus").splits["train"]
    assert sum(train.label_counts.values()) == held(built, "train").sum()


def test_every_control_ran(measured: BenchmarkResult) -> None:
    assert [control.control for control in measured.controls] == ["no_teacher", "majority", "tfidf_linear"]
    _, majority, linear = measured.controls
    assert majority.quality["test"].value < 0.5 < linear.quality["test"].value
    assert "more frequent state" in majority.title
    assert "a logistic regression for each label" in linear.title


def test_every_checkpoint_says_that_several_labels_may_hold(built: Finished) -> None:
    student, teacher = built.value("student"), built.value("teacher")
    folders = [student.path(student.checkpoint), teacher.path(teacher.checkpoint), built.artifact]
    assert [json.loads((folder / "config.json").read_text())["problem_type"] for folder in folders] == [SEVERAL] * 3


def test_transformers_own_pipeline_applies_a_sigmoid(built: Finished) -> None:
    teacher = built.value("teacher")
    folder = teacher.path(teacher.checkpoint)
    model = load_model(folder)
    classify: Any = TextClassificationPipeline(model=model.model, tokenizer=AutoTokenizer.from_pretrained(folder))
    said = {one["label"]: one["score"] for one in classify(BOTH, top_k=None)}
    tokens = load_tokenizer(folder)(BOTH, return_tensors="pt")
    logits = model(tokens["input_ids"], tokens["attention_mask"])[0].detach().numpy()
    assert [said[label] for label in model.labels] == pytest.approx(expit(logits).tolist(), abs=1e-5)


def test_predict_gives_each_label_its_own_probability(built: Finished) -> None:
    predictor = Predictor(built.artifact, None)
    read_by = Tokenizer.from_file(str(built.artifact / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(built.artifact / "onnx" / "model_quantized.onnx"))
    for text, labels in ((BOTH, ["negative", "positive"]), (ONE, ["positive"]), (NEITHER, [])):
        ids = read_by.encode(text)
        given = {"input_ids": np.array([ids.ids]), "attention_mask": np.array([ids.attention_mask])}
        logits = session.run(["logits"], {i.name: given[i.name] for i in session.get_inputs()})[0][0]
        line = json.loads(predictor.predict(text).line(as_json=True))
        assert line == {"text": text, "labels": labels, "probabilities": line["probabilities"]}
        assert list(line["probabilities"].values()) == pytest.approx(expit(logits).tolist(), abs=1e-6)


def test_a_line_lists_the_labels_above_one_half() -> None:
    def line(**probabilities: float) -> str:
        return Prediction("a  text", probabilities, several=True).line(as_json=False)

    assert line(a=0.9, b=0.2, c=0.51) == "a,c\t0.9000,0.5100\ta text"
    assert line(a=0.5, b=0.2) == "-\t-\ta text"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the lines are short; a script's end closes its files
def test_the_cards_own_lines_list_the_labels(
    built: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(built.artifact)
    variant = built.value("export-onnx").variants[1]
    card = (built.artifact / "README.md").read_text()
    assert loading.transformers_js_lines(variant, SEVERAL).strip() in card
    assert "{ top_k: null }" in card
    lines = loading.lines(variant, SEVERAL)
    assert lines.strip() in card
    exec(lines.replace("a text to classify", BOTH), {})
    exec(lines.replace("a text to classify", NEITHER), {})
    assert capsys.readouterr().out.split("\n")[:2] == ["['negative', 'positive']", "[]"]


def test_the_report_speaks_of_labels(built: Finished) -> None:
    for file in (built.run / "report.html", built.run / "report.md", built.artifact / "README.md"):
        text = file.read_text()
        assert "exact match" in text, file
        assert "top class" not in text, file
    assert "same labels" in (built.run / "report.html").read_text()


def test_a_file_that_forgot_it_is_refused(built: Finished, tmp_path: Path) -> None:
    root = shutil.copytree(built.artifact, tmp_path / "artifact")
    config = json.loads((root / "config.json").read_text())
    del config["problem_type"]
    (root / "config.json").write_text(json.dumps(config))
    assert not runtime.load(root, "onnx/model.onnx", threads=1).several
    student = built.value("student")
    start = student.path(student.checkpoint)
    with pytest.raises(StageError, match="differ in whether several labels may hold"):
        parity.prove(
            load_model(start), load_tokenizer(start), runtime="onnxruntime", root=root, file="onnx/model.onnx",
            scheme="float32", real_texts=[BOTH], weights_bit_equal=True,
        )  # fmt: skip


def test_a_teacher_of_another_task_is_refused_before_anything_runs(built: Finished, tmp_path: Path) -> None:
    file = write_headed_recipe(tmp_path / "one", HEADED_RECIPE.replace("max_length: 32", "max_length: 16"))
    teacher = built.value("teacher")
    shutil.copytree(teacher.path(teacher.checkpoint), tmp_path / "one" / "headed", dirs_exist_ok=True)
    ended = command("validate", file)
    assert ended.returncode == 2
    assert (
        f"task.kind: the teacher's head was trained as {SEVERAL}, and 'text_classification' is not that" in ended.stderr
    )
    with pytest.raises(ModelError, match=f"write task.kind: {SEVERAL}, or add teacher.fit"):
        pipeline.build(load(file), file.parent, tmp_path / "runs", "distill")


def test_layers_of_the_teacher_learn_it_too(tmp_path: Path) -> None:
    text = SEVERAL_RECIPE.replace("{kind: static, dimensions: 16, hidden_size: 8}", "{kind: layers, layers: 1}")
    text = text.replace("batch_size: 8, learning_rate: 1.0e-2", "batch_size: 8, learning_rate: 1.0e-3, controls: false")
    file = write_recipe_of_several(tmp_path, text.replace("epochs: 8", "epochs: 2"))
    pipeline.build(load(file), tmp_path, tmp_path / "runs", "distill")
    student = Finished(file, tmp_path / "runs").value("student")
    assert student.evaluation.metrics["test"].value > 0.6
    assert load_model(student.path(student.checkpoint)).several
