"""Each verb parses, calls and prints; every way to end has its exit code and one clear line."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator
from recipe_texts import GOOD
from safetensors.numpy import save_file
from tiny_artifact import LABELS, write_onnx

from edgedistill import __version__, pipeline, progress
from edgedistill.cli import main
from edgedistill.errors import GateError, ModelError, RunLocked, StageError
from edgedistill.planning import PlannedStage

VERBS = ("distill", "quantize", "export", "bench", "report")


def call(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_console", None)  # a build's console is not the next test's
    file = tmp_path / "recipe.yaml"
    file.write_text(GOOD, encoding="utf-8")
    for name in ("train.jsonl", "test.csv", "tweets.jsonl"):
        (tmp_path / name).write_text("rows", encoding="utf-8")
    return file


def write_teacher(folder: Path, labels: tuple[str, ...] | None = LABELS) -> None:
    """Write what init and validate look at; the weights are empty."""
    head = {"architectures": ["BertForSequenceClassification"], "id2label": dict(enumerate(labels))} if labels else {}
    folder.mkdir()
    sizes = {"model_type": "bert", "vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(sizes | head), encoding="utf-8")
    save_file({"a": np.zeros(1)}, folder / "model.safetensors")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for the pipeline, and return what it was asked for."""
    asked: list[dict[str, Any]] = []

    def build(recipe: Any, base: Path, out: Path, until: str = "report", *, strict: bool = False) -> pipeline.Outcome:
        asked.append({"name": recipe.name, "base": base, "out": out, "until": until, "strict": strict})
        return pipeline.Outcome(out / recipe.name, None, None)

    monkeypatch.setattr(pipeline, "build", build)
    return asked


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def build(*_given: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "build", build)


def test_the_version_is_the_packages() -> None:
    assert __version__ in call("--version").output


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_verb_has_help_that_is_told_in_one_line(verb: str) -> None:
    assert call(verb, "--help").exit_code == 0
    line = next(line for line in call("--help").output.splitlines() if line.split()[:1] == [verb])
    assert line.endswith(".")
    assert not line.endswith("...")


@pytest.mark.parametrize("verb", VERBS)
def test_a_stage_verb_builds_up_to_that_stage(recipe: Path, built: list[dict[str, Any]], verb: str) -> None:
    result = call(verb, recipe)
    assert result.exit_code == 0, result.output
    assert built == [{"name": "tiny", "base": recipe.parent, "out": Path("runs"), "until": verb, "strict": False}]
    assert str(Path("runs") / "tiny") in result.output


def test_build_runs_everything_and_out_is_passed_on(recipe: Path, built: list[dict[str, Any]]) -> None:
    assert call("build", recipe, "--out", "elsewhere").exit_code == 0
    assert (built[0]["until"], built[0]["out"]) == ("report", Path("elsewhere"))


@pytest.mark.parametrize("verb", ["build", "report"])
def test_strict_is_passed_on(recipe: Path, built: list[dict[str, Any]], verb: str) -> None:
    for arguments in ((), ("--strict",)):
        assert call(verb, recipe, *arguments).exit_code == 0
    assert [asked["strict"] for asked in built] == [False, True]


