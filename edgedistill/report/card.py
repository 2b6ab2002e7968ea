"""The model card that an artifact carries as README.md, with the front matter that the hub reads.

It says only what the recipe and the library versions decide: quality, sizes, hashes, parity. No time, no memory, no
machine and no date, because two builds of one recipe must give the same bytes. What the model was measured to cost
on a device is in the report.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from edgedistill.recipe import Recipe
from edgedistill.report import loading
from edgedistill.report.evidence import control_name, find, never_seen, split_title, what_the_teacher_judges
from edgedistill.report.markdown import plain, table
from edgedistill.report.page import Row, Table, missing, row
from edgedistill.report.sentence import metric_of
from edgedistill.report.tables import change_cell, kept_cell, metric_cell
from edgedistill.report.units import count, percent, rounded_count, share, size, tiny
from edgedistill.results import BenchmarkResult, SplitQuality
from edgedistill.tasks._task import task_of
from edgedistill.values import Artifact, Corpus, Parity, QuantizedModel, Student, Teacher, Variant

_TEMPLATE = Path(__file__).parent / "templates" / "card.md.j2"


def model_card(
    recipe: Recipe,
    *,
    corpus: Corpus,
    teacher: Teacher,
    student: Student,
    quantized: Mapping[str, QuantizedModel],
    artifact: Artifact,
    benchmark: BenchmarkResult,
) -> str:
    """Return the card of one artifact; the same for every build of one recipe with the same versions."""
    shipped = next((v for v in artifact.variants if v.name != "float32"), artifact.variants[0])
    card = ModelCard.from_template(
        _front_matter(recipe, corpus, teacher, artifact, benchmark),
        template_str=_TEMPLATE.read_text(encoding="utf-8"),
        name=plain(recipe.name),
        version=recipe.version,
        licence=plain(recipe.licence),
        task=recipe.task.kind.replace("_", " "),
        teacher={"source": plain(teacher.source), "licence": plain(teacher.licence)},
        student={
            "kind": plain(student.kind),
            "parameters": rounded_count(student.parameters),
            "start": plain(student.initialised_from),
        },
        labels=[plain(label) for label in corpus.labels],
        several=task_of(recipe.task.kind).Options.SEVERAL,
        unseen=[plain(label) for label in never_seen(corpus, teacher)],
        judge=plain(what_the_teacher_judges(corpus, benchmark.splits)),
        cut=plain(_cut(student, metric_of(benchmark))),
        train_rows=count(corpus.splits["train"].rows),
        augmented=count(corpus.augmentation.rows) if corpus.augmentation else None,
        held_out=plain(", ".join(split_title(split) for split in benchmark.splits)),
        ranges=[f"{plain(name)}: {plain(note)}" for name, model in quantized.items() for note in _notes(model)],
        rounded=[plain(name) for name, model in quantized.items() if _rounds_activations(model)],
        files=table(_files(artifact)),
        quality=table(_quality(artifact, benchmark)),
        controls=table(_controls(benchmark)) if benchmark.controls else "",
        parity=table(_parity(artifact)),
        hashes=table(_hashes(corpus, teacher, student, artifact)),
        loading=loading.lines(shipped, recipe.task.kind).strip(),
        transformers_js=loading.transformers_js_lines(shipped, recipe.task.kind).strip(),
        node=loading.node_lines(shipped, recipe.task.kind).strip(),
        libraries=loading.libraries(shipped),
        shipping=plain(loading.shipping(artifact, shipped)),
    )
    return str(card)


def _front_matter(
    recipe: Recipe, corpus: Corpus, teacher: Teacher, artifact: Artifact, benchmark: BenchmarkResult
) -> ModelCardData:
    kind: str = task_of(recipe.task.kind).Options.PIPELINE_TAG
    return front_matter(
        recipe,
        teacher,
        kind=kind,
        library=artifact.format,
        names=[variant.name for variant in artifact.variants],
        metrics=[benchmark.metric_name],
        results=[
            _eval_result(kind, split, quality, variant, benchmark, corpus)
            for variant in artifact.variants
            for split, quality in _splits_of(artifact, variant, benchmark).items()
        ],
    )


def front_matter(
    recipe: Recipe, teacher: Teacher, *, kind: str, library: str, names: Sequence[str], metrics: Sequence[str],
    results: list[EvalResult],
) -> ModelCardData:  # fmt: skip
    """Return what the hub reads of a card.

    Args:
        kind: the hub's word for the task.
        library: what the files are loaded with.
        names: of the model files.
        metrics: names of what was measured.
        results: values of it.
    """
    custom = recipe.licence.startswith("LicenseRef-")
    base_model = None if teacher.revision is None else teacher.source.partition(" at ")[0]  # a hub id, or no id at all
    return ModelCardData(
        model_name=recipe.name,
        license="other" if custom else recipe.licence.lower(),
        license_name=recipe.licence if custom else None,
        base_model=base_model,
        base_model_relation=None if base_model is None else "finetune",  # the hub has no word for distilled
        library_name=library,
        pipeline_tag=kind,
        tags=["edgedistill", "distillation", *names],
        metrics=list(metrics),
        eval_results=results,
    )


def _splits_of(artifact: Artifact, variant: Variant, benchmark: BenchmarkResult) -> dict[str, SplitQuality]:
    subject = find(benchmark, f"{artifact.format}.{variant.name}")
    return {} if subject is None else {split: subject.quality[split] for split in benchmark.splits}


def _eval_result(
    kind: str, split: str, quality: SplitQuality, variant: Variant, benchmark: BenchmarkResult, corpus: Corpus
) -> EvalResult:
    named = f"{metric_of(benchmark)}, {variant.name}"
    return eval_result(kind, split, corpus, benchmark.metric_name, named, quality.metric.value)


def eval_result(kind: str, split: str, corpus: Corpus, metric: str, named: str, value: float) -> EvalResult:
    """Return one number in the hub's words; the data set is told by its content."""
    return EvalResult(
        task_type=kind,
        dataset_type=f"sha256:{corpus.splits[split].sha256[:16]}",
        dataset_name=split_title(split),
        dataset_split="test",
        metric_type=metric,
        metric_name=named,
        metric_value=round(value, 4),
    )


