"""The model card that a language model's artifact carries as README.md, with the front matter that the hub reads.

As every card it says only what the recipe and the library versions decide: no time, no memory, no machine, no date.
"""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard

from edgedistill.decoder_results import DecoderBenchmark
from edgedistill.decoder_values import (
    AnsweredCorpus,
    DecoderArtifact,
    DecoderFile,
    DecoderQuality,
    DecoderSignals,
    DecoderStudent,
    QuantizedDecoder,
)
from edgedistill.recipe import Recipe
from edgedistill.report.card import eval_result, front_matter
from edgedistill.report.decoder import exact, loading, quantization
from edgedistill.report.decoder.evidence import METRIC, fallen_back
from edgedistill.report.decoder.tables import differences, kept_cell, perplexity_cell
from edgedistill.report.evidence import find, split_title
from edgedistill.report.markdown import plain, table
from edgedistill.report.page import Cell, Table, missing, row
from edgedistill.report.tables import metric_cell
from edgedistill.report.units import count, nats, percent, rounded_count, significant, size, tiny
from edgedistill.values import Corpus, Metric, Teacher

_TEMPLATE = Path(__file__).parents[1] / "templates" / "decoder_card.md.j2"


def model_card(
    recipe: Recipe,
    *,
    corpus: Corpus,
    teacher: Teacher,
    signals: DecoderSignals,
    student: DecoderStudent,
    quantized: Mapping[str, QuantizedDecoder],
    artifact: DecoderArtifact,
    benchmark: DecoderBenchmark,
) -> str:
    """Return the card of one artifact; the same for every build of one recipe with the same versions."""
    task = recipe.task
    context, chat = getattr(task, "max_length"), getattr(task, "conversations")  # noqa: B009 - of this task alone
    shipped = next((file for file in artifact.files if file.name != "float32"), artifact.files[0])
    held = {file.name for file in artifact.files}
    kept = {method: model for method, model in quantized.items() if method in held}
    fallen = [quantization.fallbacks(model) for model in kept.values() if fallen_back(model)]
    card = ModelCard.from_template(
        front_matter(
            recipe, teacher, kind="text-generation", library=artifact.format,
            names=[file.name for file in artifact.files], metrics=["perplexity", "accuracy"],
            results=_results(corpus, artifact, benchmark),
        ),
        template_str=_TEMPLATE.read_text(encoding="utf-8"),
        name=plain(recipe.name),
        version=recipe.version,
        licence=plain(recipe.licence),
        teacher={
            "source": plain(teacher.source),
            "licence": plain(teacher.licence),
            "ran": "" if teacher.gguf is None else ", run as that very file in llama.cpp",
        },
        student={
            "kind": plain(student.kind),
            "parameters": rounded_count(student.parameters),
            "start": plain(student.initialised_from),
        },
        conversations=chat,
        context=count(context),
        train_tokens=count(signals.splits["train"].tokens),
        train_rows=count(signals.splits["train"].rows),
        answered=count(corpus.answers.rows) if isinstance(corpus, AnsweredCorpus) else "",
        held_out=plain(", ".join(split_title(split) for split in benchmark.splits)),
        files=table(_files(artifact, quantized)),
        quality=table(_quality(artifact, benchmark)),
        controls=table(differences(benchmark)) if benchmark.controls else "",
        repaired=[f"{method}: {plain(model.repaired)}" for method, model in kept.items() if model.repaired],
        fallbacks=[(plain(each.caption), table(each)) for each in fallen],
        parity=table(_parity(artifact)),
        hashes=table(_hashes(corpus, teacher, student, artifact)),
        ways=loading.ways(artifact, shipped, context, conversations=chat, system=recipe.data.system),
        shipping=plain(loading.shipping(artifact, shipped)),
    )  # fmt: skip
    return str(card)


