"""The whole build through the command line: what a user sees at the end, and whatever may come in between."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from finished_build import Finished, built, contents, environment
from tiny_build import HEADED_RECIPE, RECIPE, rows, write_headed_recipe, write_recipe, write_rows

from edgedistill import pipeline, progress
from edgedistill.benchmark import stage as benchmarking
from edgedistill.cli import main
from edgedistill.recipe_file import load
from edgedistill.results import BenchmarkResult
from edgedistill.run import Run
from edgedistill.values import Artifact, Controls


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return when each file was last written, and its number on the disk."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_ino) for file in files if file.name != "run.lock"}


@pytest.fixture
def quiet() -> Iterator[None]:
    """A build inside this process shows its progress here, and not in the tests that follow."""
    yield
    progress.show_on(None)


def called(file: Path, out: Path, verb: str = "build") -> Result:
    """Run a verb inside this process, where the heavy libraries are loaded already."""
    return CliRunner().invoke(main, [verb, str(file), "--out", str(out), "--quiet"])


def one_line(ended: Any) -> str:
    """Return the one line that a user is told of an error, made sure that there is no traceback."""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith(" ")]
    assert "Traceback" not in ended.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], ended.stderr
    return lines[-1]


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
    assert ended.stderr == ""
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
    needs = finished.stage(stage) / "needs.json"  # written anew when the stage is called
    while process.poll() is None and not (needs.exists() and needs.stat().st_mtime_ns > started_ns):
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
        assert not {folder.name.rpartition("-")[0] for folder in done} & set(said.splitlines()), told
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
    assert not {"corpus", "teacher", "signals", "student"} & set(ended.stderr.splitlines()), (
        "finished before the last stop"
    )
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
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12M", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk; the file size limit below tests the same")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path, leave_bytes: int) -> Path:
    """Fill the disk but for `leave_bytes`; return the file to delete when room is to be made."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(b"\0" * (free - leave_bytes))
    return disk / "ballast"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("stage", "verb", "leave_bytes"),
    [
        ("teacher", "distill", 200_000),
        ("signals", "distill", 20_000),
        ("student", "distill", 20_000),
        ("quantize-dynamic_int8", "quantize", 4_000),
        ("export-onnx", "export", 200_000),
        ("report", "report", 200_000),
    ],
)
def test_a_full_disk_is_one_line_and_the_next_build_goes_on(
    finished: Finished, small_disk: Path, stage: str, verb: str, leave_bytes: int
) -> None:
    copy = finished.copied(small_disk / "all").without(stage)
    ballast = fill(small_disk, leave_bytes)
    ended = called(copy.recipe, copy.out, verb)
    assert ended.exit_code == 1
    assert re.search(r"^error: the disk is full( \(.*\))?; what was finished is kept in ", one_line(ended))
    assert one_line(ended).endswith("free some space and run the same command again")
    assert not (copy.stage(stage) / "result.json").exists()
    ballast.unlink()
    again = called(copy.recipe, copy.out, verb)
    assert again.exit_code == 0, again.stderr
    assert sums(copy, stage) == sums(finished, stage)


def sums(finished: Finished, stage: str) -> set[str]:
    """Return the hashes of a stage's files, but for what tells of time."""
    lines = (finished.stage(stage) / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.endswith(("  took.json", "  result.json"))}


@pytest.mark.usefixtures("quiet")
def test_a_file_size_limit_is_one_line_and_the_next_build_goes_on(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path).without("export-onnx")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))  # Python ignores the signal, and gets an error
    try:
        ended = called(copy.recipe, copy.out, "export")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ended.exit_code == 1
    assert "File too large" in one_line(ended)
    assert called(copy.recipe, copy.out, "export").exit_code == 0
    assert sums(copy, "export-onnx") == sums(finished, "export-onnx")


