"""What people find in the run folder: the newest report always, and artifacts only of a build that may ship."""

import shutil
from pathlib import Path

import pytest
from finished_build import Finished, contents

from edgedistill import publish as publishing
from edgedistill.errors import FolderNotOurs
from edgedistill.files import sha256_of
from edgedistill.publish import publish
from edgedistill.recipe_file import load
from edgedistill.results import BenchmarkResult, Report


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Finished:
    return finished.copied(tmp_path)


def published(copy: Finished, verdict: str = "PASS") -> None:
    names = {"corpus": "corpus", "teacher": "teacher", "student": "student", "signals": "signals"}
    made = {name: copy.value(stage) for name, stage in names.items()}
    made |= {
        "quantized": {"dynamic_int8": copy.value("quantize-dynamic_int8")},
        "artifacts": {"onnx": copy.value("export-onnx")},
    }
    report = Report.load(copy.stage("report"))
    judged = report.model_copy(update={"verdict": verdict})
    publish(
        load(copy.recipe),
        copy.run,
        judged,
        made,
        BenchmarkResult.load(copy.stage("benchmark")),
        promote=verdict != "FAIL",
    )


def test_the_reports_are_those_of_the_stage(copy: Finished) -> None:
    for name in ("report.md", "report.html", "report.json"):
        assert (copy.run / name).read_bytes() == (copy.stage("report") / name).read_bytes()
        (copy.run / name).write_text("old", encoding="utf-8")
    published(copy, "FAIL")
    for name in ("report.md", "report.html", "report.json"):
        assert (copy.run / name).read_bytes() == (copy.stage("report") / name).read_bytes()


def test_a_promoted_artifact_is_the_proven_one_with_card_and_sums(copy: Finished) -> None:
    artifact = copy.value("export-onnx")
    proven, promoted = contents(artifact.path(artifact.root)), contents(copy.artifact)
    assert promoted.keys() - proven.keys() == {"README.md", "SHA256SUMS"}
    assert {name: promoted[name] for name in proven} == proven


@pytest.mark.parametrize("verdict", ["PASS", "INCONCLUSIVE"])
def test_what_may_ship_is_promoted(copy: Finished, verdict: str) -> None:
    before = contents(copy.artifact)
    shutil.rmtree(copy.run / "artifacts")
    published(copy, verdict)
    assert contents(copy.artifact) == before


def test_a_failed_budget_promotes_nothing(copy: Finished) -> None:
    shutil.rmtree(copy.run / "artifacts")
    published(copy, "FAIL")
    assert not (copy.run / "artifacts").exists()


def test_a_failed_budget_withdraws_an_earlier_artifact_and_loses_nothing_of_it(copy: Finished) -> None:
    (copy.artifact / "NOTICE").write_text("an earlier one", encoding="utf-8")
    before = contents(copy.artifact)
    published(copy, "FAIL")
    assert not copy.artifact.exists()
    assert contents(copy.run / "artifacts.withdrawn" / copy.artifact.name) == before
    published(copy, "FAIL")
    published(copy, "PASS")
    assert copy.artifact.is_dir()


def test_what_is_complete_is_not_written_again(copy: Finished) -> None:
    before = {file: file.stat().st_mtime_ns for file in copy.run.rglob("*") if file.is_file()}
    published(copy)
    assert {file: file.stat().st_mtime_ns for file in copy.run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("missing", ["onnx/model.onnx", "README.md", "SHA256SUMS"])
def test_an_artifact_that_lacks_a_file_is_promoted_anew(copy: Finished, missing: str) -> None:
    before = contents(copy.artifact)
    (copy.artifact / missing).unlink()
    published(copy)
    assert contents(copy.artifact) == before


@pytest.mark.parametrize("theirs", ["LICENSE", "README.md", "onnx/model.onnx"])
def test_a_file_that_a_person_added_or_changed_is_never_removed(copy: Finished, theirs: str) -> None:
    (copy.artifact / theirs).write_text("mine", encoding="utf-8")
    (copy.run / "tiny-0.1.0-onnx.origin").unlink()
    before = contents(copy.artifact)
    with pytest.raises(FolderNotOurs, match=theirs):
        published(copy)
    assert contents(copy.artifact) == before


def test_an_artifact_of_another_build_is_replaced_whole(copy: Finished) -> None:
    before = contents(copy.artifact)
    (copy.artifact / "left-over.bin").write_bytes(b"of an older version")
    with (copy.artifact / "SHA256SUMS").open("a", encoding="utf-8") as sums:
        sums.write(f"{sha256_of(copy.artifact / 'left-over.bin')}  left-over.bin\n")
    (copy.run / "tiny-0.1.0-onnx.origin").write_text("export-onnx-0 report-0\n", encoding="utf-8")
    published(copy)
    assert contents(copy.artifact) == before


def as_promoted_by_another_build(copy: Finished, file: str) -> dict[str, bytes]:
    """Give one file of the promoted artifact other bytes, as if they had been promoted; return the whole folder."""
    (copy.artifact / file).write_bytes(b"of another build")
    sums = (copy.artifact / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    kept = [line for line in sums if not line.endswith(f"  {file}")]
    lines = [*kept, f"{sha256_of(copy.artifact / file)}  {file}", ""]
    (copy.artifact / "SHA256SUMS").write_text("\n".join(lines), encoding="utf-8")
    (copy.run / "tiny-0.1.0-onnx.origin").write_text("export-onnx-0 report-0\n", encoding="utf-8")
    return contents(copy.artifact)


@pytest.mark.parametrize(
    ("file", "kept"), [("onnx/model.onnx", True), ("onnx/model_quantized.onnx", True), ("README.md", False)]
)
def test_another_model_under_the_same_version_is_kept_apart(
    copy: Finished, monkeypatch: pytest.MonkeyPatch, file: str, kept: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(publishing, "say", said.append)
    before, withdrawn = contents(copy.artifact), copy.run / "artifacts.withdrawn" / copy.artifact.name
    other = as_promoted_by_another_build(copy, file)
    published(copy)
    assert contents(copy.artifact) == before
    assert contents(withdrawn) == (other if kept else {})
    assert [line for line in said if "artifacts.withdrawn/" in line] == said
    assert len(said) == kept
    published(copy)
    assert contents(withdrawn) == (other if kept else {}), "until yet another takes its place"


def test_other_versions_stay(copy: Finished) -> None:
    older = copy.run / "artifacts" / "tiny-0.0.9-onnx"
    shutil.copytree(copy.artifact, older)
    before = contents(older)
    shutil.rmtree(copy.artifact)
    published(copy)
    assert contents(older) == before
    assert copy.artifact.is_dir()


def test_a_kill_while_promoting_is_mended_by_the_next_build(copy: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(copy.artifact)
    (copy.run / "tiny-0.1.0-onnx.origin").unlink()
    real = shutil.rmtree

    def killed(folder: Path, **settings: bool) -> None:
        real(folder, **settings)
        if Path(folder) == copy.artifact:
            raise SystemExit

    monkeypatch.setattr(publishing.shutil, "rmtree", killed)
    with pytest.raises(SystemExit):
        published(copy)
    assert not copy.artifact.exists(), "between the old and the new one"
    monkeypatch.setattr(publishing.shutil, "rmtree", real)
    published(copy)
    assert contents(copy.artifact) == before
