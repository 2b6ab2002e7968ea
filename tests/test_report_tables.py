from dataclasses import replace

import pytest
from report_benchmark import benchmark, metric
from report_values import augmentation, evidence, search

from edgedistill.report.background import augmentation as background_augmentation
from edgedistill.report.background import choice, trials
from edgedistill.report.evidence import Evidence, find
from edgedistill.report.html import Tile, tiles
from edgedistill.report.page import Cell, Section, Table
from edgedistill.report.sections import sections
from edgedistill.report.tables import results, seeds, workloads
from edgedistill.results import BenchmarkResult, Ratio, SeedResult, Validity

INT8 = "onnx.dynamic_int8"


def cell(table: Table, model: str, column: str) -> Cell:
    """Return the first cell of a model's row under a column."""
    row = next(row for row in table.rows if row.cells[0].text.startswith(model))
    return row.cells[table.columns.index(column)]


def first_screen(result: BenchmarkResult) -> tuple[Tile, ...]:
    subject = find(result, INT8)
    assert subject is not None
    return tiles(result, subject)


def with_exported(ratio: Ratio | None) -> BenchmarkResult:
    """Return a benchmark in which the int8 artifact's rounds gave this ratio to the teacher in ONNX."""
    speed = {} if ratio is None else {"batch_1_short": ratio}
    subjects = [
        one.model_copy(update={"speedup_exported": speed}) if one.name == INT8 else one for one in benchmark().subjects
    ]
    return benchmark().model_copy(update={"subjects": tuple(subjects)})


def test_the_teacher_in_onnx_is_compared_round_by_round() -> None:
    result = with_exported(Ratio(median=41.0, low=30.0, high=52.0))
    found = cell(results(result, INT8), "dynamic int8", "Against teacher in ONNX")
    assert (found.text, found.detail) == ("41× faster", "30 to 52×"), "pooled medians would have given 54"


def test_a_ratio_that_was_not_paired_is_not_made_up() -> None:
    result = with_exported(None)
    assert cell(results(result, INT8), "dynamic int8", "Against teacher in ONNX").why


def test_the_two_teachers_are_compared_the_same_from_both_sides() -> None:
    table = results(benchmark(), INT8)
    exported, own = (
        cell(table, "teacher, ONNX", "Against teacher"), cell(table, "teacher, PyTorch", "Against teacher in ONNX"),
    )  # fmt: skip
    assert exported.text == "1.6× faster"
    assert (own.text, own.detail) == ("1.6× slower", exported.detail)


def test_without_a_teacher_in_onnx_nothing_is_compared_with_it() -> None:
    subjects = tuple(one for one in benchmark().subjects if one.role != "teacher_exported")
    table = results(benchmark().model_copy(update={"subjects": subjects}), INT8)
    assert cell(table, "teacher", "Against teacher in ONNX").why == "the teacher was not measured in ONNX"


def test_beside_the_model_file_stands_what_ships() -> None:
    table = results(benchmark(), INT8)
    found = cell(table, "dynamic int8", "Model file")
    assert (found.text, found.detail) == ("8.01 MB", "11.3× smaller; 8.71 MB with tokenizer, 10.5× smaller")
    assert cell(table, "teacher, PyTorch", "Model file").detail == "91.6 MB with tokenizer"
    size = first_screen(benchmark())[1]
    assert (size.figure, size.detail) == ("11.3×", "8.01 MB model file; 8.71 MB with tokenizer, 10.5× smaller")


def test_the_large_speed_is_back_to_back_and_the_small_print_says_the_rest() -> None:
    speed = first_screen(benchmark())[0]
    assert speed.figure == "85×"
    assert speed.detail == "80 to 91×, one short text; 34× faster after 20 ms of idling"


def test_a_slower_artifact_has_its_range_in_the_same_direction() -> None:
    slower = {"batch_1_short": Ratio(median=0.5, low=0.25, high=0.8)}
    subjects = [one.model_copy(update={"speedup": slower}) for one in benchmark().subjects]
    speed = first_screen(benchmark().model_copy(update={"subjects": tuple(subjects)}))[0]
    assert (speed.figure, speed.what) == ("2.0×", "slower than its teacher")
    assert speed.detail.startswith("1.2 to 4.0×")


