"""What a report and a card say where nobody but the teacher knows what is right, and of labels and vectors alone."""

from collections.abc import Collection
from dataclasses import replace

import pytest
from report_benchmark import CHALLENGES, benchmark, comparison, metric
from report_values import evidence
from test_report_card import card_of

from edgedistill.report import background, html, sections, tables
from edgedistill.report.budget import judge, recommend
from edgedistill.report.evidence import Evidence, judged_by_teacher, never_seen, what_the_teacher_judges
from edgedistill.report.sentence import Summary, summarise
from edgedistill.results import Ratio
from edgedistill.section import TaskOptions
from edgedistill.values import Truncation

SPLITS = ("test", *CHALLENGES)


def vectors(searched: Collection[str] = ()) -> Evidence:
    """Return a build of sentence vectors; what is not searched among holds texts alone."""
    made = evidence(labels=())
    splits = {
        name: split.model_copy(update={"documents": 60 if name in searched else 0, "label_counts": {}})
        for name, split in made.corpus.splits.items()
    }
    return replace(made, corpus=made.corpus.model_copy(update={"splits": splits}))


def told(made: Evidence) -> Summary:
    lines = judge(made.recipe.budget, made.benchmark)
    return summarise(made, lines, recommend(lines, made.benchmark))


def several(made: Evidence) -> Evidence:
    task = TaskOptions(kind="multi_label_classification")
    return replace(made, recipe=made.recipe.model_copy(update={"task": task}))


def test_sets_without_documents_are_judged_by_the_teacher_and_labelled_ones_never() -> None:
    assert judged_by_teacher(vectors().corpus, SPLITS) == list(SPLITS)
    assert judged_by_teacher(vectors(["test"]).corpus, SPLITS) == list(CHALLENGES)
    assert judged_by_teacher(evidence().corpus, SPLITS) == []
    assert what_the_teacher_judges(vectors(SPLITS).corpus, SPLITS) == ""
    assert told(evidence()).judge == ""


def test_who_judges_is_told_on_the_first_screen_and_in_the_card() -> None:
    made = vectors()
    summary = told(made)
    assert "the teacher alone says what is right" in summary.judge
    assert "its 100 % there is so by definition" in summary.judge
    assert summary.judge in summary.sentences
    assert "finds its teacher's nearest text among five for" in summary.headline
    assert "keeps" not in summary.headline, "nothing is known that could be kept"
    assert "the teacher alone says what is right" in card_of(made)
    assert "the teacher alone says what is right" not in card_of(vectors(SPLITS))


def test_a_search_of_its_own_keeps_its_headline() -> None:
    summary = told(vectors(["test"]))
    assert "on the test set" in summary.headline
    assert "keeps" in summary.headline
    assert not summary.judge.startswith("On test")
    assert summary.judge.startswith("On ")


def test_splits_of_a_search_are_told_as_queries_and_documents() -> None:
    made = vectors(["test"])
    table = background.splits(made.corpus)
    assert table.columns[2:4] == ("Queries", "Documents searched among")
    test = next(row for row in table.rows if row.cells[0].text == "test")
    assert [cell.text for cell in test.cells[1:4]] == ["1,000", "940", "60"]
    assert background.splits(evidence().corpus).columns[2:4] == ("Labelled", "Fewest to most per label")


def test_the_tile_says_which_number_it_gives() -> None:
    made = vectors(["test"])
    tile = html.tiles(made.benchmark, made.benchmark.subjects[-1])[2]
    assert tile.detail.endswith("%, test set")
    assert f"{made.benchmark.metric_name} " in tile.detail


def test_a_label_that_no_row_of_train_has_is_told() -> None:
    made = evidence()
    train = made.corpus.splits["train"].model_copy(update={"label_counts": {"negative": 500, "positive": 0}})
    corpus = made.corpus.model_copy(update={"splits": {**made.corpus.splits, "train": train}})
    unseen = replace(made, corpus=corpus)
    assert never_seen(made.corpus, made.teacher) == []
    assert "No training text had the label positive," in card_of(unseen)
    (section,) = [one for one in sections.sections(unseen, (), None) if one.anchor == "corpus"]
    assert "No text of train has 'positive': no model here has learned it." in section.lead
    headed = made.teacher.model_copy(update={"fit": None})
    assert never_seen(corpus, headed) == [], "a head of its own may know it"


def test_a_card_of_several_labels_says_when_one_holds() -> None:
    card, single = card_of(several(evidence())), card_of(evidence())
    assert "each whose logit is positive" in card
    assert "gives whichever of them look likely, or none, to every text" in card
    assert "gives one of them to every text" in single
    assert "each whose logit" not in single


def test_a_card_says_how_short_vectors_may_be_cut() -> None:
    made = vectors(["test"])
    shorter = tuple(
        Truncation(length=length, student={"test": metric(value)}, teacher={"test": metric(value)})
        for length, value in ((64, 0.75), (32, 0.5))
    )
    card = card_of(replace(made, student=made.student.model_copy(update={"truncations": shorter})))
    assert "cut to its first 64 numbers: 75" in card
    assert "; to 32 numbers: 50" in card
    assert "cut short" not in card_of(made)


@pytest.mark.parametrize(("low", "high"), [(0.97, 0.999), (1.001, 1.03)])
def test_what_no_digit_tells_apart_is_no_faster(low: float, high: float) -> None:
    made = evidence()
    alike = {"batch_1_short": Ratio(median=(low + high) / 2, low=low, high=high)}
    subjects = [
        one.model_copy(update={"speedup": alike}) if one.role == "artifact" else one for one in benchmark().subjects
    ]
    summary = told(replace(made, benchmark=made.benchmark.model_copy(update={"subjects": tuple(subjects)})))
    assert "the same" not in summary.speed
    assert "no faster (" in summary.speed
    assert "no faster" in summary.headline


@pytest.mark.parametrize(("ahead", "said"), [(0.05, "student beats"), (0.001, "student is no better than")])
def test_of_one_set_there_is_no_mean(ahead: float, said: str) -> None:
    alone = comparison("tfidf_words", "search by TF-IDF of words", ahead, ("test",))
    measured = benchmark().model_copy(update={"controls": (alone,), "splits": ("test",)})
    text = told(replace(evidence(), benchmark=measured)).controls
    assert said in text
    assert "on average" not in text
    assert "every set" not in text
    for table in (tables.controls(measured), tables.waterfall(measured, "onnx.dynamic_int8")):
        assert [row.cells[0].text for row in table.rows] == ["test"]
    both = tables.controls(benchmark())
    assert both.rows[0].cells[0].text == "mean of sets"