def test_quiet_shows_no_progress(recipe: Path, built: list[dict[str, Any]]) -> None:
    call("build", recipe, "--quiet")
    assert progress._console is None
    call("build", recipe)
    assert progress._console is not None
    assert len(built) == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StageError("the stage is broken"), 1, "error: the stage is broken"),
        (RunLocked("held by process 7"), 2, "error: held by process 7"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 1, "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "runs/x"), 1, "the disk is full"),
        (OSError(errno.EFBIG, "File too large", "runs/x"), 1, "the disk is full"),
        (OSError("300000 requested and 21472 written"), 1, "the disk is full (300000 requested"),
        (OSError("No space left on device " * 99), 1, "the disk is full; what"),
        (OSError(errno.EROFS, "Read-only file system", "runs/x"), 2, "runs/x cannot be read or written"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2, "name another folder with --out"),
        (OSError(errno.ENOTDIR, "Not a directory", "a/x"), 2, "a/x cannot be read or written (Not a directory)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 999), 2, "aaa [cut] cannot be read or written"),
        (FileExistsError(errno.EEXIST, "File exists", __file__), 2, "cannot be read or written (File exists)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_a_code(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    raising(monkeypatch, error)
    result = call("build", recipe)
    assert result.exit_code == code
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    if not isinstance(error, (StageError, RunLocked)):
        assert f"kept in {Path('runs') / 'tiny'}" in result.stderr


BUGS = (
    KeyError("bug"), ValueError("bug"), FileNotFoundError(errno.ENOENT, "no", "x"),
    FileExistsError(errno.EEXIST, "a folder that we made twice", "/"),
)  # fmt: skip


@pytest.mark.parametrize("error", BUGS)
def test_a_bug_keeps_its_traceback(recipe: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    raising(monkeypatch, error)
    assert call("build", recipe).exception is error


@pytest.mark.parametrize("out", ["afile/x", "afile/x/y", "a" * 300])
@pytest.mark.parametrize("verb", ["build", "init"])
def test_a_place_that_cannot_be_is_one_line(recipe: Path, tmp_path: Path, out: str, verb: str) -> None:
    (tmp_path / "afile").write_text("content", encoding="utf-8")
    (tmp_path / "rows.txt").write_text("a text\nanother\n", encoding="utf-8")
    write_teacher(tmp_path / "teacher")
    arguments = {"build": (recipe,), "init": ("--teacher", "teacher", "--data", "rows.txt")}[verb]
    result = call(verb, *arguments, "--out", out)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
    assert result.stderr.startswith("error: ")
    assert "name another folder with --out" in result.stderr


def test_a_missed_budget_shows_the_numbers_and_exits_with_3(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import report_benchmark

    from edgedistill.run import plain

    run = Path("runs") / "tiny"
    run.mkdir(parents=True)
    value = {"benchmark": {"value": plain(report_benchmark.benchmark())}}
    said = {"verdict": "FAIL", "sentence": "it is too large", "budget": [], "values": value}
    (run / "report.json").write_text(json.dumps(said), encoding="utf-8")
    raising(monkeypatch, GateError("onnx.dynamic_int8 misses max_file_bytes"))
    result = call("build", recipe)
    assert result.exit_code == 3
    assert "it is too large" in result.stdout
    assert result.stderr == "error: onnx.dynamic_int8 misses max_file_bytes\n"


@pytest.mark.parametrize(
    "arguments", [["build"], ["build", "none.yaml"], ["bild"], ["plan", "r.yaml", "--no"], ["init"]]
)
def test_a_wrong_call_is_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize("verb", ["build", "plan", *VERBS])
def test_a_wrong_recipe_is_2_and_nothing_runs(recipe: Path, built: list[dict[str, Any]], verb: str) -> None:
    recipe.write_text(GOOD.replace("epochs: 2", "epochs: 0").replace("threads", "treads"), encoding="utf-8")
    result = call(verb, recipe)
    assert result.exit_code == 2
    assert [line.split(": ")[2] for line in result.stderr.splitlines()] == ["distill.epochs", "benchmark.treads"]
    assert not built
    assert not (recipe.parent / "runs").exists()


def test_validate_tells_the_problems_of_all_files(recipe: Path) -> None:
    bad = recipe.with_name("bad.yaml")
    bad.write_text(GOOD.replace("epochs: 2", "epochs: 0"), encoding="utf-8")
    result = call("validate", bad, recipe, bad)
    assert result.exit_code == 2
    assert result.stdout == f"{recipe}: valid\n"
    assert len(result.stderr.splitlines()) == 2
    assert call("validate", recipe).exit_code == 0


def test_plan_shows_stages_and_models_or_why_there_are_none(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = PlannedStage("student", "distill", False, Path("x"), ("distill.epochs: 1 -> 2",), 90.0, 10**6)
    monkeypatch.setattr(pipeline, "plan", lambda *_given: (stage,))

    def anatomy(*_given: object) -> None:
        raise ModelError("there is no teacher")

    monkeypatch.setattr(pipeline, "anatomy", anatomy)
    result = call("plan", recipe)
    assert result.exit_code == 0, result.output
    assert "distill.epochs: 1 -> 2" in result.stdout
    assert "there is no teacher" in result.stdout


def test_schema_prints_a_schema() -> None:
    Draft202012Validator.check_schema(json.loads(call("schema").stdout))


def test_init_writes_a_recipe_that_validate_accepts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_teacher(tmp_path / "teacher", None)
    rows = [json.dumps({"text": f"text {i}", "label": "ab"[i % 2]}) for i in range(20)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows), encoding="utf-8")
    arguments = ("init", "--teacher", "teacher", "--data", "data.jsonl")
    assert call(*arguments).exit_code == 0
    assert call("validate", "recipe.yaml").exit_code == 0
    again = call(*arguments)
    assert again.exit_code == 2
    assert "not overwritten" in again.stderr


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    write_onnx(tmp_path / "artifact", "onnx/model_quantized.onnx", int8=True)
    return tmp_path / "artifact"


def test_predict_reads_arguments_a_file_and_the_standard_input_alike(artifact: Path, tmp_path: Path) -> None:
    texts = ["good film", "bad", "schön 電影"]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    given = call("predict", artifact, *texts)
    assert given.exit_code == 0, given.output
    assert [line.split("\t")[2] for line in given.stdout.splitlines()] == texts
    assert {line.split("\t")[0] for line in given.stdout.splitlines()} <= set(LABELS)
    piped = "\n".join(texts) + "\n"
    assert call("predict", artifact, "--file", tmp_path / "texts.txt").stdout == given.stdout
    assert call("predict", artifact, "--file", "-", stdin=piped).stdout == given.stdout
    assert call("predict", artifact, stdin=piped).stdout == given.stdout
    lines = [json.loads(line) for line in call("predict", artifact, "--json", *texts).stdout.splitlines()]
    assert [line["text"] for line in lines] == texts


def test_predict_refuses_what_is_no_artifact(tmp_path: Path) -> None:
    result = call("predict", tmp_path, "text")
    assert result.exit_code == 2
    assert "is no artifact" in result.stderr


def test_predict_tells_a_file_in_another_encoding(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    result = call("predict", artifact, "--file", tmp_path / "latin.txt")
    assert result.exit_code == 2
    assert "not UTF-8" in result.stderr


def test_doctor_exits_with_1_where_something_needed_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    assert call("doctor").exit_code == 0
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert call("doctor").exit_code == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_130_and_says_how_to_go_on(recipe: Path, number: signal.Signals) -> None:
    code = (
        "import sys, time\nfrom edgedistill import pipeline\nfrom edgedistill.__main__ import start\n"
        "def build(*given, **more):\n    print('working', flush=True)\n    time.sleep(60)\n"
        f"pipeline.build = build\nsys.argv[1:] = ['build', {str(recipe)!r}]\nstart()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        started = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (
        told == "error: interrupted; what was finished is kept in runs/tiny, and the same command goes on from there\n"
    )
    assert time.monotonic() - started < 10


def test_a_signal_during_the_first_imports_ends_with_130_too() -> None:
    code = (
        "import os, signal, sys\nfrom edgedistill.__main__ import start\n"
        "class Slow:\n"
        "    def find_spec(self, name, *given):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Slow())\nsys.argv[1:] = ['--version']\nstart()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr == "error: interrupted; nothing was lost, and the same command goes on from there\n"


def test_telemetry_is_off_before_anything_is_imported() -> None:
    code = (
        "import os\nfrom edgedistill.__main__ import start\n"
        "try: start()\nfinally: print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    ran = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, env=environment)
    assert ran.stdout.splitlines()[-1] == "1"


def test_output_that_nobody_reads_ends_quietly(artifact: Path) -> None:
    texts = io.StringIO("good\n" * 5000).getvalue()
    command = f"{sys.executable} -m edgedistill predict {artifact} | head -n 1"
    ran = subprocess.run(["bash", "-c", command], input=texts, capture_output=True, text=True)
    assert "Traceback" not in ran.stderr
    assert len(ran.stdout.splitlines()) == 1