@pytest.mark.parametrize(("wrong", "doubted"), [((), 1), (("another file ran",), 4)])
def test_every_large_number_of_another_model_is_doubted(wrong: tuple[str, ...], doubted: int) -> None:
    validity = Validity(valid=False, disturbed=("noise",), wrong=wrong)
    shown = first_screen(benchmark().model_copy(update={"validity": validity}))
    assert sum("not valid; " in tile.detail for tile in shown) == doubted


def test_a_slow_round_and_idle_time_are_seen_in_the_table_of_workloads() -> None:
    table = workloads(benchmark())
    assert cell(table, "float32", "p50").detail == "400 calls; rounds 0.148 ms to 0.211 ms"
    assert cell(table, "dynamic int8", "p50").detail == "400 calls; rounds 0.128 ms to 0.132 ms"
    spaced = [row.cells[1] for row in table.rows if row.cells[1].detail]
    assert {(each.text, each.detail) for each in spaced} == {("batch 1 spaced", "after 20 ms of idling")}
    assert len(spaced) == len(benchmark().subjects)


def test_loading_says_that_one_model_file_ships() -> None:
    (section,) = [each for each in sections(evidence(), (), INT8) if each.anchor == "loading"]
    assert "one model file per variant; an app ships one of them" in section.lead
    assert "8.71 MB with onnx/model_dynamic_int8.onnx" in section.lead


def test_every_seed_has_a_row_and_the_shipped_one_is_marked() -> None:
    one = SeedResult(seed=4, quality={"test": metric(0.8)}, differences={"test": metric(0.01)}, mean=metric(0.02))
    result = benchmark().model_copy(update={"seeds": (one, one.model_copy(update={"seed": 5}))})
    shipped, other = seeds(result).rows
    assert [each.cells[0].text for each in (shipped, other)] == ["4 (shipped)", "5"]
    assert (shipped.emphasised, other.emphasised) == (True, False)
    assert cell(seeds(result), "5", "Gain, mean of sets").text == "+2.0"


def section(made: Evidence, anchor: str) -> Section:
    (found,) = [each for each in sections(made, (), INT8) if each.anchor == anchor]
    return found


def captions(found: Section) -> list[str]:
    return [block.caption for block in found.blocks if isinstance(block, Table)]


def test_every_trial_of_a_search_has_a_row_and_the_chosen_one_is_marked() -> None:
    table = trials(search(), "accuracy")
    own, other, chosen = table.rows
    assert [each.cells[0].text for each in table.rows] == ["2", "8", "4"]
    assert [each.emphasised for each in table.rows] == [False, False, True]
    assert own.cells[0].detail == "the recipe's own"
    assert [each.cells[-1].text for each in table.rows] == ["+1.0", "+6.0", "chosen"]
    assert [each.cells[-1].tone for each in (own, other)] == ["weak", "good"], "the first one's interval holds zero"
    assert chosen.cells[2].text == "81.0 %"


def test_a_choice_that_may_be_luck_is_said_to_be() -> None:
    said = choice(search())
    assert said.startswith("Temperature 4 and soft weight 1 were the best of 3 short trainings")
    assert "1 of the other 2 cannot be told from it" in said
    assert said.endswith("The lead may be luck.")
    assert choice(search().model_copy(update={"warning": None})).endswith("there.")


def test_search_and_augmentation_are_told_only_where_they_were() -> None:
    made = evidence()
    assert made.search is not None
    learning, corpus = section(made, "distillation"), section(made, "corpus")
    assert choice(made.search) in learning.lead
    assert made.search.folder.name in learning.sources
    assert any("Search for temperature" in caption for caption in captions(learning))
    assert any("words replaced" in caption for caption in captions(corpus))
    plain = replace(made, search=None, corpus=made.corpus.model_copy(update={"augmentation": None}))
    assert "emperature" not in section(plain, "distillation").lead
    assert "search" not in plain.stage_values()
    assert len(captions(section(plain, "distillation"))) == len(captions(learning)) - 1
    assert len(captions(section(plain, "corpus"))) == len(captions(corpus)) - 1


def test_what_became_of_the_further_texts_adds_up_and_is_shown() -> None:
    made = augmentation()
    shown = {each.cells[0].text: each.cells[1].text for each in background_augmentation(made).rows}
    assert shown["New texts"] == "1,566 of 1,600"
    assert shown["Dropped, equal to a held-out text"] == "3"
    assert shown["Words replaced"].startswith("10,215 of 25,600, each with probability 0.4, by one of the 15 nearest")
