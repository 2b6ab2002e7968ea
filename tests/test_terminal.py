"""Tables on a terminal say what the values say, in words that no markup swallows."""

import json
from pathlib import Path

import pytest
import report_benchmark
from rich.console import Console
from rich.table import Table

from edgedistill import terminal
from edgedistill.doctor import Finding
from edgedistill.models.anatomy import Anatomy
from edgedistill.planning import PlannedStage
from edgedistill.run import plain


def shown(*tables: Table) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - rich closes nothing
    with console.file:
        for table in tables:
            console.print(table)
    return console.export_text()


def planned(stage: str, **given: object) -> PlannedStage:
    unknown = {"verb": "distill", "finished": False, "folder": Path(stage), "why": (), "seconds": None, "bytes": None}
    return PlannedStage(stage=stage, **{**unknown, **given})  # type: ignore[arg-type]


def test_a_plan_says_what_runs_why_and_for_how_long() -> None:
    text = shown(
        terminal.plan_table(
            [
                planned("corpus", finished=True, seconds=3.0, bytes=10**6),
                planned("student", seconds=200.0, bytes=3 * 10**6, why=("distill.losses[0].weight: 1 -> 2",)),
                planned("controls", why=('after.signals: "0f" -> "1e"', 'code: "2d" -> "3c"')),
                planned("report"),
            ]
        )
    )
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "cached" in lines["corpus"]
    assert "~" not in lines["corpus"]
    assert "distill.losses[0].weight: 1 -> 2" in lines["student"]
    assert "~3.3 min" in lines["student"]
    assert "never ran" in lines["report"]
    assert "signals runs again" in lines["controls"]
    assert "own code for it changed" in text
    assert "3 of 4 run" in lines["total"]
    assert "~3.3 min" in lines["total"], "what is cached costs nothing"


def test_models_are_compared_with_the_first() -> None:
    text = shown(
        terminal.anatomy_table(
            [
                Anatomy("teacher", 22_700_000, 90_800_000, 4 * 10**7, 6, 30_522, 384, 384),
                Anatomy("student", 2_270_000, 9_080_000, 512, 0, 30_522, 64, 64),
            ]
        )
    )
    assert "22.7 million" in text
    assert "10×" in text


def test_what_stands_in_brackets_is_shown() -> None:
    text = shown(terminal.doctor_table([Finding("extra gguf", "lacks gguf", None, "pip install 'edgedistill[gguf]'")]))
    assert "edgedistill[gguf]" in text


def test_results_have_a_line_for_each_model_and_say_when_they_are_not_valid() -> None:
    measured = report_benchmark.benchmark()
    text = shown(terminal.results_table(measured))
    for subject in measured.subjects:
        assert subject.title in text
    assert "calls back to back" in text
    assert "0.131 ms (0.393 ms)" in text, "what a call takes after idle time stands beside it"
    doubtful = measured.model_copy(
        update={"validity": measured.validity.model_copy(update={"valid": False, "disturbed": ("the [fan] stopped",)})}
    )
    assert "the [fan] stopped" not in text
    assert "the [fan] stopped" in shown(terminal.results_table(doubtful))


@pytest.mark.parametrize("verdict", ["PASS", "FAIL"])
def test_the_end_of_a_build_names_what_was_promoted(tmp_path: Path, verdict: str) -> None:
    said = {
        "verdict": verdict,
        "sentence": "ten times smaller [really]",
        "budget": [
            {
                "subject": "onnx.dynamic_int8",
                "key": "max_file_bytes",
                "promise": "9 MB",
                "measured": "8 MB",
                "verdict": "PASS",
            }
        ],
        "values": {"benchmark": {"value": plain(report_benchmark.benchmark())}},
    }
    (tmp_path / "report.json").write_text(json.dumps(said), encoding="utf-8")
    console = Console(width=300, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        terminal.show_end(console, tmp_path)
    text = console.export_text()
    assert f"{verdict}  ten times smaller [really]" in text
    assert "onnx.dynamic_int8: max_file_bytes: 8 MB; promised: 9 MB" in text
    assert str(tmp_path / "report.html") in text
    assert (str(tmp_path / "artifacts") in text) == (verdict == "PASS")
