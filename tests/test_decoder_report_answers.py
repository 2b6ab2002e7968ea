"""What a report says of prompts that the teacher answered: how many there were, and what became of each."""

from pathlib import PurePosixPath

import pytest
from decoder_report_values import evidence
from test_decoder_report import card_of

from edgedistill.decoder_values import AnsweredCorpus, Answers
from edgedistill.report.decoder import background, sections
from edgedistill.report.decoder.evidence import DecoderEvidence

MADE = Answers(
    file=PurePosixPath("answers.jsonl"), made_from=5678, rows=722, too_long=31, cut_off=17, empty=5, unreadable=3,
    tokens=23_456, max_tokens=None, batch_size=32, temperature=0.0, seed=0,
)  # fmt: skip


@pytest.fixture
def answered() -> DecoderEvidence:
    made = evidence(conversations=True)
    prompts = made.corpus.splits["test"].model_copy(update={"rows": 778})
    corpus = AnsweredCorpus(**dict(made.corpus) | {"prompts": prompts}, answers=MADE)
    return evidence(conversations=True, corpus=corpus)


def told(made: DecoderEvidence) -> str:
    """Return what the page says before the tables of texts and of controls, and the card."""
    return " ".join((sections._corpus(made).lead, sections._controls(made).lead, card_of(made)))


def test_what_became_of_every_prompt_is_told(answered: DecoderEvidence) -> None:
    assert isinstance(answered.corpus, AnsweredCorpus)
    table = background.answers(answered.corpus)
    assert [row.cells[1].text for row in table.rows] == ["722", "31", "17", "5", "3", "778"]
    assert "Of 778 prompts without answers, held against those of every other split, the teacher answered 722" in told(
        answered
    )
    assert table in sections._corpus(answered).blocks, "where the rows of train are told"
    assert "The texts alone are those with gold answers" in told(answered)
    assert "722 answers of the training texts were written by the teacher" in told(answered)


def test_rows_of_train_and_prompts_stand_among_the_splits(answered: DecoderEvidence) -> None:
    train, *others = background.splits(answered).rows
    assert (train.cells[1].text, train.cells[1].detail) == ("6,400", "722 of them answered by the teacher")
    assert others[-1].cells[0].text == "unlabelled prompts"
    assert others[-1].cells[1].text == "778"
    assert not any(row.cells[1].detail for row in others)


def test_how_the_teacher_answered_is_told() -> None:
    assert background.answering(MADE) == "its likeliest tokens; at most as many tokens as a row has room for"
    drawn = MADE.model_copy(update={"temperature": 0.7, "max_tokens": 1200, "seed": 3})
    assert background.answering(drawn) == "drawn at temperature 0.7, seed 3; at most 1,200 tokens"


def test_without_prompts_nothing_is_said() -> None:
    made = evidence(conversations=True)
    assert "prompts without answers" not in told(made)
    assert "gold answers" not in told(made)
    assert "by the teacher" not in told(made)
