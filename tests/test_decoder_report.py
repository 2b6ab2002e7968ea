"""The report of a language model: what it says, that each number is a value's, and that no odd text breaks it."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
import yaml
from decoder_report_values import (
    FALLBACK,
    Q4,
    SPLITS,
    WHY,
    benchmark,
    evidence,
    flip,
    interval,
    nasty_evidence,
    seeds,
    with_q4,
)
from report_benchmark import NASTY, latency
from rich.console import Console
from test_report import Page, problems

from edgedistill import terminal
from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import DecoderQuality, DecoderStart
from edgedistill.recipe_sections import BudgetOptions
from edgedistill.report.budget import judge, recommend
from edgedistill.report.decoder import background, exact, quantization, sections, tables
from edgedistill.report.decoder.card import model_card
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.report.decoder.sentence import summarise
from edgedistill.report.decoder.stage import report
from edgedistill.report.evidence import find
from edgedistill.report.page import Table, missing, row
from edgedistill.report.units import DASH
from edgedistill.results import Memory, Report, Validity, Verdict
from edgedistill.student_values import OwnStart
from edgedistill.values import Metric

BUILDS = {"plain": evidence, "nasty": nasty_evidence}


def write(made: DecoderEvidence, folder: Path) -> Report:
    names = ("task", "corpus", "teacher", "signals", "student", "controls", "quantized", "artifacts", "benchmark")
    return report(made.recipe, **{name: getattr(made, name) for name in names}, folder=folder)


def card_of(made: DecoderEvidence) -> str:
    names = ("corpus", "teacher", "signals", "student", "quantized", "benchmark")
    given = {name: getattr(made, name) for name in names}
    return model_card(made.recipe, **given, artifact=made.artifacts["gguf"])


@pytest.fixture(scope="module", params=list(BUILDS))
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DecoderEvidence, Report, Path]:
    made: DecoderEvidence = BUILDS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    return made, write(made, folder), folder


# --- verdicts --------------------------------------------------------------------------------------------------


def verdict(key: str, budget: BudgetOptions, measured: DecoderBenchmark) -> Verdict:
    (line,) = judge(budget, measured)
    assert (line.key, line.subject) == (key, Q4)
    return line.verdict


def retaining(low: float, high: float) -> DecoderBenchmark:
    own = find(benchmark(), Q4)
    assert own is not None
    kept = own.quality["test"].model_copy(update={"retained": interval((low + high) / 2, low, high)})
    return with_q4(quality={"test": kept})


def waiting(low_s: float, high_s: float, **more: object) -> DecoderBenchmark:
    found = latency(0.1).model_copy(update={"p90_s": (low_s + high_s) / 2, "p90_low_s": low_s, "p90_high_s": high_s})
    return with_q4(ttft=found.model_copy(update=more))


def peaking(median_bytes: int, most_bytes: int) -> DecoderBenchmark:
    return with_q4(
        memory=Memory(
            peak_median_bytes=median_bytes, peak_max_bytes=most_bytes, imported_median_bytes=1, source="VmHWM"
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "limit", "measured", "expected"),
    [
        ("min_retained_quality", 0.9, retaining(0.91, 0.93), "PASS"),
        ("min_retained_quality", 0.9, retaining(0.86, 0.89), "FAIL"),
        ("min_retained_quality", 0.9, retaining(0.89, 0.92), "INCONCLUSIVE"),
        ("max_p90_latency_s", 0.2, waiting(0.1, 0.19), "PASS"),
        ("max_p90_latency_s", 0.2, waiting(0.21, 0.3), "FAIL"),
        ("max_p90_latency_s", 0.2, waiting(0.1, 0.3), "INCONCLUSIVE"),
        ("max_p90_latency_s", 0.2, waiting(0.1, 0.19, p90_s=None), "INCONCLUSIVE"),
        ("max_peak_memory_bytes", 100, peaking(90, 100), "PASS"),
        ("max_peak_memory_bytes", 100, peaking(101, 130), "FAIL"),
        ("max_peak_memory_bytes", 100, peaking(90, 101), "INCONCLUSIVE"),
        ("max_file_bytes", 38_400_000, benchmark(), "PASS"),
        ("max_file_bytes", 38_399_999, benchmark(), "FAIL"),
    ],
)
def test_a_promise_is_kept_broken_or_open(
    key: str, limit: float, measured: DecoderBenchmark, expected: Verdict
) -> None:
    assert verdict(key, BudgetOptions(**{key: limit}), measured) == expected


def test_a_teacher_that_is_hardly_ever_right_leaves_the_promise_open_and_is_the_reason() -> None:
    own = find(benchmark(), Q4)
    assert own is not None
    hollow = with_q4(quality={"test": own.quality["test"].model_copy(update={"retained": None})})
    (line,) = judge(BudgetOptions(min_retained_quality=0.9), hollow)
    assert line.measured == "no ratio with an interval, as the teacher itself is hardly ever right there"
    (line,) = judge(BudgetOptions(min_retained_quality=0.9), with_q4(quality={}))
    assert (line.verdict, line.measured) == ("INCONCLUSIVE", "not measured on the test set")


def test_a_latency_is_promised_of_the_first_token() -> None:
    (line,) = judge(BudgetOptions(max_p90_latency_s=0.2), benchmark())
    assert line.promise == "p90 of at most 200 ms to the first token after a prompt of 128 tokens"
    assert line.measured.startswith("75.1 ms")


# --- every number is a value's ---------------------------------------------------------------------------------


def test_the_page_opens_alone(written: tuple[DecoderEvidence, Report, Path]) -> None:
    assert problems((written[2] / "report.html").read_text(encoding="utf-8")) == []


def test_odd_names_are_shown_as_they_are(tmp_path: Path) -> None:
    made = nasty_evidence()
    write(made, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert NASTY in Page(html).text
    for text in (html, (tmp_path / "report.md").read_text(encoding="utf-8"), card_of(made)):
        assert "<script" not in text


def test_every_section_names_its_sources(written: tuple[DecoderEvidence, Report, Path]) -> None:
    made, _, folder = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    for value in made.stage_values().values():
        assert f"<code>{value.folder.name}</code>" in html
    assert all('class="sources">From <code>' in section for section in html.split("<section")[1:])


def test_the_data_holds_every_value(written: tuple[DecoderEvidence, Report, Path]) -> None:
    made, said, folder = written
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert (data["verdict"], data["sentence"]) == (said.verdict, said.sentence)
    for name, value in made.stage_values().items():
        assert data["values"][name]["folder"] == value.folder.name
        again = type(value).model_validate_json(json.dumps(data["values"][name]["value"]))
        assert again.model_dump() == value.model_dump()


def shown_tables(made: DecoderEvidence) -> list[Table]:
    lines = judge(made.recipe.budget, made.benchmark)
    found = sections.sections(made, lines, recommend(lines, made.benchmark))
    return [block for section in found for block in section.blocks if isinstance(block, Table)]


def unexplained(shown: list[Table]) -> list[str]:
    """Return the tables that have an empty cell or a dash without a reason, or a row of another width."""
    bad = []
    for table in shown:
        cells = [cell for each in table.rows for cell in each.cells]
        widths = {len(each.cells) for each in table.rows} - {len(table.columns) or 2}
        first = {each.cells[0] for each in table.rows}
        if widths or any((cell.text in ("", DASH)) and not cell.why and cell not in first for cell in cells):
            bad.append(table.caption)
    return bad


@pytest.mark.parametrize("made", [evidence(), nasty_evidence()], ids=["plain", "nasty"])
def test_what_is_missing_is_a_dash_with_a_reason(made: DecoderEvidence) -> None:
    assert unexplained(shown_tables(made)) == []


def test_a_dash_without_a_reason_is_found() -> None:
    fine = Table("fine", ("a", "b"), (row("x", missing("nobody looked")),))
    assert unexplained([fine]) == []
    assert unexplained([replace(fine, rows=(row("x", DASH),))]) == ["fine"]
    assert unexplained([replace(fine, rows=(row("x"),))]) == ["fine"]


def numbers_of(value: object) -> Iterator[float]:
    """Yield every number that a value holds."""
    if isinstance(value, bool | str) or value is None:
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, dict):
        for each in value.values():
            yield from numbers_of(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from numbers_of(each)


def untraced(shown: Table, made: DecoderEvidence) -> list[str]:
    """Return the table's numbers that are no value's: as it is, or in percent, MB, ms, to the digits that are shown."""
    known = [
        number * unit
        for value in made.stage_values().values()
        for number in numbers_of(value.model_dump(mode="json"))
        for unit in (1, 100, 1e-3, 1e-6, 1e3)
    ]
    found = []
    for cell in (cell for each in shown.rows for cell in each.cells[1:]):
        for text in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?", f"{cell.text} {cell.detail}"):
            number = float(text.replace(",", ""))
            near = 0.501 * 10 ** -len(text.partition(".")[2]) if "." in text else max(0.501, 0.005 * number)
            near = 0.06 * number if "e" in text else near
            if not any(abs(abs(one) - number) <= near for one in known):
                found.append(text)
    return found


@pytest.mark.parametrize("make", [tables.path, tables.controls, background.parity, quantization.methods])
def test_each_number_of_a_table_is_one_of_a_value(make: Callable[[DecoderEvidence], Table]) -> None:
    assert untraced(make(evidence()), evidence()) == []


def test_a_number_that_no_value_has_is_found() -> None:
    assert untraced(Table("x", ("a", "b"), (row("x", "0.7654321 nats"),)), evidence()) == ["0.7654321"]


# --- what the sections hold ------------------------------------------------------------------------------------


def test_a_loss_is_red_where_it_rises_and_green_where_it_falls() -> None:
    tones = [tables.loss_cell(interval(value, value - 0.01, value + 0.01)).tone for value in (0.1, -0.1, 0.001)]
    assert tones == ["bad", "good", "weak"]


def test_every_tensor_that_fell_back_is_named_with_its_reason() -> None:
    made = evidence()
    (shown,) = [table for table in shown_tables(made) if "stored otherwise" in table.caption]
    assert [cell.text for cell in shown.rows[0].cells] == [FALLBACK, "576 × 1536", "Q4_K", "Q5_0", WHY]
    assert len(shown.rows) == 1
    assert FALLBACK.replace("_", "\\_") in card_of(made)
    model = made.quantized["q4_k_m"]
    whole = model.model_copy(update={"tensors": tuple(one for one in model.tensors if one.name != FALLBACK)})
    whole._folder = model.folder
    exact = replace(made, quantized={"q4_k_m": whole})
    assert not [table for table in shown_tables(exact) if "stored otherwise" in table.caption]


def flips_lead(*margins: float, flips: int) -> str:
    measured = with_q4(worst_flips={"test": tuple(flip(margin) for margin in margins)}, flips={"test": flips})
    made = evidence(measured=measured)
    lines = judge(made.recipe.budget, measured)
    found = sections.sections(made, lines, recommend(lines, measured))
    return next(section.lead for section in found if section.anchor == "flips")


def test_flips_are_told_as_near_ties_or_damage() -> None:
    assert "every one is a near tie" in flips_lead(0.9, 0.2, flips=2)
    assert "On the test set 1 of 40 are damage" in flips_lead(1.4, 0.2, flips=40)
    assert "at least 2 of 40 are damage" in flips_lead(3.0, 1.4, flips=40), "only the worst are kept"
    assert "There is none on the test set" in flips_lead(flips=0)


def test_the_teachers_logits_are_told_with_their_cost() -> None:
    train = background.cached(evidence()).rows[0].cells
    assert train[1].text == "sampled"
    assert (train[3].text, train[3].detail) == ("61.2 bytes", "every token in float16: 98,304")
    assert train[4].text == "58.8 MB", "61.2 bytes of 960,000 positions"


def test_seeds_are_shown_in_pairs_where_they_were_measured() -> None:
    shown = shown_tables(evidence(measured=benchmark(seeds=seeds())))
    (table,) = [one for one in shown if one.caption.startswith("Every seed")]
    assert [each.cells[0].text for each in table.rows] == ["0 (shipped)", "1"]
    assert table.rows[0].cells[2].tone == "good"


# --- card, lines, terminal -------------------------------------------------------------------------------------


def test_the_card_depends_on_quality_alone() -> None:
    slow = with_q4(ttft=latency(9.0), load_median_s=77.0, kv_cache_bytes=1)
    other = slow.model_copy(update={"rounds": 9, "validity": Validity(valid=False, disturbed=("x",), wrong=())})
    assert card_of(evidence()) == card_of(evidence(measured=other))
    worse = with_q4(quality=find(benchmark(), "teacher").quality)  # type: ignore[union-attr]
    assert card_of(evidence()) != card_of(evidence(measured=worse))


def test_the_hub_can_read_the_front_matter() -> None:
    _, head, _ = card_of(evidence()).split("---\n", 2)
    front = yaml.safe_load(head)
    assert (front["pipeline_tag"], front["library_name"]) == ("text-generation", "gguf")
    values = {
        (one["dataset"]["name"], metric["name"]): metric["value"]
        for one in front["model-index"][0]["results"]
        for metric in one["metrics"]
    }
    assert values["test", "perplexity, q4_k_m"] == pytest.approx(17.13)
    assert values["stories", "next-token accuracy, float32"] == pytest.approx(0.396)
    assert len(values) == 2 * 2 * len(SPLITS)


def test_the_terminal_shows_the_same_numbers(tmp_path: Path) -> None:
    write(evidence(), tmp_path)
    console = Console(width=200, record=True)
    terminal.show_end(console, tmp_path)
    said = console.export_text()
    assert all(text in said for text in ("INCONCLUSIVE", "38.4 MB", "161", "17.1", "91.2 %", "report.html"))


def test_the_results_fit_into_a_terminal_of_80_columns() -> None:
    own = find(benchmark(), Q4)
    assert own is not None
    whole = own.quality["test"].model_copy(update={"exact_match": interval(0.48, 0.42, 0.54)})
    console = Console(width=80, record=True)
    console.print(terminal.results_table(with_q4(quality={"test": whole})))
    columns = ["model", "file", "decode", "prefill", "faster", "memory", "perpl.", "exact", "kept"]
    assert columns in [line.split() for line in console.export_text().splitlines()]


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (None, None),
        (
            DecoderStart(
                start=None, compared_texts=0, importance={"checkpoint": PurePosixPath("importance/checkpoint")},
                calibration_tokens=8149, seconds=35.0,
            ),
            "importance on 8,149 tokens of calibration, in 35.0 s",
        ),
        (
            DecoderStart(
                start=OwnStart(
                    checkpoint=PurePosixPath("own"), source="small", licence="MIT", weights_sha256="0" * 64
                ),
                compared_texts=2000, importance={}, calibration_tokens=0, seconds=2.0,
            ),
            "weights under MIT; 2,000 texts read as the teacher's ids",
        ),
    ],
)  # fmt: skip
def test_what_the_student_started_from_is_told(start: DecoderStart | None, said: str | None) -> None:
    made = evidence(start=start)
    told = [one.cells[2].text for one in background.models(made).rows if one.cells[0].text == "Begun with"]
    assert told == ([] if said is None else [said])
    assert ("start" in made.stage_values()) == (start is not None)


def test_answers_judged_whole_are_told_stage_by_stage() -> None:
    def judged(quality: DecoderQuality, value: float) -> DecoderQuality:
        exact = Metric(value=value, low=value - 0.05, high=value + 0.05, n=300)
        return quality.model_copy(update={"exact_match": exact})

    plain = benchmark()
    subjects = [
        one.model_copy(update={"quality": {split: judged(found, 0.61) for split, found in one.quality.items()}})
        for one in plain.subjects
    ]
    steps = tuple(
        one.model_copy(update={"differences": dict.fromkeys(SPLITS, Metric(value=-0.07, low=-0.1, high=-0.04, n=300))})
        for one in plain.waterfall
    )
    measured = plain.model_copy(update={"conversations": True, "subjects": tuple(subjects), "exact_waterfall": steps})
    table = exact.waterfall(measured, Q4)
    assert table.columns[0] == "Set"
    assert len(table.columns) == 3 + len(steps)
    assert [cell.text for cell in table.rows[0].cells][1:3] == ["61 %", "\N{MINUS SIGN}7.0"]
    assert exact.titles(plain) == exact.cells(None, plain) == []
    words = summarise(evidence(measured=measured), [], Q4).cost
    assert "points of exact match" in words
    assert "nats a token" in words, "divergences are told, too"
