"""What the report says of quantization: every rung, every layer, what was repaired, and whether it is any faster."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from report_benchmark import benchmark, metric
from report_values import BUDGET, evidence, place

from edgedistill.report import quantization, tables
from edgedistill.report.budget import judge, recommend
from edgedistill.report.card import model_card
from edgedistill.report.evidence import Evidence
from edgedistill.report.sections import sections
from edgedistill.report.sentence import summarise
from edgedistill.report.stage import report
from edgedistill.results import BenchmarkResult, Ratio, Validity
from edgedistill.values import Metric, QuantizationCost, QuantizedModel, Rung, Sensitivity

INT8 = "onnx.dynamic_int8"
FASTER = Ratio(median=1.4, low=1.3, high=1.5)
OPEN = Ratio(median=1.02, low=0.96, high=1.07)
SLOWER = Ratio(median=0.8, low=0.77, high=0.83)


def cost(agreement: float, kl: float, gold: bool = True) -> QuantizationCost:
    lost = Metric(value=1 - agreement, low=0.9 - agreement, high=1.1 - agreement, n=512)
    return QuantizationCost(
        rows=512,
        kl=kl,
        agreement=metric(agreement),
        metric=metric(0.8) if gold else None,
        metric_loss=lost if gold else None,
    )


def rung(name: str, agreement: float, kl: float, passed: bool, **changes: object) -> Rung:
    made = Rung(name=name, changed={}, stored_bytes=8_000_000, cost=cost(agreement, kl), passed=passed, kept=True,
                skipped="")  # fmt: skip
    return made.model_copy(update=changes)


RUNGS = (
    rung("as the recipe says", 0.53, 0.7, False),
    rung("7-bit codes", 0.53, 0.7, False, cost=None, stored_bytes=0, skipped="sums are exact in the simulation"),
    rung("smoothing 0.5", 0.995, 0.0004, True, stored_bytes=8_100_000),
)
LAYERS = (
    Sensitivity(layer="output", scheme="int8 per_channel symmetric", saved_bytes=2_000_000, cost=cost(0.97, 0.02)),
    Sensitivity(layer="hidden", scheme="float16", saved_bytes=0, cost=cost(1.0, 1e-9, gold=False)),
)


def with_model(**changes: object) -> Evidence:
    """Return a build whose quantized model says this too."""
    made = evidence()
    model = made.quantized["dynamic_int8"].model_copy(update=changes)
    place(model, "quantized.dynamic_int8")
    return replace(made, quantized={"dynamic_int8": model})


def beside_float(ratio: Ratio | None, valid: bool = True) -> BenchmarkResult:
    """Return a benchmark in which the int8 file has this ratio to the float student's own."""
    found = benchmark()
    speed = {} if ratio is None else dict.fromkeys(found.subjects[-1].speedup, ratio)
    int8 = found.subjects[-1].model_copy(update={"speedup_float": speed})
    validity = found.validity if valid else Validity(valid=False, disturbed=("noise",), wrong=())
    return found.model_copy(update={"subjects": (*found.subjects[:-1], int8), "validity": validity})


def said(made: Evidence) -> str:
    lines = judge(BUDGET, made.benchmark)
    return summarise(made, lines, recommend(lines, made.benchmark)).quantization


def test_every_rung_stands_in_the_table_with_its_numbers() -> None:
    model = with_model(rungs=RUNGS).quantized["dynamic_int8"]
    table = quantization.rungs(model, benchmark())
    assert table.caption == "dynamic_int8: what was tried, on 512 validation texts against the float student"
    first, skipped, last = table.rows
    assert [cell.text for cell in first.cells] == ["as the recipe says", "53.0 %", "80.0 %", "+47", "0.7", "8.00 MB",
                                                   "misses"]  # fmt: skip
    assert {cell.why for cell in skipped.cells[1:-1]} == {"sums are exact in the simulation"}
    assert skipped.cells[-1].text == "not tried"
    assert (last.cells[-1].text, last.cells[-1].tone, last.emphasised) == ("used", "good", True)
    assert not first.emphasised


def test_of_several_that_pass_the_last_is_used() -> None:
    model = with_model(rungs=(*RUNGS, rung("2 x int4", 0.999, 0.0001, True), rung("3 x int4", 0.9, 0.1, False)))
    results = [row.cells[-1].text for row in quantization.rungs(model.quantized["dynamic_int8"], benchmark()).rows]
    assert results == ["misses", "not tried", "passes", "used", "misses"]


