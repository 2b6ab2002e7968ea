"""The sections of the page, in the order in which a reader's questions come."""

from collections.abc import Sequence
from functools import partial

from edgedistill.report import background, charts, loading, quantization, tables
from edgedistill.report.baselines import baselines
from edgedistill.report.evidence import Evidence, candidates, find, never_seen, reasons, split_title
from edgedistill.report.page import Chart, Code, Section, Table
from edgedistill.report.sentence import metric_of
from edgedistill.report.units import count, duration, listed, size
from edgedistill.results import BenchmarkResult, BudgetLine
from edgedistill.values import StageValue


def sections(evidence: Evidence, lines: Sequence[BudgetLine], recommended: str | None) -> tuple[Section, ...]:
    """Return every section that this build has something to say in."""
    return (
        _waterfall(evidence, recommended),
        _performance(evidence, recommended),
        _controls(evidence),
        _sets(evidence, recommended),
        *([_budget(evidence, lines)] if len({line.subject for line in lines}) > 1 else []),
        _training(evidence),
        *([_quantization(evidence)] if evidence.quantized else []),
        _parity(evidence),
        _corpus(evidence),
        _environment(evidence),
        _provenance(evidence),
        *_loading(evidence, recommended),
    )


def _waterfall(evidence: Evidence, recommended: str | None) -> Section:
    benchmark = evidence.benchmark
    name = recommended or ""
    return Section(
        "waterfall",
        "Where the quality went",
        "Each stage against the one before it, on the same texts. Distillation changes behaviour, quantization changes "
        "the numbers, export changes only the layout. A grey number's interval holds zero: no change was measured.",
        _drawn(charts.waterfall(benchmark, name), charts.cost_by_split(benchmark, name)),
        (tables.waterfall(benchmark, recommended),),
        (benchmark.folder.name,),
    )


def _performance(evidence: Evidence, recommended: str | None) -> Section:
    benchmark = evidence.benchmark
    lead = (
        f"{benchmark.rounds} rounds, teacher and artifacts in turn, each in a fresh process with "
        f"{benchmark.environment.threads} thread(s). Times include the tokenizer. A speed is the median over rounds of "
        "the teacher's p50 over the model's own, with the smallest and the largest round below it; the p90 stands with "
        "its 99 % interval, widened to hold each round's own p90. Calls follow each other back to back; spaced calls "
        "come after idle time each, as in an app. Peak memory is the high-water mark of a process that runs this one "
        "model; MB are 10⁶ bytes."
    )
    if benchmark.environment.emulated:
        lead += f" The target {benchmark.environment.target} is emulated: these are not the device's own times."
    if not benchmark.validity.valid:
        doubtful = "No number here is" if benchmark.validity.wrong else "Times are not"
        lead = f"{doubtful} valid: {reasons(benchmark.validity)}. {lead}"
    against = partial(charts.quality_against, benchmark)
    latency = against(
        "quality-latency", f"Quality against time{tables.emulated(benchmark)}", charts.latency_of, duration
    )
    weight = against("quality-size", "Quality against size", lambda subject: subject.model_bytes, size)
    return Section(
        "performance",
        "Size, speed, memory",
        lead,
        _drawn(latency, weight, charts.latencies(benchmark)),
        (tables.results(benchmark, recommended), *_against_float(benchmark), tables.workloads(benchmark)),
        (benchmark.folder.name,),
    )


def _against_float(benchmark: BenchmarkResult) -> tuple[Table, ...]:
    table = tables.against_float(benchmark)
    return (table,) if table.rows else ()


def _controls(evidence: Evidence) -> Section:
    benchmark, controls = evidence.benchmark, evidence.controls
    lead = (
        "What the teacher was worth: the same student without it, and a cheap model that needs no network at all. "
        "Only a difference whose interval lies above zero says that the student is better."
    )
    if controls.skipped:
        lead = f"Not every control ran: {controls.skipped}. {lead}"
    shown: tuple[Table, ...] = (tables.controls(benchmark),) if benchmark.controls else ()
    shown += (tables.seeds(benchmark),) if benchmark.seeds else ()
    described = baselines(evidence)
    blocks = (*shown, described) if described.rows else shown
    return Section("controls", "Controls", lead, (), blocks, (controls.folder.name, benchmark.folder.name))


def _sets(evidence: Evidence, recommended: str | None) -> Section:
    benchmark = evidence.benchmark
    first = [subject for subject in benchmark.subjects if subject.name == recommended]
    others = [subject for subject in benchmark.subjects if subject.role == "artifact" and subject.name != recommended]
    shown = [tables.sets(benchmark, subject) for subject in first]
    shown += [tables.folded(tables.sets(benchmark, subject)) for subject in others]
    return Section(
        "sets",
        "Every held-out set",
        "Measured through each artifact's own runtime, on texts that nothing was trained or chosen on. Kept is the "
        "artifact's metric over the teacher's on the same texts. Two models agree on a text by this: "
        f"{benchmark.agreement_name}; a flip is a text on which they do not.",
        (),
        tuple(shown),
        (benchmark.folder.name,),
    )


