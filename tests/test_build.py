"""The whole build through the command line: what a user sees at the end, however often it was stopped."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from finished_build import Finished, built, called, contents, environment, one_line
from tiny_build import write_headed_recipe, write_recipe

from edgedistill import pipeline
from edgedistill.benchmark import stage as benchmarking
from edgedistill.cli import main
from edgedistill.recipe_file import load
from edgedistill.results import BenchmarkResult
from edgedistill.run import Run
from edgedistill.runtimes import onnxruntime
from edgedistill.values import Artifact, Controls


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return when each file was last written, and its number on the disk."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_ino) for file in files if file.name != "run.lock"}


def test_a_build_leaves_reports_artifacts_and_the_whole_recipe(finished: Finished) -> None:
    assert {file.name for file in finished.run.iterdir()} == {
        "artifacts", "recipe.yaml", "report.html", "report.json", "report.md", "run.json", "run.lock", "stages",
        "tiny-0.1.0-onnx.origin",
    }  # fmt: skip
    assert [folder.name for folder in (finished.run / "artifacts").iterdir()] == ["tiny-0.1.0-onnx"]
    assert {file.name for file in (finished.artifact / "onnx").iterdir()} == {"model.onnx", "model_quantized.onnx"}
    assert not list(finished.run.rglob("*.draft"))
    assert not list(finished.run.rglob("progress"))


def test_the_tiny_student_learned(finished: Finished) -> None:
    said = json.loads((finished.run / "report.json").read_text(encoding="utf-8"))["values"]["benchmark"]["value"]
    for subject in said["subjects"]:
        for split, quality in subject["quality"].items():
            assert quality["metric"]["value"] > 0.9, (subject["name"], split)


def test_a_second_build_is_quick_and_touches_nothing(finished: Finished) -> None:
    before = state(finished.out)
    started = time.monotonic()
    ended = built(finished)
    assert time.monotonic() - started < 3.0
    assert ended.returncode == 0
    assert len(ended.stderr.splitlines()) == 10
    assert all(line.endswith(": cached") for line in ended.stderr.splitlines())
    assert str(finished.run / "report.html") in ended.stdout
    assert state(finished.out) == before


def test_predict_answers_with_the_promoted_artifact(finished: Finished) -> None:
    answers = CliRunner().invoke(main, ["predict", str(finished.artifact), "w4 w5 w6", "w12 w13 w14"])
    assert [line.split("\t")[0] for line in answers.output.splitlines()] == ["negative", "positive"]


STOPS = (
    ("teacher", signal.SIGKILL),
    ("student", signal.SIGINT),
    ("export-onnx", signal.SIGKILL),
    ("benchmark", signal.SIGTERM),
)


def stopped(finished: Finished, stage: str, how: signal.Signals, delay_s: float) -> tuple[int, str]:
    """Stop a build a moment after a stage has begun; return its exit code and what it said."""
    started_ns = time.time_ns()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgedistill", "build", str(finished.recipe), "--out", str(finished.out)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def called() -> bool:
        needs = finished.run.glob(f"stages/{stage}-*/needs.json")  # written anew when the stage is called
        return any(file.stat().st_mtime_ns > started_ns for file in needs)

    while process.poll() is None and not called():
        time.sleep(0.02)
    time.sleep(delay_s)
    process.send_signal(how)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def test_a_build_that_is_stopped_again_and_again_ends_with_the_very_bytes(finished: Finished, tmp_path: Path) -> None:
    other = Finished(tmp_path / "elsewhere" / finished.recipe.name, tmp_path / "other-runs")
    shutil.copytree(finished.recipe.parent, other.recipe.parent)
    moments = random.Random(time.time_ns())
    for stage, how in STOPS:
        done = {folder for folder in other.run.glob("stages/*") if (folder / "result.json").exists()}
        delay_s = moments.uniform(0, 0.6)
        code, said = stopped(other, stage, how, delay_s)
        told = f"{how.name} {delay_s:.3f} s into {stage}: {said}"
        assert all((folder / "result.json").exists() for folder in done), told
        for folder in done:
            assert f"] {folder.name.rpartition('-')[0]}: cached\n" in said, told
        if how == signal.SIGKILL:
            assert code == -signal.SIGKILL, told
        else:
            assert code == 130, told
            assert "Traceback" not in said, told
            assert said.splitlines()[-1].startswith(f"error: interrupted; what was finished is kept in {other.run}"), (
                told
            )
    ended = built(other)
    assert ended.returncode == 0, ended.stderr
    for name in ("corpus", "teacher", "signals", "student"):
        assert f"] {name}: cached\n" in ended.stderr, "finished before the last stop"
    assert contents(other.run / "artifacts") == contents(finished.run / "artifacts")


def test_a_second_build_in_the_same_folder_is_told_who_builds(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    before = contents(copy.run / "stages")
    with Run(copy.run).locked():
        ended = built(copy)
    assert ended.returncode == 2
    line = one_line(ended)
    assert f"is being built by process {os.getpid()} on " in line
    assert line.endswith("wait for it, or name another --out")
    assert contents(copy.run / "stages") == before


@pytest.fixture
def unmeasured(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the finished build's measurements, without its controls, instead of measuring again."""
    measured = BenchmarkResult.load(finished.stage("benchmark")).model_copy(update={"controls": ()})
    monkeypatch.setattr(benchmarking, "benchmark", lambda *_given, **_values: measured)


@pytest.mark.usefixtures("unmeasured")
def test_controls_that_are_switched_off_are_said_to_be(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path).edit(("epochs: 6, batch_size: 8", "epochs: 1, controls: false, batch_size: 8"))
    assert called(copy.recipe, copy.out).exit_code == 0
    report = (copy.run / "report.md").read_text(encoding="utf-8")
    assert "switched off in the recipe (distill.controls: false)" in report
    assert "switched off" not in (finished.run / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unmeasured")
def test_texts_without_labels_a_teacher_with_a_head_and_a_student_with_layers(tmp_path: Path) -> None:
    file = write_headed_recipe(tmp_path)
    ended = called(file, tmp_path / "runs")
    assert ended.exit_code == 0, ended.stderr
    stages = {stage.stage: stage.folder for stage in pipeline.plan(load(file), tmp_path, tmp_path / "runs")}
    assert Controls.load(stages["controls"]).skipped is not None
    report = (tmp_path / "runs" / "headed" / "report.md").read_text(encoding="utf-8")
    assert "the training rows have no gold labels" in report
    artifact = Artifact.load(stages["export-onnx"])
    assert [variant.exporter for variant in artifact.variants] == ["torchscript", "torchscript"]
    shipped = tmp_path / "runs" / "headed" / "artifacts" / "headed-0.1.0-onnx"
    model = onnxruntime.load(shipped, "onnx/model_quantized.onnx", threads=1)
    assert model.labels == ("negative", "positive")
    assert np.isfinite(model.run(model.encode(["w4 w5", ""]))).all()


def test_a_recipe_elsewhere_reads_its_files_from_its_own_folder(tmp_path: Path) -> None:
    file = write_recipe(tmp_path / "deep" / "recipe")
    ended = subprocess.run(
        [sys.executable, "-m", "edgedistill", "plan", os.path.relpath(file, tmp_path)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "10 of 10 run" in ended.stdout
    assert not (tmp_path / "runs").exists()
