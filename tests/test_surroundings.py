"""A recipe is held against the files it names before anything runs: everything at once, each at its line."""

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_build import called, environment
from safetensors.numpy import save_file
from tiny_build import RECIPE

from edgedistill import registry, surroundings
from edgedistill.errors import RecipeError
from edgedistill.models.config_json import longest_input
from edgedistill.targets._target import Target

ROLES = ("train", "other")
HEADLESS: dict[str, Any] = {
    "model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 64, "vocab_size": 99,
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 6,
}  # fmt: skip
HEADED = HEADLESS | {
    "architectures": ["BertForSequenceClassification"], "id2label": {"0": "negative", "1": "positive"},
}  # fmt: skip
FIT = "  fit: {method: full, epochs: 3, batch_size: 8, learning_rate: 1.0e-3}\n"
PATH = "{path: teacher}"


def write(folder: Path, text: str = RECIPE, config: Any = HEADLESS) -> Path:
    """Write a recipe and what it names, the weights empty; return its file."""
    for name in ROLES:
        (folder / f"{name}.jsonl").write_text('{"text": "a", "label": "b"}\n', encoding="utf-8")
    (folder / "teacher").mkdir()
    (folder / "teacher" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"a": np.zeros(1)}, folder / "teacher" / "model.safetensors")
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    return folder / "tiny.yaml"


def problems(file: Path) -> list[str]:
    """Return what is wrong, `line: key: text`."""
    try:
        surroundings.load(file)
    except RecipeError as error:
        lines = str(error).splitlines()
    else:
        return []
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


def at(text: str, word: str, key: str) -> str:
    """Return how the problem begins that stands at the line with this word."""
    return f"{next(number for number, line in enumerate(text.splitlines(), 1) if word in line)}: {key}: "


def test_what_fits_is_accepted(tmp_path: Path) -> None:
    assert problems(write(tmp_path)) == []


def test_a_headed_teacher_needs_no_fit_and_its_labels_may_be_left_out(tmp_path: Path) -> None:
    file = write(tmp_path, RECIPE.replace(FIT, ""), HEADED)
    assert problems(file) == []
    file.write_text(RECIPE.replace(FIT, "").replace("labels: [negative, positive], ", ""), encoding="utf-8")
    assert problems(file) == []


def test_everything_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path)
    shutil.rmtree(tmp_path / "teacher")
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "other.jsonl").write_text("", encoding="utf-8")
    found = problems(file)
    assert [line.split(": ")[1] for line in found] == [
        "teacher.model.path", "data.train.file", "data.challenge.other.file",
    ]  # fmt: skip
    assert [line.split(": ")[0] for line in found] == ["7", "10", "12"]
    for line, said in zip(found, ("is not a directory", "does not exist", "is empty; give it"), strict=True):
        assert said in line


