"""Tables of how a language model came to be: what was read, what is kept of the teacher, training, parity, hashes."""

from collections.abc import Iterator

from edgedistill.decoder_values import AnsweredCorpus, Answers, DecoderStart, gold_rows
from edgedistill.report.background import NOISE, chain, noise_cells, trained
from edgedistill.report.decoder.evidence import DecoderEvidence
from edgedistill.report.evidence import name_of, reference, split_title
from edgedistill.report.page import Cell, Row, Table, missing, row
from edgedistill.report.units import count, duration, nats, percent, rounded_count, significant, size, tiny
from edgedistill.values import Split

_WAYS = {
    "sampled": "tokens drawn from it, with how often each was",
    "top_k": "the likeliest tokens, and one entry for the rest",
    "dense": "every token",
}


def splits(evidence: DecoderEvidence) -> Table:
    """Rows and tokens of every split, and what was taken out of it."""
    corpus, read = evidence.corpus, evidence.signals.splits
    columns = (
        "Split", "Texts", "Rows read", "Tokens read", "Tokens that count", "Exact duplicates", "Near duplicates",
        "Empty",
    )  # fmt: skip
    rows = []
    for name in ("train", "validation", "calibration", *corpus.evaluation_splits):
        own, seen = corpus.splits.get(name), read.get(name)
        if own is None:
            continue
        unread = missing("the teacher did not read it")
        cells = [unread] * 3 if seen is None else [Cell(count(n)) for n in (seen.rows, seen.tokens, seen.positions)]
        rows.append(row(split_title(name), _texts(evidence, name, own), *cells, *_removed(own)))
    if corpus.prompts is not None:
        unread = missing("those that were answered are rows of train")
        rows.append(row("unlabelled prompts", count(corpus.prompts.rows), *[unread] * 3, *_removed(corpus.prompts)))
    return Table("Splits as the teacher reads them, and texts removed", columns, tuple(rows))


def _texts(evidence: DecoderEvidence, name: str, split: Split) -> Cell:
    """Say how many texts a split has, and of how many the teacher said a part."""
    said = split.rows - gold_rows(evidence.corpus) if name == "train" else 0
    return Cell(count(split.rows), f"{count(said)} of them answered by the teacher" if said else "")


def answers(corpus: AnsweredCorpus) -> Table:
    """What became of the prompts that the teacher was to answer."""
    made = corpus.answers
    rows = (
        row("answered: in train now", count(made.rows), f"{count(made.tokens)} tokens of answers"),
        row("left out, prompt too long", count(made.too_long), "it leaves no room for an answer in a row"),
        row("left out, cut off", count(made.cut_off), "no end within the most tokens of an answer, or of a row"),
        row("left out, empty", count(made.empty), "white space alone"),
        row("left out, unreadable", count(made.unreadable), "special tokens in it, or bytes that are no character"),
        row("prompts", count(made.prompts), answering(made)),
    )
    return Table("Prompts that the teacher answered", ("Prompts", "Rows", "That is"), rows)


def answering(made: Answers) -> str:
    """Say how the teacher answered."""
    most = "as many tokens as a row has room for" if made.max_tokens is None else f"{count(made.max_tokens)} tokens"
    how = f"drawn at temperature {made.temperature:g}, seed {made.seed}" if made.temperature else "its likeliest tokens"
    return f"{how}; at most {most}"


def _removed(split: Split) -> tuple[str, str, str]:
    return (
        count(split.exact_duplicates_removed), count(split.near_duplicates_removed), count(split.empty_rows_removed)
    )  # fmt: skip


def cached(evidence: DecoderEvidence) -> Table:
    """What is kept of the teacher's distribution at each position that the student learns from."""
    signals = evidence.signals
    dense_bytes = 2 * signals.vocabulary
    rows = []
    for name, kept in signals.logits.items():
        positions = signals.splits[name].positions
        rows.append(
            row(
                split_title(name),
                Cell(kept.way.replace("_", " "), _WAYS.get(kept.way, "")),
                count(positions),
                Cell(f"{significant(kept.bytes_per_position)} bytes", f"every token in float16: {count(dense_bytes)}"),
                size(kept.bytes_per_position * positions),
            )
        )
    columns = ("Split", "Kept of each distribution", "Positions", "A position", "In all")
    return Table("The teacher's logits, as the student learns from them", columns, tuple(rows))


def models(evidence: DecoderEvidence) -> Table:
    """The teacher and the student, side by side."""
    teacher, student, signals = evidence.teacher, evidence.student, evidence.signals
    fitted = "used as it came" if teacher.fit is None else f"fitted ({teacher.fit_method}), {trained(teacher.fit)}"
    read = sum(split.tokens for split in signals.splits.values())
    whole = signals.vocabulary if signals.whole is None else signals.whole.size
    own = "the teacher's" if signals.whole is None else f"{count(signals.vocabulary)} of them"
    rows = (
        row("From", teacher.source, student.initialised_from),
        row("Kind", teacher.kind.replace("_", " "), student.kind.replace("_", " ")),
        *([row("Begun with", "its own weights", _begun(evidence.start))] if evidence.start is not None else []),
        row("Parameters", rounded_count(teacher.parameters), rounded_count(student.parameters)),
        row("Weights, as trained", _weights(evidence), size(student.weights_bytes)),
        row("Training", fitted, trained(student.training)),
        row("Reads the texts", f"once: {count(read)} tokens in {duration(signals.seconds)}", "as cached token ids"),
        row("Vocabulary", f"{count(whole)} tokens", own),
        row("Licence", teacher.licence, evidence.recipe.licence),
    )
    return Table("Teacher and student", ("", "Teacher", "Student"), rows)


