import io
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_benchmark import NASTY, benchmark, latency
from report_values import evidence, nasty_evidence, variant
from tiny_artifact import LABELS, texts, write_onnx

from edgedistill.report import loading
from edgedistill.report.card import model_card
from edgedistill.report.evidence import Evidence
from edgedistill.results import BenchmarkResult, Validity


def card_of(made: Evidence) -> str:
    return model_card(
        made.recipe,
        corpus=made.corpus,
        teacher=made.teacher,
        student=made.student,
        quantized=made.quantized,
        artifact=made.artifacts["onnx"],
        benchmark=made.benchmark,
    )


def front_matter(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    loaded: dict[str, Any] = yaml.safe_load(head)
    return loaded


def measured_on_another_day() -> BenchmarkResult:
    """Return the same quality with every time, memory and circumstance changed."""
    result, subjects = benchmark(), []
    for one in result.subjects:
        workloads = [each.model_copy(update={"latency": latency(0.5), "items_per_s": 3.0}) for each in one.workloads]
        memory = one.memory.model_copy(update={"peak_median_bytes": 1, "peak_max_bytes": 2})
        update = {"workloads": tuple(workloads), "memory": memory, "load_median_s": 9.0, "speedup": {}, "kernels": {}}
        update["speedup_exported"] = {}
        subjects.append(one.model_copy(update=update))
    environment = result.environment.model_copy(update={"cpu": "another CPU", "operating_system": "another system"})
    validity = Validity(valid=False, disturbed=("noise",), wrong=())
    update = {
        "subjects": tuple(subjects),
        "environment": environment,
        "validity": validity,
        "seconds": 1.0,
        "rounds": 9,
    }
    return result.model_copy(update=update)


def test_the_card_does_not_depend_on_time_memory_or_machine() -> None:
    assert card_of(evidence()) == card_of(evidence(measured=measured_on_another_day()))


def test_the_card_does_depend_on_quality() -> None:
    result = benchmark()
    quality = result.subjects[0].quality
    subjects = (*result.subjects[:-1], result.subjects[-1].model_copy(update={"quality": quality}))
    assert card_of(evidence()) != card_of(evidence(measured=result.model_copy(update={"subjects": subjects})))


def test_the_hub_can_read_the_front_matter() -> None:
    head = front_matter(card_of(evidence()))
    assert head["base_model"] == "org/MiniLM-L6"
    assert head["license"] == "mit"
    assert head["pipeline_tag"] == "text-classification"
    results = head["model-index"][0]["results"]
    values = {(one["dataset"]["name"], metric["name"]): metric["value"] for one in results for metric in one["metrics"]}
    assert values["test", "accuracy, dynamic_int8"] == pytest.approx(0.801)
    assert {name for name, _ in values} == {"test", "amazon", "news", "tweets"}


def test_a_teacher_that_is_not_on_the_hub_is_no_base_model() -> None:
    made = evidence()
    teacher = made.teacher.model_copy(update={"source": "models/mine", "revision": None})
    card = model_card(
        made.recipe, corpus=made.corpus, teacher=teacher, student=made.student, quantized=made.quantized,
        artifact=made.artifacts["onnx"], benchmark=made.benchmark,
    )  # fmt: skip
    assert "base_model" not in front_matter(card)
    assert "models/mine" in card


def test_the_card_says_what_an_app_ships_and_what_that_weighs() -> None:
    card = card_of(evidence())
    assert "an app ships one of them beside the tokenizer" in card
    assert "8.71 MB with onnx/model\\_dynamic\\_int8.onnx" in card


def javascript(card: str) -> list[str]:
    return re.findall(r"```js\n(.*?)```", card, flags=re.DOTALL)


def test_the_card_says_how_javascript_loads_each_file() -> None:
    card = card_of(evidence())
    classify, session = javascript(card)
    assert 'pipeline("text-classification", ".", { model_file_name: "model_dynamic_int8", dtype: "fp32" })' in classify
    assert 'InferenceSession.create("onnx/model_dynamic_int8.onnx")' in session
    (named,) = [line for line in card.splitlines() if line.startswith("| onnx/model.onnx | float32")]
    assert '{ dtype: "fp32" }' in named


def test_the_card_says_which_runtime_a_file_needs() -> None:
    made = evidence()
    artifact = made.artifacts["onnx"]
    variants = tuple(each.model_copy(update={"oldest_runtime": "1.23"}) for each in artifact.variants)
    told = replace(made, artifacts={"onnx": artifact.model_copy(update={"variants": variants})})
    assert "onnxruntime 1.23 or newer; opset 20, IR 10" in card_of(told)
    assert "or newer" not in card_of(made), "nothing is said of what is not known"


def with_layer(name: str, **given: object) -> Evidence:
    """Return a build whose int8 model has one more tensor of codes."""
    made = evidence()
    model = made.quantized["dynamic_int8"]
    layer = model.tensors[0].model_copy(update={"name": name, "shape": (384, 384), **given})
    model = model.model_copy(update={"tensors": (*model.tensors, layer)})
    return replace(made, quantized={"dynamic_int8": model})


@pytest.mark.parametrize(
    ("made", "rounded"),
    [
        (evidence(), False),
        (with_layer("model.bert.embeddings.position_embeddings.weight"), False),
        (with_layer("model.decoder.embed_tokens.weight"), False),
        (with_layer("hidden.weight", code_limit=None), False),
        (with_layer("model.bert.encoder.layer.0.output.dense.weight"), True),
        (with_layer("model.embeddings.projection.weight"), True),
    ],
)
def test_the_card_warns_where_a_text_answers_with_its_batch(made: Evidence, rounded: bool) -> None:
    limits = card_of(made).partition("## Limits")[2].partition("\n## ")[0]
    assert ("dynamic\\_int8: activation ranges are taken over the whole batch" in limits) == rounded
    assert limits.count("\n- ") == 4 + rounded


def test_odd_labels_stay_text() -> None:
    card = card_of(nasty_evidence())
    assert NASTY not in card
    assert "<script" not in card
    assert "label number 23" in card
    assert "No control was run" in card


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the lines are short; a script's end closes its files
@pytest.mark.parametrize("int8", [False, True])
def test_the_lines_that_load_an_artifact_run_and_answer_as_our_own_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8: bool
) -> None:
    from edgedistill.runtimes import onnxruntime

    one = variant("dynamic_int8" if int8 else "float32", 1000)
    write_onnx(tmp_path, str(one.file), int8=int8, seed=3)
    monkeypatch.chdir(tmp_path)
    ours = onnxruntime.load(tmp_path, str(one.file), threads=1)
    for text in texts(8):
        heard = io.StringIO()
        with redirect_stdout(heard):
            exec(loading.lines(one, "text_classification").replace("a text to classify", text), {})
        assert heard.getvalue().strip() == LABELS[int(ours.run(ours.encode([text])).argmax())]


def test_texts_that_are_copies_of_others_are_told() -> None:
    made = evidence()
    assert "Trained on 6,400 texts, 1,566 of them copies of others with words replaced. Student" in card_of(made)
    own = replace(made, corpus=made.corpus.model_copy(update={"augmentation": None}))
    assert "Trained on 6,400 texts. Student" in card_of(own)