def _pickled(folder: Path) -> None:
    (folder / "teacher" / "model.safetensors").rename(folder / "teacher" / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "teacher" / "config.json").unlink(), "has no config.json; name"),
        (lambda folder: (folder / "teacher" / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda folder: (folder / "teacher" / "model.safetensors").unlink(), "has no .safetensors weights"),
        (_pickled, "as a pickle (pytorch_model.bin), and loading a pickle can run anybody's code; convert it"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_told(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    file = write(tmp_path)
    spoil(tmp_path)
    (found,) = problems(file)
    assert found.startswith(at(RECIPE, "path:", "teacher.model.path"))
    assert said in found


def test_a_teacher_without_a_head_needs_fit(tmp_path: Path) -> None:
    text = RECIPE.replace(FIT, "")
    (found,) = problems(write(tmp_path, text))
    assert found.startswith(at(text, "teacher:", "teacher.fit"))
    assert "fit: {method: full, epochs: 3}" in found


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("[positive, negative]", "not in the order of the teacher's head"),
        ("[bad, good]", "'bad', 'good' are not what the teacher's head tells apart: 'negative', 'positive'"),
        ("[negative, positive, neutral]", "are not what the teacher's head tells apart"),
    ],
)
def test_labels_must_be_those_of_the_head(tmp_path: Path, labels: str, said: str) -> None:
    text = RECIPE.replace(FIT, "").replace("[negative, positive]", labels)
    (found,) = problems(write(tmp_path, text, HEADED))
    assert found.startswith(at(text, "labels:", "task.labels"))
    assert said in found
    fitted = RECIPE.replace("[negative, positive]", labels)
    (tmp_path / "tiny.yaml").write_text(fitted, encoding="utf-8")
    assert problems(tmp_path / "tiny.yaml") == [], "a new head may know any labels"


@pytest.mark.parametrize("names", [{"1": "a", "2": "b"}, ["a", "b"]])
def test_a_head_whose_labels_have_no_order_is_told(tmp_path: Path, names: Any) -> None:
    (found,) = problems(write(tmp_path, RECIPE.replace(FIT, ""), HEADED | {"id2label": names}))
    assert "does not number its labels from 0" in found


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 48, "pad_token_id": 0}, 47),
        ({"model_type": "deberta-v2", "max_position_embeddings": 512, "position_biased_input": False}, None),
        ({"model_type": "xlnet", "max_position_embeddings": -1}, None),
        ({"model_type": "t5"}, None),
    ],
)
def test_the_longest_input_is_what_the_model_has_positions_for(config: dict[str, Any], longest: int | None) -> None:
    assert longest_input(config) == longest


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert"])
def test_the_longest_input_is_what_transformers_can_read(architecture: str, tmp_path: Path) -> None:
    import torch
    from tiny_models import write_model

    from edgedistill.models.config_json import read_config

    model = write_model(tmp_path, architecture)
    longest = longest_input(read_config(tmp_path))
    assert longest is not None
    model(input_ids=torch.full((1, longest), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 5))


def test_a_text_longer_than_the_teacher_can_read_is_told(tmp_path: Path) -> None:
    text = RECIPE.replace("max_length: 32", "max_length: 65")
    (found,) = problems(write(tmp_path, text))
    assert found.startswith(at(text, "max_length", "task.max_length"))
    assert found.endswith("65 tokens are more than the 64 that the teacher has positions for; write 64 or less")


STUDENT = "student: {kind: static, dimensions: 16, hidden_size: 8}"
LAYERS = "student: {kind: layers, layers: 12}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (LAYERS, "12 is more than the teacher's 6 layers"),
        ("student: {kind: layers, layers: [0, 6]}", "must name layers of 0..5"),
        ("student: {kind: layers, layers: 6}", None),
        ("student: {kind: layers, layers: [0, 5]}", None),
    ],
)
def test_a_student_has_no_more_layers_than_its_teacher(tmp_path: Path, words: str, said: str | None) -> None:
    text = RECIPE.replace(STUDENT, words)
    found = problems(write(tmp_path, text))
    assert len(found) == (said is not None)
    assert all(line.startswith(at(text, words, "student.layers")) and str(said) in line for line in found)


SCALED = "student: {kind: scaled, hidden_size: 12}"