def _weights(evidence: DecoderEvidence) -> Cell:
    """Return how large the teacher's weights are, and where a file was run as it is, in which types."""
    teacher = evidence.teacher
    if teacher.gguf is None:
        return Cell(size(teacher.weights_bytes))
    bits = significant(8 * teacher.weights_bytes / teacher.parameters)
    return Cell(size(teacher.weights_bytes), f"{reference(evidence.benchmark).scheme}, {bits} bits a weight, untouched")


def _begun(start: DecoderStart) -> str:
    """Say what was settled before the student learned."""
    told = []
    if start.unpacked is not None:
        told.append(
            f"the teacher's weights as floats, {nats(start.unpacked.kl)} nats from the file in llama.cpp at "
            f"{count(start.unpacked.positions)} positions"
        )
    if start.start is not None:
        told.append(
            f"weights under {start.start.licence}; {count(start.compared_texts)} texts read as the teacher's ids"
        )
    if start.calibration_tokens:
        told.append(
            f"importance on {count(start.calibration_tokens)} tokens of calibration, in {duration(start.seconds)}"
        )
    if start.layers:
        first, last = start.layer_losses[0], start.layer_losses[-1]
        told.append(
            f"layers {', '.join(map(str, start.layers))} stay, by the loss without the others: {nats(first)} nats a "
            f"token with all, {nats(last)} with these, before training"
        )
    return "; ".join(told)


def parity(evidence: DecoderEvidence) -> Table:
    """The proof that export changed no number, one row for each file, the teacher's among them."""
    columns = (
        "File", "Size", "Bits per weight", "Weights", "KL from PyTorch, nats", "Allowed", "Same likeliest token",
        "Where it leads by 1 logit", "Allowed", "Same token ids", "Conversations",
    )  # fmt: skip
    return Table("Parity of every file with its checkpoint", columns, tuple(_parity_rows(evidence)))


def _parity_rows(evidence: DecoderEvidence) -> Iterator[Row]:
    files = [(name, file) for name, _, file in evidence.variants()]
    apart = {f"teacher.{name} (not shipped)": artifact.teacher for name, artifact in evidence.artifacts.items()}
    files += [(name, file) for name, file in apart.items() if file is not None]
    for name, file in files:
        proof = file.parity
        conversations = (
            Cell(count(proof.conversations)) if proof.conversations else missing("the model has no chat template")
        )
        yield row(
            name, size(file.size_bytes), significant(file.bits_per_weight),
            Cell("bit-equal", tone="good") if proof.weights_bit_equal else Cell("differ", tone="bad"),
            Cell(tiny(proof.kl), f"{count(proof.positions)} positions", tone=_within(proof.kl <= proof.kl_limit)),
            tiny(proof.kl_limit), percent(proof.agreement),
            Cell(percent(proof.sure_agreement), tone=_within(proof.sure_agreement >= proof.sure_limit)),
            f"at least {percent(proof.sure_limit)}", f"{count(proof.tokenizer_texts)} texts", conversations,
        )  # fmt: skip


def _within(kept: bool) -> str:
    return "" if kept else "bad"


def noise(evidence: DecoderEvidence) -> Table:
    """What else the machine did while each model was measured."""
    rows = tuple(
        row(name_of(subject), *noise_cells(subject), f"{subject.threads}") for subject in evidence.benchmark.subjects
    )
    return Table("Noise while measuring", ("Model", *NOISE, "Threads, as the runtime says"), rows)


def provenance(evidence: DecoderEvidence) -> Table:
    """The chain of hashes from the teacher's source to the shipped files."""
    teacher, student, signals, corpus = evidence.teacher, evidence.student, evidence.signals, evidence.corpus
    links = [
        ("teacher's source", teacher.source, teacher.source_weights_sha256, teacher.folder.name),
        ("teacher", "as it was distilled from", teacher.weights_sha256, teacher.folder.name),
    ]
    links += [("data", name, digest, corpus.folder.name) for name, digest in corpus.sources.items()]
    links += [
        (
            "tokenizer",
            "of teacher and student" if signals.whole is None else "of the student",
            signals.tokenizer_sha256,
            signals.folder.name,
        ),
        ("student", student.kind.replace("_", " "), student.weights_sha256, student.folder.name),
    ]
    links += [
        ("quantized", method, model.weights_sha256, model.folder.name) for method, model in evidence.quantized.items()
    ]
    links += [
        ("file", f"{name}: {file.file}", file.sha256, artifact.folder.name)
        for name, artifact, file in evidence.variants()
    ]
    links += [
        ("recipe", f"sections that decide the {one.format} files", one.recipe_sha256, one.folder.name)
        for one in evidence.artifacts.values()
    ]
    return chain(links)