def test_a_full_disk_under_the_teachers_logits_is_no_bus_error(small_disk: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from edgedistill.training.predict import resumable_logits; "
        "from edgedistill.training.rows import TokenRows; place = Path(sys.argv[1]); "
        "rows = TokenRows(np.ones(64, np.int32), np.arange(65)); model = type('M', (), {'eval': print}); "
        "resumable_logits(model, rows, 10**5, place / 'logits.npy', place, 'reads', None)"
    )
    fill(small_disk, 20_000)
    ended = subprocess.run(
        [sys.executable, "-c", code, str(small_disk)], capture_output=True, text=True, env=environment()
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("OSError: ")


@pytest.fixture
def read_only(finished: Finished, tmp_path: Path) -> Iterator[Finished]:
    """A copy of the build whose run folder cannot be written."""
    copy = finished.copied(tmp_path)
    if os.geteuid():
        copy.run.chmod(0o500)
        yield copy
        copy.run.chmod(0o700)
        return
    bound = subprocess.run(["mount", "--bind", "-o", "ro", copy.out, copy.out], capture_output=True)
    if bound.returncode:
        pytest.skip("root can write everywhere, and may not mount here")
    yield copy
    subprocess.run(["umount", "--lazy", copy.out], check=True)


def test_a_folder_that_cannot_be_written_is_one_line(read_only: Finished) -> None:
    ended = built(read_only.edit(("epochs: 6", "epochs: 5")))
    assert ended.returncode == 2
    assert re.search(r"cannot be read or written \((Read-only file system|Permission denied)\)", one_line(ended))
    assert one_line(ended).endswith("name another folder with --out")


def test_a_folder_of_somebody_else_is_refused(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years of work", encoding="utf-8")
    ended = called(finished.recipe, tmp_path)
    assert ended.exit_code == 2
    assert "is not empty and was not made by edgedistill" in one_line(ended)
    assert contents(tmp_path) == {"tiny/thesis.txt": b"years of work"}


@pytest.mark.usefixtures("quiet")
def test_an_edited_stage_is_named(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    file = copy.stage("signals") / "test.logits.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    ended = called(copy.recipe, copy.out)
    assert ended.exit_code == 1
    assert f"{file} was changed after the stage finished; delete {copy.stage('signals')}" in one_line(ended)
    copy.without("signals")
    assert called(copy.recipe, copy.out).exit_code == 0, "the cure cures"


def spoil(name: str) -> Callable[[Path], None]:
    """Return what spoils the recipe's folder in one way."""

    def truncated_teacher(folder: Path) -> None:
        file = folder / "teacher" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])

    def one_class(folder: Path) -> None:
        write_rows(folder / "train.jsonl", [row for row in rows(200, seed=1) if row["label"] == "positive"])

    def unknown_label(folder: Path) -> None:
        write_rows(folder / "train.jsonl", [*rows(200, seed=1), {"text": "w1 w2 w3", "label": "lukewarm"}])

    def no_file(folder: Path) -> None:
        (folder / "other.jsonl").unlink()

    def no_teacher(folder: Path) -> None:
        shutil.rmtree(folder / "teacher")

    def wrong_encoding(folder: Path) -> None:
        (folder / "train.jsonl").write_bytes('{"text": "déjà vu", "label": "positive"}\n'.encode("latin-1"))

    def no_rows(folder: Path) -> None:
        (folder / "other.jsonl").write_text("", encoding="utf-8")

    return {function.__name__: function for function in (
        truncated_teacher, one_class, unknown_label, no_file, no_teacher, wrong_encoding, no_rows,
    )}[name]  # fmt: skip


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("truncated_teacher", r"teacher cannot be loaded as a text classifier"),
        ("one_class", r"has only the label 'positive'; it needs rows of at least two labels"),
        ("unknown_label", r"'lukewarm'"),
        ("no_file", r"other\.jsonl"),
        ("no_teacher", r"teacher is not a directory; teacher\.model must name one"),
        ("wrong_encoding", r"train\.jsonl.*UTF-8"),
        ("no_rows", r"other\.jsonl"),
    ],
)
def test_what_is_wrong_with_the_input_is_one_line(finished: Finished, tmp_path: Path, what: str, said: str) -> None:
    folder = shutil.copytree(finished.recipe.parent, tmp_path / "recipe")
    spoil(what)(folder)
    ended = called(folder / "tiny.yaml", tmp_path / "runs", "distill")
    assert ended.exit_code == 1, ended.output
    assert re.search(said, one_line(ended))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("old", "new", "stage"),
    [
        ("batch_size: 8, learning_rate: 1.0e-2", "batch_size: 8, learning_rate: 1.0e+30", "student"),
        ("batch_size: 8, learning_rate: 1.0e-3", "batch_size: 8, learning_rate: 1.0e+30", "teacher"),
    ],
)
def test_a_loss_that_is_not_finite_is_one_line_and_keeps_what_was_before(
    finished: Finished, tmp_path: Path, old: str, new: str, stage: str
) -> None:
    copy = finished.copied(tmp_path).edit((old, new))
    ended = called(copy.recipe, copy.out)
    assert ended.exit_code == 1
    assert re.search(r"\b(nan|inf)\b.*learning.rate", one_line(ended))
    assert not (copy.stage(stage) / "result.json").exists()
    assert (copy.stage("corpus") / "result.json").exists()
    assert contents(copy.artifact) == contents(finished.artifact)


@pytest.fixture
def unmeasured(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the finished build's measurements, without its controls, instead of measuring again."""
    measured = BenchmarkResult.load(finished.stage("benchmark")).model_copy(update={"controls": ()})
    monkeypatch.setattr(benchmarking, "benchmark", lambda *_given, **_values: measured)


@pytest.mark.usefixtures("unmeasured", "quiet")
def test_controls_that_are_switched_off_are_said_to_be(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path).edit(("epochs: 6, batch_size: 8", "epochs: 1, controls: false, batch_size: 8"))
    assert called(copy.recipe, copy.out).exit_code == 0
    report = (copy.run / "report.md").read_text(encoding="utf-8")
    assert "switched off in the recipe (distill.controls: false)" in report
    assert "switched off" not in (finished.run / "report.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unmeasured", "quiet")
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
    from edgedistill.runtimes import onnxruntime

    shipped = tmp_path / "runs" / "headed" / "artifacts" / "headed-0.1.0-onnx"
    model = onnxruntime.load(shipped, "onnx/model_quantized.onnx", threads=1)
    assert model.labels == ("negative", "positive")
    assert np.isfinite(model.run(model.encode(["w4 w5", ""]))).all()


@pytest.mark.usefixtures("quiet")
def test_a_label_that_the_headed_teacher_does_not_know_is_one_line(tmp_path: Path) -> None:
    file = write_headed_recipe(tmp_path, HEADED_RECIPE)
    write_rows(tmp_path / "validation.jsonl", [*rows(40, seed=4), {"text": "w1 w2 w3", "label": "lukewarm"}])
    ended = called(file, tmp_path / "runs", "distill")
    assert ended.exit_code == 1
    assert re.search("'lukewarm'.*negative.*positive", one_line(ended))


def test_a_recipe_elsewhere_reads_its_files_from_its_own_folder(tmp_path: Path) -> None:
    file = write_recipe(tmp_path / "deep" / "recipe", RECIPE)
    ended = subprocess.run(
        [sys.executable, "-m", "edgedistill", "plan", os.path.relpath(file, tmp_path)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "9 of 9 run" in ended.stdout
    assert not (tmp_path / "runs").exists()