def _cut(student: Student, metric: str) -> str:
    """Return to which lengths the vectors may be cut, and what they are worth then; empty where to none."""
    worth = []
    for one in student.truncations:
        on = ", ".join(f"{share(value)} on {split_title(split)}" for split, value in one.student.items())
        worth.append(f"{count(one.length)} numbers: {on}")
    return f"{metric} of the float student, cut to its first {'; to '.join(worth)}" if worth else ""


def _notes(model: QuantizedModel) -> list[str]:
    """Return what is to be known of how the numbers were made: the codes' range, and what was changed for quality."""
    repaired = f"as the recipe had it, it missed its gate, and was repaired: {model.repaired}"
    return [model.reduced_range_reason, *([repaired] if model.repaired else [])]


def _rounds_activations(model: QuantizedModel) -> bool:
    """Whether a layer of the model multiplies codes, so that its activations are rounded on the fly.

    A table is looked up, never multiplied. It is told by its name, in which every table of today's students has
    `embed`; one of another name would be taken for a layer, and the card would warn without need.
    """
    coded = [tensor.name.removesuffix(".weight") for tensor in model.tensors if tensor.code_limit is not None]
    return any("embed" not in name.rpartition(".")[2] for name in coded)


def _files(artifact: Artifact) -> Table:
    columns = ["File", "Numbers", "Size", "For transformers.js", "Needs"]
    rows = [
        [str(v.file), v.scheme, size(v.size_bytes), loading.transformers_js_options(v), _needs(artifact, v)]
        for v in artifact.variants
    ]
    rows.append(["beside each", ", ".join(sorted(artifact.shared_files)), size(artifact.shared_bytes), "", ""])
    if all(map(loading.on_llama_cpp, artifact.variants)):
        columns, *rows = ([*one[:3], *one[4:]] for one in (columns, *rows))  # transformers.js has no runtime for them
    return Table("Files", tuple(columns), tuple(row(*one) for one in rows))


def _needs(artifact: Artifact, variant: Variant) -> str:
    runtime = "" if variant.oldest_runtime is None else f"{artifact.runtime} {variant.oldest_runtime} or newer; "
    return artifact.runtime if variant.opset is None else f"{runtime}opset {variant.opset}, IR {variant.ir_version}"


def _quality(artifact: Artifact, benchmark: BenchmarkResult) -> Table:
    columns = ["Set"]
    for variant in artifact.variants:
        columns += [f"{metric_of(benchmark)}, {variant.name}", f"kept of the teacher, {variant.name}"]
    rows = []
    for split in benchmark.splits:
        cells = []
        for variant in artifact.variants:
            quality = _splits_of(artifact, variant, benchmark).get(split)
            cells += [missing("not measured") if quality is None else metric_cell(quality.metric), kept_cell(quality)]
        rows.append(row(split_title(split), *cells))
    return Table("Quality", tuple(columns), tuple(rows))


def _controls(benchmark: BenchmarkResult) -> Table:
    rows: list[Row] = []
    for comparison in benchmark.controls:
        test = change_cell(comparison.differences.get("test"))
        rows.append(row(control_name(comparison), test, change_cell(comparison.mean)))
    columns = ("The float student minus", "test, percentage points", "mean of sets, percentage points")
    return Table("Controls", columns, tuple(rows))


def _otherwise(parity: Parity) -> str:
    """Return how many texts this runtime is known to read otherwise, and did."""
    return f", {count(len(parity.read_otherwise))} read otherwise, as known" if parity.read_otherwise else ""


def _parity(artifact: Artifact) -> Table:
    columns = ("File", "Exact: largest difference", "As deployed", "Same answer", "Same token ids")
    rows = tuple(
        row(
            str(v.file),
            tiny(v.parity.exact.max_abs_diff),
            tiny(v.parity.deployed.max_abs_diff),
            f"{percent(v.parity.deployed.top1_agreement)} of {count(v.parity.deployed.inputs)} inputs",
            f"{count(v.parity.tokenizer_texts)} texts{_otherwise(v.parity)}",
        )
        for v in artifact.variants
    )
    return Table("Parity", columns, rows)


def _hashes(corpus: Corpus, teacher: Teacher, student: Student, artifact: Artifact) -> Table:
    links = [("teacher's source weights", teacher.source_weights_sha256), ("teacher's weights", teacher.weights_sha256)]
    links += [(f"data: {name}", digest) for name, digest in sorted(corpus.sources.items())]
    links += [("student's weights", student.weights_sha256), ("recipe", artifact.recipe_sha256)]
    links += [(str(variant.file), variant.sha256) for variant in artifact.variants]
    return Table("Hashes", ("What", "SHA-256"), tuple(row(what, digest) for what, digest in links))
