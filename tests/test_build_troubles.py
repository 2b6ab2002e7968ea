"""Whatever is wrong with the disk, the folder or the input is told in one line, and costs nothing that was finished."""

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finished_build import Finished, built, called, contents, environment, one_line
from tiny_build import rows, write_headed_recipe, write_rows


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


@pytest.mark.parametrize(
    ("stage", "verb", "leave_bytes"),
    [
        ("teacher", "distill", 200_000),
        ("signals", "distill", 20_000),
        ("tokens", "distill", 10_000),
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
        "import sys, numpy as np; from pathlib import Path; "
        "from edgedistill.training.predict import resumable_outputs; "
        "from edgedistill.training.rows import TokenRows; place = Path(sys.argv[1]); "
        "rows = TokenRows(np.ones(64, np.int32), np.arange(65), 0); model = type('M', (), {'eval': print}); "
        "resumable_outputs(model, rows, 10**5, place / 'logits.npy', place, 'reads', None)"
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


@pytest.mark.parametrize("verb", ["build", "plan", "distill"])
def test_a_folder_of_somebody_else_is_refused(finished: Finished, tmp_path: Path, verb: str) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years of work", encoding="utf-8")
    ended = called(finished.recipe, tmp_path, verb)
    assert ended.exit_code == 2
    assert "is not empty and was not made by edgedistill" in one_line(ended)
    assert contents(tmp_path) == {"tiny/thesis.txt": b"years of work"}
    (tmp_path / "tiny" / "thesis.txt").unlink()
    assert called(finished.recipe, tmp_path, "plan").exit_code == 0, "an empty folder is free"


def test_an_edited_stage_is_named(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    file = copy.stage("signals") / "test.outputs.npy"
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


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("truncated_teacher", 2, r"teacher\.model\.path: .*model\.safetensors is damaged .*; fetch it again"),
        ("one_class", 1, r"has only the label 'positive'; it needs rows of at least two labels"),
        ("unknown_label", 1, r"'lukewarm'"),
        ("no_file", 2, r"other\.jsonl"),
        ("no_teacher", 2, r"teacher is not a directory; name one"),
        ("wrong_encoding", 1, r"train\.jsonl.*UTF-8"),
        ("no_rows", 2, r"other\.jsonl"),
    ],
)
def test_what_is_wrong_with_the_input_is_one_line(
    finished: Finished, tmp_path: Path, what: str, code: int, said: str
) -> None:
    folder = shutil.copytree(finished.recipe.parent, tmp_path / "recipe")
    spoil(what)(folder)
    ended = called(folder / "tiny.yaml", tmp_path / "runs", "distill")
    assert ended.exit_code == code, ended.output
    assert re.search(said, one_line(ended))


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


def test_a_label_that_the_headed_teacher_does_not_know_is_one_line(tmp_path: Path) -> None:
    file = write_headed_recipe(tmp_path)
    write_rows(tmp_path / "validation.jsonl", [*rows(40, seed=4), {"text": "w1 w2 w3", "label": "lukewarm"}])
    ended = called(file, tmp_path / "runs", "distill")
    assert ended.exit_code == 1
    assert re.search("'lukewarm'.*negative.*positive", one_line(ended))
