"""What the report says of a language model that missed its gate, and of one that passed it by chance."""

from decoder_report_values import Q4, evidence, quantized
from report_benchmark import metric
from test_decoder_report import card_of, shown_tables, untraced

from edgedistill.decoder_values import DecoderRung, HeldByGate, QuantizedDecoder
from edgedistill.report.decoder import quantization
from edgedistill.report.decoder.sentence import summarise


def repaired() -> QuantizedDecoder:
    """Return that model as the third try of three: the first two miss, and the second came nearer."""
    rungs = (("as the recipe says", 0.31, False), ("table as Q8_0", 0.17, False), ("values as Q8_0", 0.062, True))
    made = quantized()
    return made.model_copy(
        update={
            "repaired": "table, values stored as Q8_0",
            "gate": HeldByGate(max_kl=0.1, max_metric_loss=0.01, kl=metric(0.062), metric_loss=metric(0.011, 0.02)),
            "rungs": tuple(
                DecoderRung(
                    name=name, stored_bytes=38_100_000 + 2_000_000 * place, kl=metric(kl), metric_loss=metric(0.031),
                    passed=passed, kept=True,
                )
                for place, (name, kl, passed) in enumerate(rungs)
            ),
        }
    )  # fmt: skip


def test_a_repaired_model_is_told_with_every_try() -> None:
    plain, made = evidence(), evidence(quantized={"q4_k_m": repaired()})
    shown = quantization.rungs(repaired())
    assert untraced(shown, made) == []
    assert [line.cells[-1].text for line in shown.rows] == ["misses, kept", "misses, kept", "used"]
    assert [line.emphasised for line in shown.rows] == [False, False, True]
    assert [line.cells[1].text for line in shown.rows] == ["0.31", "0.17", "0.062"]
    said = "q4_k_m missed its gate as the recipe had it, and was repaired: table, values stored as Q8_0."
    on_card = "- As the recipe had it, it lost more than was allowed, and was repaired; q4_k_m: table, values stored"
    sentences = [summarise(one, [], Q4).quantization for one in (plain, made)]
    cards = [card_of(one) for one in (plain, made)]
    for without, told, words in ((*sentences, said), (*cards, on_card)):
        assert words in told
        assert words not in without
    assert [table.caption for table in shown_tables(made)].count(shown.caption) == 1
    assert shown.caption not in [table.caption for table in shown_tables(plain)]


def test_a_gate_passed_by_chance_says_so() -> None:
    (cell,) = (line.cells[3] for line in quantization.methods(evidence(quantized={"q4_k_m": repaired()})).rows)
    assert cell.detail == (
        "points of right tokens lost: +1.1 (\N{MINUS SIGN}0.9 to 3.1), which is within chance; 1 allowed, on validation"
    )
    (plain,) = (line.cells[3] for line in quantization.methods(evidence()).rows)
    assert "chance" not in plain.detail
    assert "answers" not in plain.detail


def test_answers_that_are_lost_whole_have_numbers_of_their_own() -> None:
    made = quantized()
    gate = made.gate.model_copy(update={"answer_loss": metric(0.021, 0.03)})
    rungs = tuple(rung.model_copy(update={"answer_loss": metric(0.021, 0.03)}) for rung in repaired().rungs)
    told = quantization.methods(evidence(quantized={"q4_k_m": made.model_copy(update={"gate": gate})}))
    (cell,) = (line.cells[3] for line in told.rows)
    assert (
        "; points of right answers lost: +2.1 (\N{MINUS SIGN}0.9 to 5.1), which is within chance; 1 allowed"
        in cell.detail
    )
    plain, shown = quantization.rungs(repaired()), quantization.rungs(made.model_copy(update={"rungs": rungs}))
    assert [*shown.columns[:3], *shown.columns[4:]] == list(plain.columns)
    for line, before in zip(shown.rows, plain.rows, strict=True):
        assert line.cells[3].text == "+2.1"
        assert (*line.cells[:3], *line.cells[4:]) == before.cells