def test_every_layer_stands_in_the_table_the_dearest_first() -> None:
    table = quantization.sensitivity(with_model(sensitivity=LAYERS).quantized["dynamic_int8"], benchmark())
    assert [row.cells[0].text for row in table.rows] == ["output", "hidden"]
    assert table.rows[0].cells[-1].text == "0.01", "0.02 nats for 2 MB"
    assert table.rows[1].cells[-1].why == "it saves nothing"
    assert table.rows[1].cells[4].why == quantization.NO_GOLD
    assert table.folded


def test_the_tables_are_on_the_page_where_there_is_something_to_say() -> None:
    def captions(made: Evidence) -> list[str]:
        section = next(one for one in sections(made, (), INT8) if one.anchor == "quantization")
        return [block.caption for block in section.blocks if hasattr(block, "caption")]

    full, empty = captions(with_model(rungs=RUNGS, sensitivity=LAYERS)), captions(evidence())
    assert sum("what was tried" in caption or "quantized alone" in caption for caption in full) == 2
    assert len(empty) == len(full) - 2


def test_the_chart_has_every_layer_and_width() -> None:
    section = next(one for one in sections(with_model(sensitivity=LAYERS), (), INT8) if one.anchor == "quantization")
    (chart,) = section.charts
    assert [name for _, name in chart.legend] == ["int8", "float16"]
    assert "output" in chart.svg
    assert "hidden" in chart.svg


def test_what_was_repaired_is_on_the_first_screen_in_the_section_and_on_the_card(tmp_path: Path) -> None:
    made, plain = with_model(rungs=RUNGS, repaired="smoothing 0.5"), evidence()
    told = "dynamic int8 missed its gate as the recipe had it, and was repaired: smoothing 0.5."
    assert told in said(made)
    assert "repaired" not in said(plain)
    (section,) = (one for one in sections(made, (), INT8) if one.anchor == "quantization")
    assert "It was repaired to pass its gate: smoothing 0.5." in section.lead
    values = {name: getattr(made, name) for name in ("corpus", "teacher", "student", "quantized", "benchmark")}
    card = model_card(made.recipe, artifact=made.artifacts["onnx"], **values)
    assert "missed its gate, and was repaired: smoothing 0.5" in card
    report(made.recipe, **values, signals=made.signals, tokens=made.tokens, controls=made.controls,
           artifacts=made.artifacts, folder=tmp_path)  # fmt: skip
    for name in ("report.md", "report.html", "report.json"):
        assert "smoothing 0.5" in (tmp_path / name).read_text(encoding="utf-8"), name


def speed_is_told(say: Callable[[Evidence], str]) -> bool:
    """Whether a file is called slow exactly where not every round made it faster, and with the numbers."""
    faster, unmeasured, tied, slower = (say(evidence(measured=beside_float(r))) for r in (FASTER, None, OPEN, SLOWER))
    return (
        faster == unmeasured == ""
        and "is no faster (0.96 to 1.1 times as fast) than the float student in ONNX" in tied
        and "is 1.2 times slower (1.2 to 1.3) than the float student in ONNX" in slower
    )


def test_int8_that_is_not_faster_is_called_so_before_anybody_ships_it(tmp_path: Path) -> None:
    def by_the_median(made: Evidence) -> str:
        int8 = made.benchmark.subjects[-1]
        speed = int8.speedup_float.get("batch_1_short")
        return "" if speed is None or speed.median > 1 else said(made)

    assert speed_is_told(said)
    assert not speed_is_told(by_the_median)
    made = evidence(measured=beside_float(SLOWER))
    values = {name: getattr(made, name) for name in ("corpus", "teacher", "student", "quantized", "benchmark")}
    told = report(made.recipe, **values, signals=made.signals, tokens=made.tokens, controls=made.controls,
                  artifacts=made.artifacts, folder=tmp_path)  # fmt: skip
    words = "On this CPU: the dynamic int8 student is 1.2 times slower"
    assert words in told.sentence
    assert words in (tmp_path / "report.md").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("times slower") < page.index("<nav"), "on the first screen"


def test_a_doubtful_measurement_is_told_as_one() -> None:
    assert "On this CPU (not validly measured): the" in said(evidence(measured=beside_float(SLOWER, valid=False)))


@pytest.mark.parametrize(("ratio", "tone"), [(FASTER, ""), (OPEN, "weak"), (SLOWER, "bad")])
def test_the_table_has_every_workload_against_the_float_student(ratio: Ratio, tone: str) -> None:
    table = tables.against_float(beside_float(ratio))
    (row,) = table.rows
    assert len(row.cells) == len(table.columns) == 6
    assert {cell.tone for cell in row.cells[1:]} == {tone}
    assert not tables.against_float(beside_float(None)).rows


def test_a_model_without_rungs_is_as_it_was() -> None:
    model: QuantizedModel = evidence().quantized["dynamic_int8"]
    assert (model.rungs, model.sensitivity, model.repaired) == ((), (), "")