@pytest.mark.parametrize(
    ("words", "config", "key", "said"),
    [
        (SCALED, {}, "student.hidden_size", "12 is more than the teacher's 8; write 8 or less"),
        (SCALED.replace("12", "8"), {}, None, None),
        (SCALED.replace("12", "9"), {"hidden_size": 24}, "student.hidden_size", "write 8 or 12, or another"),
        (SCALED, {"model_type": "mpnet"}, "student.kind", "the teacher's model_type is 'mpnet'; choose"),
        (SCALED.replace("12}", "8, num_attention_heads: 3}"), {}, "student", "does not divide into 3 heads"),
    ],
)
def test_a_scaled_student_fits_into_its_teacher(
    tmp_path: Path, words: str, config: dict[str, Any], key: str | None, said: str | None
) -> None:
    text = RECIPE.replace(STUDENT, words)
    found = problems(write(tmp_path, text, HEADLESS | {"num_attention_heads": 4} | config))
    assert len(found) == (said is not None)
    assert all(line.startswith(at(text, words, str(key))) and str(said) in line for line in found)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let this machine be of another architecture."""

    def on(machine: str) -> None:
        features = frozenset({"avx2", "vnni", "dotprod"})
        here = Target("host", machine, 2, None, ("onnxruntime", "pytorch"), features, "local")
        monkeypatch.setattr(registry.load("edgedistill.targets", "host"), "target", lambda: here)

    return on


@pytest.mark.parametrize(("machine", "target"), [("x86_64", "arm64"), ("aarch64", "x86_64_avx2")])
def test_a_target_that_this_machine_is_not_is_told(
    tmp_path: Path, on: Callable[[str], None], machine: str, target: str
) -> None:
    on(machine)
    text = RECIPE.replace("benchmark: {", f"benchmark: {{target: {target}, ")
    (found,) = problems(write(tmp_path, text))
    assert found.startswith(at(text, "benchmark:", "benchmark.target"))
    assert f"'{target}' cannot be measured here: this machine " in found
    assert found.endswith("; write host")
    (tmp_path / "tiny.yaml").write_text(text.replace(target, "host"), encoding="utf-8")
    assert problems(tmp_path / "tiny.yaml") == []


def cut(folder: Path) -> None:
    file = folder / "teacher" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def test_weights_that_were_cut_short_are_told(tmp_path: Path) -> None:
    file = write(tmp_path)
    cut(tmp_path)
    (found,) = problems(file)
    assert found.startswith(at(RECIPE, "path:", "teacher.model.path"))
    assert f"{tmp_path / 'teacher' / 'model.safetensors'} is damaged (" in found
    assert found.endswith("; fetch it again")


def test_what_the_recipe_alone_shows_is_told_in_the_same_go(tmp_path: Path, on: Callable[[str], None]) -> None:
    on("x86_64")
    text = RECIPE.replace("distill: {epochs: 6", "distill: {epoch: 6").replace(STUDENT, LAYERS)
    file = write(tmp_path, text.replace("benchmark: {", "benchmark: {target: arm64, ") + "budgett: {}\n")
    (tmp_path / "train.jsonl").unlink()
    last = ["distill.epoch", "benchmark.target", "budgett"]
    assert [line.split(": ")[1] for line in problems(file)] == ["data.train.file", "student.layers", *last]
    cut(tmp_path)  # of a teacher that cannot be read, nobody knows how many layers it has
    assert [line.split(": ")[1] for line in problems(file)] == ["teacher.model.path", "data.train.file", *last]


def pack(folder: Path, kind: str) -> str:
    """Move the teacher into an archive, and return the recipe's words for it."""
    file = folder / f"model.{kind}"
    members = [path for path in sorted((folder / "teacher").rglob("*")) if path.is_file()]
    if kind == "whl":
        with zipfile.ZipFile(file, "w") as opened:
            for path in members:
                opened.write(path, f"package/{path.relative_to(folder)}")
    else:
        with tarfile.open(file, "w:gz") as tar:
            for path in members:
                tar.add(path, f"package/{path.relative_to(folder)}")
    shutil.rmtree(folder / "teacher")
    return f"{{archive: model.{kind}, folder: package/teacher}}"