def _budget(evidence: Evidence, lines: Sequence[BudgetLine]) -> Section:
    lead = (
        "PASS where the whole interval keeps the promise, FAIL where all of it breaks it, INCONCLUSIVE between. "
        "The artifact with the best verdict is put forward, the smallest file among equals."
    )
    shown = (tables.budget(lines, evidence.benchmark),)
    return Section("budget", "Budget, every artifact", lead, (), shown, (evidence.benchmark.folder.name,))


def _training(evidence: Evidence) -> Section:
    student, tokens, search, metric = evidence.student, evidence.tokens, evidence.search, metric_of(evidence.benchmark)
    blocks = [background.models(evidence)] + ([] if tokens.as_teacher else [background.vocabulary(tokens)])
    blocks += [background.preflight(student.preflight, student.spread)] if student.preflight else []
    blocks += [background.truncations(student, metric)] if student.truncations else []
    values: list[StageValue] = [evidence.teacher, evidence.signals, tokens, student]
    lead = "The teacher read every text once; the student then learned from its kept answers."
    if search is not None:
        lead = f"{lead} {background.choice(search)}"
        blocks.append(background.trials(search, metric))
        values.append(search)
    return Section(
        "distillation",
        "Distillation",
        " ".join([lead, *(f"To think over: {warning}." for warning in student.size_warnings)]),
        _drawn(charts.training_curve(student.training, metric)),
        tuple(blocks),
        tuple(value.folder.name for value in values),
    )


def _quantization(evidence: Evidence) -> Section:
    blocks: list[Table] = []
    reasons = []
    for method, model in evidence.quantized.items():
        blocks += [quantization.rungs(model, evidence.benchmark)] if model.rungs else []
        blocks += [background.schemes(model)]
        blocks += [quantization.sensitivity(model, evidence.benchmark)] if model.sensitivity else []
        blocks += [background.tensors(model)]
        used = "a reduced range of codes" if model.reduced_range else "the full range of codes"
        reasons.append(f"{method} uses {used}: {model.reduced_range_reason.rstrip('.')}.")
        reasons += [f"It was repaired to pass its gate: {model.repaired}."] if model.repaired else []
    lead = "Every stored number is decided here; export only lays them out. " + " ".join(reasons)
    folders = tuple(model.folder.name for model in evidence.quantized.values())
    drawn = _drawn(*(charts.sensitivity(model) for model in evidence.quantized.values()))
    return Section("quantization", "Quantization", lead, drawn, (background.simulated(evidence), *blocks), folders)


def _parity(evidence: Evidence) -> Section:
    lead = (
        "Exact: graph optimizations off, must agree with the checkpoint to float rounding, or the build fails. As "
        "deployed: the runtime's default session, which may round activations in its own way; a measurement."
    )
    folders = tuple(artifact.folder.name for artifact in evidence.artifacts.values())
    return Section("parity", "Export and parity", lead, (), (background.parity(evidence),), folders)


def _corpus(evidence: Evidence) -> Section:
    corpus = evidence.corpus
    named = f"{len(corpus.labels)} labels: {', '.join(corpus.labels)}" if corpus.labels else "No labels"
    lead = f"{named}. Nearly the same text means: {corpus.near_duplicate_rule.rstrip('.')}."
    unseen = never_seen(corpus, evidence.teacher)
    if unseen:
        lead += f" No text of train has {listed([repr(label) for label in unseen])}: no model here has learned it."
    searched = {split_title(name): split.documents for name, split in corpus.splits.items() if split.documents}
    for name, documents in searched.items():
        lead += f" {name.capitalize()} holds {count(documents)} documents to search among; its other rows are queries."
    shown = [background.splits(corpus), background.overlaps(corpus)]
    if corpus.augmentation is not None:
        shown.append(background.augmentation(corpus.augmentation))
    return Section("corpus", "Corpus", lead, (), tuple(shown), (corpus.folder.name,))


def _environment(evidence: Evidence) -> Section:
    benchmark = evidence.benchmark
    state = "The benchmark found its own measurements valid." if benchmark.validity.valid else "Not valid:"
    lead = " ".join([state, *(f"{reason.rstrip('.')}." for reason in benchmark.validity.reasons)])
    shown = (background.machine(benchmark.environment), background.noise(benchmark))
    return Section("environment", "Environment, noise, validity", lead, (), shown, (benchmark.folder.name,))


def _provenance(evidence: Evidence) -> Section:
    lead = (
        "Each number on this page comes from the result.json of the stage folder named under its section; report.json "
        "holds them all."
    )
    folders = tuple(value.folder.name for value in evidence.stage_values().values())
    return Section("provenance", "Provenance", lead, (), (background.provenance(evidence),), folders)


def _loading(evidence: Evidence, recommended: str | None) -> list[Section]:
    """Return how to load the artifact put forward, or the first there is."""
    subject = find(evidence.benchmark, recommended) or next(iter(candidates(evidence.benchmark)), None)
    found = [(artifact, variant) for name, artifact, variant in evidence.variants() if subject and name == subject.name]
    return [
        Section(
            "loading",
            "Load it",
            f"In the artifact's folder ({artifact.root}), with {loading.libraries(variant)}. "
            f"{loading.shipping(artifact, variant)}",
            (),
            (Code(loading.lines(variant, evidence.recipe.task.kind)),),
            (artifact.folder.name,),
        )
        for artifact, variant in found
    ]


def _drawn(*found: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in found if chart is not None)
