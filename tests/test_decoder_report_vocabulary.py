"""What the report of a language model says of dropped tokens: in which tokens all is measured, and what that costs."""

from pathlib import PurePosixPath

import pytest
from decoder_report_values import evidence, interval

from edgedistill.decoder_values import DecoderTokens, DecoderTokenSplit, OwnReading, WholeVocabulary
from edgedistill.report.decoder import background, vocabulary
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.report.decoder.sections import sections

SPLIT = DecoderTokenSplit(
    texts=21, tokens=11_500, whole_tokens=10_000, dropped_tokens=300, passages=680, proven_passages=430,
    identical_passages=433,
)  # fmt: skip


@pytest.fixture(scope="module")
def trimmed() -> DecoderEvidence:
    plain = evidence()
    place = PurePosixPath("x")
    tokens = DecoderTokens(
        checkpoint=place, base=None, kept=place, first=place, vocabulary=16_384, whole_vocabulary=49_152,
        seen_in_train=22_434, parameters=115_600_000, tokenizer_sha256="0" * 64, splits={"train": SPLIT, "test": SPLIT},
    )  # fmt: skip
    reading = OwnReading(
        bytes=50_000, tokens=11_000, whole_tokens=9_800, loss=interval(0.8123, 0.79, 0.83),
        whole_loss=interval(0.7511, 0.73, 0.77), difference=interval(0.0612, 0.0581, 0.0655),
    )  # fmt: skip
    logits = {name: one.model_copy(update={"moved_mass": 0.0234}) for name, one in plain.signals.logits.items()}
    whole = WholeVocabulary(size=49_152, kept=place, first=place, readings={"test": reading})
    signals = plain.signals.model_copy(update={"whole": whole, "logits": logits, "vocabulary": 16_384})
    return evidence(signals=signals, tokens=tokens)


def text_of(made: DecoderEvidence) -> str:
    told = sections(made, [], None)
    cells = [
        f"{cell.text} {cell.detail}" for section in told for block in section.blocks
        for row in getattr(block, "rows", ()) for cell in row.cells
    ]  # fmt: skip
    return "\n".join([*(section.lead for section in told), *cells])


def test_every_number_of_the_trimming_is_told(trimmed: DecoderEvidence) -> None:
    said = text_of(trimmed)
    for number in ("16,384 of the teacher's 49,152 tokens", "2.3 %", "433 of 680", "430 they need only kept tokens",
                   "15.0 %", "3.0 %", "0.751 9,800 tokens", "0.812 11,000 tokens", "0.061 0.058 to 0.066"):  # fmt: skip
        assert number in said, number
    assert "for each kept token, the teacher's too" in said
    assert "the student reads 15.0 % more tokens" in said


def test_teacher_and_student_have_their_own_vocabularies(trimmed: DecoderEvidence) -> None:
    (line,) = (row for row in background.models(trimmed).rows if row.cells[0].text == "Vocabulary")
    assert [cell.text for cell in line.cells[1:]] == ["49,152 tokens", "16,384 of them"]
    assert "tokens" in trimmed.stage_values()
    assert "of the student" in [cell.text for row in background.provenance(trimmed).rows for cell in row.cells]


def test_where_every_token_is_kept_nothing_is_said() -> None:
    plain = evidence()
    assert vocabulary.lead(plain) == ""
    assert vocabulary.tables(plain) == []
    assert "kept token" not in text_of(plain)
    assert "tokens" not in plain.stage_values()
