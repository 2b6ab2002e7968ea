"""Predictions come from the artifact's folder alone, one text at a time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_artifact import LABELS, texts, write_onnx

from edgedistill.cli import main
from edgedistill.errors import ModelError, RecipeError
from edgedistill.predict import Predictor
from edgedistill.runtimes import onnxruntime


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    write_onnx(tmp_path, "onnx/model.onnx")
    write_onnx(tmp_path, "onnx/model_quantized.onnx", int8=True)
    return tmp_path


@pytest.mark.parametrize("variant", ["float32", "quantized"])
def test_probabilities_are_the_softmax_of_the_runtime(artifact: Path, variant: str) -> None:
    file = "onnx/model.onnx" if variant == "float32" else "onnx/model_quantized.onnx"
    model = onnxruntime.load(artifact, file, threads=1)
    predictor = Predictor(artifact, variant)
    for text in texts(8):
        said = predictor.predict(text)
        logits = model.run(model.encode([text]))[0]
        shares = np.array(list(said.probabilities.values()))
        assert tuple(said.probabilities) == LABELS
        assert np.isclose(shares.sum(), 1.0)
        assert np.allclose(np.log(shares[0] / shares[1]), logits[0] - logits[1], atol=1e-4)
        assert said.label == LABELS[int(logits.argmax())]


def test_the_quantized_file_is_preferred_and_float32_is_taken_where_there_is_no_other(artifact: Path) -> None:
    text = texts(1)[0]
    quantized = Predictor(artifact, "quantized").predict(text)
    assert Predictor(artifact, None).predict(text) == quantized
    assert Predictor(artifact, "float32").predict(text) != quantized
    (artifact / "onnx" / "model_quantized.onnx").unlink()
    assert Predictor(artifact, None).predict(text) == Predictor(artifact, "float32").predict(text)


def test_odd_texts_have_an_answer(artifact: Path) -> None:
    predictor = Predictor(artifact, None)
    for text in ("", "good " * 5000, "🎬 電影 \u0000"):
        assert predictor.predict(text).label in LABELS


def test_a_line_says_the_same_with_and_without_json(artifact: Path) -> None:
    said = Predictor(artifact, None).predict('a "good" film')
    label, probability, text = said.line(as_json=False).split("\t")
    read = json.loads(said.line(as_json=True))
    assert (read["label"], read["text"]) == (label, text)
    assert f"{read['probability']:.4f}" == probability
    assert read["probabilities"] == said.probabilities


def asked(artifact: Path, *arguments: object, stdin: str | None = None) -> Result:
    """Ask through the command line."""
    return CliRunner().invoke(main, ["predict", str(artifact), *map(str, arguments)], input=stdin)


def test_texts_and_a_file_are_not_given_at_once(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("good\n", encoding="utf-8")
    for file in (tmp_path / "texts.txt", "-"):
        ended = asked(artifact, "good", "--file", file, stdin="good\n")
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert "Error: give texts or --file, not both" in ended.stderr
        assert asked(artifact, "--file", file, stdin="good\n").exit_code == 0


@pytest.mark.parametrize("white", ["\n", "\r\n", "\t", "\n\n \t", "\r", "\u2028", "\x0b", "\x85"])
def test_a_plain_line_is_one_line_of_three_fields_whatever_the_text_holds(artifact: Path, white: str) -> None:
    text = f"good{white}film{white}"
    said = asked(artifact, text).stdout
    assert said.splitlines() == [said.removesuffix("\n")]
    label, probability, shown = said.removesuffix("\n").split("\t")
    assert (label in LABELS, shown) == (True, "good film")
    assert 0 <= float(probability) <= 1
    (line,) = asked(artifact, "--json", text).stdout.split("\n")[:-1]
    assert json.loads(line)["text"] == text, "which is told whole where a line can hold it"


def test_a_byte_order_mark_is_no_part_of_the_first_text(artifact: Path, tmp_path: Path) -> None:
    piped, mark = "good film\nbad\n", "\ufeff"
    (tmp_path / "texts.txt").write_text(mark + piped, encoding="utf-8")
    expected = asked(artifact, "--json", stdin=piped).stdout
    assert json.loads(expected.splitlines()[0])["text"] == "good film"
    assert asked(artifact, "--json", stdin=mark + piped).stdout == expected
    assert asked(artifact, "--json", "--file", tmp_path / "texts.txt").stdout == expected
    later = asked(artifact, "--json", stdin=f"good film\n{mark}bad\n").stdout
    assert later != expected, "elsewhere it is a sign like any other"


def test_what_is_for_language_models_is_refused_elsewhere(artifact: Path) -> None:
    for option, word in (("--temperature=1", "temperature"), ("--raw", "raw"), ("--threads=2", "threads")):
        refused = asked(artifact, "good", option)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert f"is no language model, and {word} is for those alone" in refused.stderr


def test_a_folder_that_is_no_artifact_says_what_it_lacks(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"is no artifact, it lacks config\.json"):
        Predictor(tmp_path / "empty", None)
    (artifact / "tokenizer.json").unlink()
    with pytest.raises(RecipeError, match=r"lacks tokenizer\.json;"):
        Predictor(artifact, None)


def test_the_folder_of_all_artifacts_says_which_it_holds(artifact: Path, tmp_path: Path) -> None:
    runs = tmp_path / "artifacts"
    for name in ("b-0.1.0-onnx", "a-0.1.0-onnx"):
        write_onnx(runs / name, "onnx/model.onnx")
    (runs / "notes").mkdir()
    for options in ((), ("--max-tokens=5",)):
        refused = asked(runs, "good", *options)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "is no artifact, it lacks config.json" in refused.stderr
        assert refused.stderr.endswith("of a run; it holds: a-0.1.0-onnx, b-0.1.0-onnx\n")


def test_an_unknown_variant_is_told_with_those_there(artifact: Path) -> None:
    with pytest.raises(RecipeError, match="no variant 'int4'; choose one of: float32, quantized"):
        Predictor(artifact, "int4")


@pytest.mark.parametrize("file", ["onnx/model_quantized.onnx", "tokenizer.json", "config.json"])
def test_a_damaged_file_is_one_line(artifact: Path, file: str) -> None:
    (artifact / file).write_bytes((artifact / file).read_bytes()[:40])
    with pytest.raises(ModelError, match=r"cannot be loaded: .*SHA256SUMS") as caught:
        Predictor(artifact, None)
    assert "\n" not in str(caught.value)


def test_predicting_needs_no_torch(artifact: Path) -> None:
    code = (
        "import sys\n"
        "from edgedistill.predict import Predictor\nfrom pathlib import Path\n"
        f"Predictor(Path({str(artifact)!r}), None).predict('good')\n"
        "assert 'onnxruntime' in sys.modules\n"
        "assert not {'torch', 'transformers', 'onnx', 'pydantic'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
