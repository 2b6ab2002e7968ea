"""What a build does with a promise that is kept, broken, or neither: what it says, how it ends, what it promotes."""

import json
import shutil
from pathlib import Path

import pytest
from finished_build import Finished, built, contents

from edgedistill import pipeline
from edgedistill.benchmark import stage as benchmarking
from edgedistill.errors import GateError
from edgedistill.recipe_file import load
from edgedistill.results import BenchmarkResult

KEPT, OPEN = "{max_file_bytes: 1 MB}", "{min_retained_quality: 0.999}"


@pytest.fixture
def uncertain(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the finished build's measurements, as if so few items were seen that half of the quality may be lost."""
    said = BenchmarkResult.load(finished.stage("benchmark")).model_dump(mode="json")
    for subject in said["subjects"]:
        for quality in subject["quality"].values():
            quality["retained"] |= {"low": 0.5, "high": 1.5}
    measured = BenchmarkResult.model_validate(said)
    monkeypatch.setattr(benchmarking, "benchmark", lambda *_given, **_values: measured)


def promising(finished: Finished, budget: str) -> Finished:
    """Return this very build after a budget was written into its recipe."""
    return finished.edit(("benchmark:", f"budget: {budget}\nbenchmark:"))


def test_a_missed_budget_ends_with_three_and_promotes_nothing(finished: Finished, tmp_path: Path) -> None:
    copy = finished.copied(tmp_path)
    before, text = contents(copy.artifact), copy.recipe.read_text(encoding="utf-8")
    ended = built(promising(copy, "{max_file_bytes: 1 kB}"))
    assert ended.returncode == 3
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("error: onnx.dynamic_int8 misses max_file_bytes: ")
    assert line.endswith("artifacts, the report says why")
    assert "FAIL" in ended.stdout
    assert json.loads((copy.run / "report.json").read_text(encoding="utf-8"))["verdict"] == "FAIL"
    assert not copy.artifact.exists()
    assert contents(copy.run / "artifacts.withdrawn" / copy.artifact.name) == before, "an earlier one is not lost"
    assert built(copy).returncode == 3, "also where nothing is left to run"
    copy.recipe.write_text(text, encoding="utf-8")
    assert built(copy).returncode == 0
    assert (copy.run / "report.json").read_bytes() == (finished.run / "report.json").read_bytes()


def test_a_missed_budget_without_an_earlier_artifact_leaves_none(finished: Finished, tmp_path: Path) -> None:
    copy = promising(finished.copied(tmp_path), "{max_file_bytes: 1 kB}")
    shutil.rmtree(copy.run / "artifacts")
    with pytest.raises(GateError, match="nothing was promoted"):
        pipeline.build(load(copy.recipe), copy.recipe.parent, copy.out)
    assert not (copy.run / "artifacts").exists()
    assert (copy.run / "report.html").exists()


@pytest.mark.parametrize(
    ("budget", "strict", "verdict"), [(KEPT, False, "PASS"), (KEPT, True, "PASS"), (OPEN, False, "INCONCLUSIVE")]
)
@pytest.mark.usefixtures("uncertain")
def test_what_is_kept_or_open_is_promoted(
    finished: Finished, tmp_path: Path, budget: str, strict: bool, verdict: str
) -> None:
    copy = promising(finished.copied(tmp_path), budget).without("benchmark")
    shutil.rmtree(copy.run / "artifacts")
    outcome = pipeline.build(load(copy.recipe), copy.recipe.parent, copy.out, strict=strict)
    assert outcome.report is not None
    assert outcome.report.verdict == verdict
    assert contents(copy.artifact).keys() == contents(finished.artifact).keys()


@pytest.mark.usefixtures("uncertain")
def test_a_strict_build_takes_what_is_open_for_broken(finished: Finished, tmp_path: Path) -> None:
    copy = promising(finished.copied(tmp_path), OPEN).without("benchmark")
    recipe, before = load(copy.recipe), contents(copy.artifact)
    for _ in ("measured anew", "nothing left to run"):
        with pytest.raises(
            GateError, match=r"^onnx\.dynamic_int8 does not prove min_retained_quality: .*nothing was promoted"
        ):
            pipeline.build(recipe, copy.recipe.parent, copy.out, strict=True)
    assert json.loads((copy.run / "report.json").read_text(encoding="utf-8"))["verdict"] == "INCONCLUSIVE"
    assert not copy.artifact.exists()
    assert contents(copy.run / "artifacts.withdrawn" / copy.artifact.name) == before, "an earlier one is not lost"
    pipeline.build(recipe, copy.recipe.parent, copy.out)
    assert contents(copy.artifact).keys() == before.keys(), "the very same build, not strict, promotes it"
