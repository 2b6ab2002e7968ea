"""What trimming the vocabulary did: which texts are read as before, how much longer they are, what that costs.

A perplexity is for each token, so those of two vocabularies cannot be compared; a loss for each byte can.
"""

from edgedistill.decoder_values import CachedLogits, DecoderTokens, WholeVocabulary
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.report.evidence import split_title
from edgedistill.report.page import Cell, Table, missing, row
from edgedistill.report.units import count, nats, percent, significant


def lead(evidence: DecoderEvidence) -> str:
    """Say in which tokens everything on the page is measured, and what becomes of the others; empty without such."""
    tokens, whole = evidence.tokens, evidence.signals.whole
    if tokens is None or whole is None:
        return ""
    moved = percent(evidence.signals.logits["train"].moved_mass)
    return (
        f" The student keeps {count(tokens.vocabulary)} of the teacher's {count(tokens.whole_vocabulary)} tokens. "
        "Losses and perplexities on this page are for each kept token, the teacher's too: it reads the student's rows, "
        f"and the probability that it gives to dropped tokens ({moved} of it, in training rows) is counted for the "
        "pieces that these begin with."
    )


def pace(evidence: DecoderEvidence) -> str:
    """Say that a token of the student's is less text than one of the teacher's; empty where it is not."""
    if evidence.tokens is None:
        return ""
    split = evidence.tokens.splits["test"]
    more = percent(split.tokens / max(split.whole_tokens, 1) - 1)
    return (
        f" All read the same tokens here, the teacher too; of the test texts the student reads {more} more tokens than "
        "the teacher does in its own."
    )


def tables(evidence: DecoderEvidence) -> list[Table]:
    """Return how texts are read, and what that costs the teacher; nothing where every token is kept."""
    tokens, whole = evidence.tokens, evidence.signals.whole
    return [] if tokens is None or whole is None else [_reading(tokens, evidence.signals.logits), _cost(whole)]


def _reading(tokens: DecoderTokens, logits: dict[str, CachedLogits]) -> Table:
    columns = (
        "Split", "Tokens", "In the teacher's", "More", "Of the teacher's, dropped", "Passages read as before",
        "Proven to be", "Teacher's probability moved",
    )  # fmt: skip
    rows = tuple(
        row(
            split_title(name),
            count(split.tokens),
            count(split.whole_tokens),
            percent(split.tokens / max(split.whole_tokens, 1) - 1),
            percent(split.dropped_tokens / max(split.whole_tokens, 1)),
            f"{count(split.identical_passages)} of {count(split.passages)}",
            Cell(count(split.proven_passages), "they need only kept tokens"),
            Cell(percent(logits[name].moved_mass))
            if name in logits
            else missing("only what the student learns from is counted"),
        )
        for name, split in tokens.splits.items()
    )
    kept = f"{count(tokens.vocabulary)} of {count(tokens.whole_vocabulary)} tokens"
    return Table(f"The student's vocabulary: {kept} of the teacher's tokenizer", columns, rows)


def _cost(whole: WholeVocabulary) -> Table:
    columns = ("Set", "Bytes", "In its own tokens", "In kept tokens", "Costs")
    rows = tuple(
        row(
            split_title(name),
            count(reading.bytes),
            Cell(significant(reading.whole_loss.value), f"{count(reading.whole_tokens)} tokens"),
            Cell(significant(reading.loss.value), f"{count(reading.tokens)} tokens"),
            Cell(nats(reading.difference.value), f"{nats(reading.difference.low)} to {nats(reading.difference.high)}"),
        )
        for name, reading in whole.readings.items()
    )
    return Table(
        "What reading in kept tokens costs the teacher: its loss on the same text, in nats a byte", columns, rows
    )