@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _folder: None, None),
        (lambda folder: (folder / "teacher" / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "teacher" / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "teacher" / "config.json").write_text("[]"), "holds a list"),
        (lambda folder: (folder / "teacher" / "model.safetensors").unlink(), "has no .safetensors weights"),
        (_pickled, "as a pickle (pytorch_model.bin)"),
        (lambda folder: (folder / "teacher").rename(folder / "other"), "has no folder 'package/teacher'"),
    ],
)
def test_an_archive_is_looked_into_and_not_unpacked(
    tmp_path: Path, kind: str, spoil: Callable[[Path], Any], said: str | None
) -> None:
    file = write(tmp_path)
    spoil(tmp_path)
    (tmp_path / "teacher").mkdir(exist_ok=True)
    file.write_text(RECIPE.replace(PATH, pack(tmp_path, kind)), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    found = problems(file)
    assert sorted(tmp_path.rglob("*")) == before
    if said is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith("7: teacher.model.archive: ")
        assert said in found[0]


@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
def test_an_archive_that_is_missing_or_broken_is_told(tmp_path: Path, kind: str) -> None:
    file = write(tmp_path)
    file.write_text(RECIPE.replace(PATH, pack(tmp_path, kind)), encoding="utf-8")
    archive = tmp_path / f"model.{kind}"
    archive.write_bytes(archive.read_bytes()[:60])
    assert "cannot be looked into" in problems(file)[0]
    archive.unlink()
    assert "is not there; fetch it first" in problems(file)[0]


def test_the_hub_is_not_asked_and_a_package_must_be_installed(tmp_path: Path) -> None:
    file = write(tmp_path, RECIPE.replace(PATH, "{hub: org/name, revision: abc}"))
    assert problems(file) == []
    file.write_text(RECIPE.replace(PATH, "{package: no-such-package, folder: model}"), encoding="utf-8")
    (found,) = problems(file)
    assert found.startswith("7: teacher.model.package: package 'no-such-package' is not installed")


@pytest.mark.parametrize("verb", ["validate", "plan", "build", "distill", "report"])
def test_every_verb_that_reads_a_recipe_checks_its_files(tmp_path: Path, verb: str) -> None:
    file = write(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    shutil.rmtree(tmp_path / "teacher")
    if verb == "validate":
        from click.testing import CliRunner

        from edgedistill.cli import main

        ended = CliRunner().invoke(main, [verb, str(file)])
    else:
        ended = called(file, tmp_path / "runs", verb)
    assert ended.exit_code == 2
    assert [line.split(": ")[2] for line in ended.stderr.splitlines()] == ["teacher.model.path", "data.train.file"]
    assert "valid" not in ended.stdout
    assert not (tmp_path / "runs").exists()


def test_the_check_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom edgedistill.cli import main\n"
        f"try: main(['validate', {str(write(tmp_path))!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "print({'torch', 'transformers', 'datasets', 'onnxruntime'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert ran.stdout.splitlines()[-1] == "set()"


def test_a_students_own_checkpoint_is_looked_at_too(tmp_path: Path) -> None:
    own = "student: {kind: pretrained, licence: MIT, model: {path: small}}\n"
    text = RECIPE.replace("student: {kind: static, dimensions: 16, hidden_size: 8}\n", own)
    file = write(tmp_path, text)
    (found,) = problems(file)
    assert found.startswith(at(text, "student:", "student.model.path"))
    assert "is not a directory; name one" in found
    shutil.copytree(tmp_path / "teacher", tmp_path / "small")
    assert problems(file) == []
    for changes, key, said in (
        ({"max_position_embeddings": 31}, "task.max_length", "more than the 31 that the student has positions for"),
        ({"architectures": ["StaticClassifier"]}, "student.model", "is a static student, which has no encoder"),
        ({"hidden_size": None, "vocab_size": None}, "student.model", "does not say all sizes of a text encoder"),
    ):
        config = {key: value for key, value in (HEADLESS | changes).items() if value is not None}
        (tmp_path / "small" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (found,) = problems(file)
        assert found.partition(": ")[2].startswith(f"{key}: ")
        assert said in found


def test_a_rank_that_saves_nothing_is_told(tmp_path: Path) -> None:
    text = RECIPE.replace("hidden_size: 8}", "hidden_size: 8, embedding_rank: 14}")
    (found,) = problems(write(tmp_path, text))
    assert found.startswith(at(text, "student:", "student.embedding_rank"))
    assert "saves nothing on a table of 99 tokens by 16 numbers; write 13 or less" in found