def _qualities(artifact: DecoderArtifact, file: DecoderFile, benchmark: DecoderBenchmark) -> dict[str, DecoderQuality]:
    subject = find(benchmark, f"{artifact.format}.{file.name}")
    measured = {} if subject is None else subject.quality
    return {split: measured[split] for split in benchmark.splits if split in measured}


def _results(corpus: Corpus, artifact: DecoderArtifact, benchmark: DecoderBenchmark) -> list[EvalResult]:
    found = []
    for file in artifact.files:
        for split, quality in _qualities(artifact, file, benchmark).items():
            told = [("perplexity", "perplexity", quality.perplexity), ("accuracy", METRIC, quality.accuracy)]
            told += [] if quality.exact_match is None else [("exact_match", quality.metric, quality.exact_match)]
            found += [
                eval_result("text-generation", split, corpus, metric, f"{name}, {file.name}", one.value)
                for metric, name, one in told
            ]
    return found


def _files(artifact: DecoderArtifact, quantized: Mapping[str, QuantizedDecoder]) -> Table:
    rows = [
        row(
            str(file.file),
            file.name,
            size(file.size_bytes),
            significant(file.bits_per_weight),
            _weighed(file, quantized),
        )
        for file in artifact.files
    ]
    beside = row("beside each", ", ".join(sorted(artifact.shared_files)), size(artifact.shared_bytes), "", "")
    return Table("Files", ("File", "Stored as", "Size", "Bits per weight", "Importance matrix"), (*rows, beside))


def _weighed(file: DecoderFile, quantized: Mapping[str, QuantizedDecoder]) -> str:
    model = quantized.get(file.name)
    if model is None or not model.importance_positions:
        return "none"
    return f"{count(model.importance_positions)} calibration tokens"


def _quality(artifact: DecoderArtifact, benchmark: DecoderBenchmark) -> Table:
    columns = (
        "Set", "File", *exact.titles(benchmark), "Perplexity", METRIC.capitalize(), "Kept of the teacher's",
        "KL from the teacher, nats", "KL from the float student, nats",
    )  # fmt: skip
    rows = [
        row(
            split_title(split), file.name, *exact.cells(quality, benchmark), perplexity_cell(quality),
            metric_cell(quality.accuracy),
            kept_cell(quality),
            _divergence(quality.kl_teacher, quality.kl_teacher_p99),
            _divergence(quality.kl_student, quality.kl_student_p99),
        )
        for file in artifact.files
        for split, quality in _qualities(artifact, file, benchmark).items()
    ]  # fmt: skip
    return Table("Quality", columns, tuple(rows))


def _divergence(mean: Metric | None, p99: float | None) -> Cell:
    if mean is None:
        return missing("not compared")
    return Cell(nats(mean.value), "" if p99 is None else f"99th percentile {nats(p99)}")


def _parity(artifact: DecoderArtifact) -> Table:
    columns = ("File", "Weights", "KL from PyTorch, nats", "Same likeliest token", "Same token ids")
    rows = tuple(
        row(
            str(file.file), "bit-equal" if file.parity.weights_bit_equal else "differ", tiny(file.parity.kl),
            f"{percent(file.parity.agreement)} of {count(file.parity.positions)} positions",
            f"{count(file.parity.tokenizer_texts)} texts",
        )
        for file in artifact.files
    )  # fmt: skip
    return Table("Parity", columns, rows)


def _hashes(corpus: Corpus, teacher: Teacher, student: DecoderStudent, artifact: DecoderArtifact) -> Table:
    links = [("teacher's source weights", teacher.source_weights_sha256), ("teacher's weights", teacher.weights_sha256)]
    links += [(f"data: {name}", digest) for name, digest in sorted(corpus.sources.items())]
    links += [("student's weights", student.weights_sha256), ("recipe", artifact.recipe_sha256)]
    links += [(str(file.file), file.sha256) for file in artifact.files]
    return Table("Hashes", ("What", "SHA-256"), tuple(row(what, digest) for what, digest in links))
