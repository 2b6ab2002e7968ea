"""The sections of a language model's page, in the order in which a reader's questions come."""

from collections.abc import Iterator, Sequence

from edgedistill.decoder_results import DecoderBenchmark, DecoderSubject
from edgedistill.decoder_values import AnsweredCorpus
from edgedistill.report import background as shared
from edgedistill.report import charts as shared_charts
from edgedistill.report.decoder import background, charts, exact, loading, quantization, tables, vocabulary
from edgedistill.report.decoder.evidence import METRIC, DecoderEvidence, fallen_back
from edgedistill.report.evidence import candidates, find, name_of, reasons, reference, split_title
from edgedistill.report.page import Chart, Code, Section, Table
from edgedistill.report.tables import budget, emulated
from edgedistill.report.units import count, duration, listed, size
from edgedistill.results import BudgetLine


def sections(evidence: DecoderEvidence, lines: Sequence[BudgetLine], recommended: str | None) -> tuple[Section, ...]:
    """Return every section that this build has something to say in."""
    return (
        _waterfall(evidence, recommended),
        _performance(evidence, recommended),
        _sets(evidence, recommended),
        *([_quantization(evidence)] if evidence.quantized else []),
        *_flips(evidence, recommended),
        _controls(evidence),
        *([_budget(evidence, lines)] if len({line.subject for line in lines}) > 1 else []),
        _training(evidence),
        _parity(evidence),
        _corpus(evidence),
        _environment(evidence),
        _provenance(evidence),
        *_loading(evidence, recommended),
    )


def _waterfall(evidence: DecoderEvidence, recommended: str | None) -> Section:
    benchmark = evidence.benchmark
    name = recommended or ""
    lead = (
        "The mean loss, in nats a token, is the logarithm of the perplexity. Each stage against the one before it, on "
        "the same positions: distillation changes behaviour, quantization changes the numbers, export changes the "
        "runtime, which may round activations. A grey number's interval holds zero: no change was measured."
    )
    drawn = _drawn(charts.waterfall(benchmark, name), charts.cost_by_split(benchmark, name))
    answers = [exact.waterfall(benchmark, recommended)] if benchmark.conversations else []
    blocks = (*answers, tables.waterfall(benchmark, recommended), tables.path(evidence))
    return Section("waterfall", "Where the likelihood went", lead, drawn, blocks, (benchmark.folder.name,))


def _performance(evidence: DecoderEvidence, recommended: str | None) -> Section:
    benchmark = evidence.benchmark
    lead = (
        f"{benchmark.rounds} rounds, every model in turn, each in a fresh process with "
        f"{benchmark.environment.threads} thread(s). Prefill reads a prompt in one go; decoding reads one token after "
        "another, with all before it in the KV cache; the first token's time includes the tokenizer. What follows is "
        "given and not drawn, so every model does the same work. A ratio is the median over rounds of the teacher's "
        "time over the model's own: of p50, and in decoding of the mean, as tokens per second are. Peak memory is the "
        f"high-water mark of a process that runs this one model; MB are 10⁶ bytes.{vocabulary.pace(evidence)}"
    )
    if benchmark.environment.emulated:
        lead += f" The target {benchmark.environment.target} is emulated: these are not the device's own times."
    if not benchmark.validity.valid:
        doubtful = "No number here is" if benchmark.validity.wrong else "Times are not"
        lead = f"{doubtful} valid: {reasons(benchmark.validity)}. {lead}"
    time = f"Quality against time per token{emulated(benchmark)}"
    drawn = _drawn(
        charts.quality_against(benchmark, "quality-time", time, lambda one: one.decode.tpot.p50_s, duration),
        charts.quality_against(benchmark, "quality-size", "Quality against size", lambda one: one.model_bytes, size),
    )
    blocks = (tables.results(evidence, recommended), tables.against_others(benchmark), tables.times(benchmark))
    return Section("performance", "Size, speed, memory", lead, drawn, blocks, (benchmark.folder.name,))


def _sets(evidence: DecoderEvidence, recommended: str | None) -> Section:
    benchmark = evidence.benchmark
    shown = [
        tables.sets(benchmark, subject, folded=subject.name != recommended)
        for subject in _artifacts(evidence, recommended)
    ]
    lead = (
        "Measured through each file's own runtime, on text that nothing was trained or chosen on; intervals are over "
        f"rows, which are drawn whole. Kept is the file's {evidence.metric} over the teacher's on the same rows. KL is "
        "the mean divergence of the file's distribution over the whole vocabulary, in nats a token."
        f"{_of_codes(evidence)}"
    )
    return Section("sets", "Every held-out set", lead, (), tuple(shown), (benchmark.folder.name,))


def _of_codes(evidence: DecoderEvidence) -> str:
    """Say what the teacher's numbers are of, where that is a file and not its floats; empty for a checkpoint."""
    alike = evidence.signals.read_alike
    if evidence.teacher.gguf is None or alike is None:
        return ""
    return (
        f" The teacher taught as the GGUF file that it is ({reference(evidence.benchmark).scheme}), in llama.cpp: its "
        "numbers are those of the quantized file, with activations that llama.cpp rounds to 8 bits where it multiplies "
        "them with codes, and not those of the model that the file was made of. llama.cpp reads "
        f"{count(alike.corpus_texts + alike.odd_texts)} texts as the very ids that the tokenizer makes of them."
    )


def _artifacts(evidence: DecoderEvidence, recommended: str | None) -> list[DecoderSubject]:
    """Return every artifact, the one put forward first."""
    artifacts = [subject for subject in evidence.benchmark.subjects if subject.role == "artifact"]
    return sorted(artifacts, key=lambda subject: subject.name != recommended)


def _quantization(evidence: DecoderEvidence) -> Section:
    blocks: list[Table] = [quantization.methods(evidence)]
    for model in evidence.quantized.values():
        blocks += [quantization.rungs(model)] if model.repaired else []
        blocks += [quantization.types(model)]
        blocks += [quantization.fallbacks(model)] if fallen_back(model) else []
        blocks += [quantization.tensors(model)]
    whole = [method for method, model in evidence.quantized.items() if not fallen_back(model)]
    lead = (
        "Every stored number is decided here, in its runtime's types; export only lays them out. Weights alone: the "
        "rounded weights in PyTorch, activations as they are. As deployed: the file in its runtime, which rounds "
        "activations, too, while it multiplies."
    )
    lead += f" In {listed(whole)} every tensor is stored as the scheme has it." if whole else ""
    folders = (*(model.folder.name for model in evidence.quantized.values()), evidence.benchmark.folder.name)
    return Section("quantization", "Quantization", lead, (), tuple(blocks), folders)


def _flips(evidence: DecoderEvidence, recommended: str | None) -> list[Section]:
    """Return where the file that is put forward says another token than the float student."""
    benchmark = evidence.benchmark
    subject = find(benchmark, recommended)
    if subject is None or "test" not in subject.flips:
        return []
    shown = tuple(tables.flips(subject, split) for split in subject.worst_flips if subject.worst_flips[split])
    lead = f"{_flipped(benchmark, subject)} {_surest(subject)}"
    return [Section("flips", "Flips", lead, (), shown, (benchmark.folder.name,))]


def _flipped(benchmark: DecoderBenchmark, subject: DecoderSubject) -> str:
    told = []
    for split in (split for split in benchmark.splits if split in subject.flips):
        quality = subject.quality.get(split)
        of = "" if quality is None else f" of {count(quality.perplexity.n)}"
        told.append(f"{count(subject.flips[split])}{of} positions of {split_title(split)}")
    return (
        f"The {name_of(subject)} has another likeliest token than the float student at {listed(told, len(told))}. "
        "Where the float student's likeliest two were level, a flip is a near tie and little is lost; where it was "
        "sure, it is damage."
    )


def _surest(subject: DecoderSubject) -> str:
    """Return how many flips of the test set are damage, as far as those that were kept tell."""
    kept, all_of_them = subject.worst_flips.get("test", ()), subject.flips["test"]
    sure = sum(flip.reference_margin >= tables.SURE for flip in kept)
    if not kept:
        return "No flip on the test set was kept to look at." if all_of_them else "There is none on the test set."
    if not sure:
        return f"On the test set every one is a near tie: the float student led by less than {tables.SURE:g} logit."
    least = "at least " if sure == len(kept) < all_of_them else ""
    lead = f"it led by {tables.SURE:g} logit or more"
    return f"On the test set {least}{count(sure)} of {count(all_of_them)} are damage: {lead}."


def _controls(evidence: DecoderEvidence) -> Section:
    benchmark, controls = evidence.benchmark, evidence.controls
    lead = (
        "What the teacher was worth: the same student trained on the texts alone, as it is cut from the teacher before "
        "any training, and with other seeds. Only a paired difference whose interval lies below zero says that the "
        "student is better than a control."
    )
    if isinstance(evidence.corpus, AnsweredCorpus):
        lead += (
            f" The texts alone are those with gold answers{_steps(evidence)}: what the teacher answered is what it was "
            "worth."
        )
    if controls.skipped:
        lead = f"Not every control ran: {controls.skipped}. {lead}"
    shown = [exact.differences(benchmark)] if benchmark.exact_controls else []
    shown += [tables.differences(benchmark)] if benchmark.controls else []
    shown += [tables.seeds(benchmark)] if benchmark.seeds else []
    blocks = (*shown, tables.controls(evidence))
    return Section("controls", "Controls and seeds", lead, (), blocks, (controls.folder.name, benchmark.folder.name))


def _steps(evidence: DecoderEvidence) -> str:
    """Return how long the twin was trained, and the student."""
    twin = evidence.controls.no_teacher_training
    if twin is None:
        return ""
    steps = count(evidence.student.training.steps)
    return f", read more often, so that its {count(twin.steps)} steps stand against the student's {steps}"


def _budget(evidence: DecoderEvidence, lines: Sequence[BudgetLine]) -> Section:
    lead = (
        "PASS where the whole interval keeps the promise, FAIL where all of it breaks it, INCONCLUSIVE between. "
        f"Quality is the {evidence.metric} over the teacher's; the time is that to the first token. The file with the "
        "best verdict is put forward, the smallest among equals."
    )
    shown = (budget(lines, evidence.benchmark),)
    return Section("budget", "Budget, every file", lead, (), shown, (evidence.benchmark.folder.name,))


def _training(evidence: DecoderEvidence) -> Section:
    student = evidence.student
    blocks = [background.models(evidence), background.cached(evidence), *vocabulary.tables(evidence)]
    blocks += [shared.preflight(student.preflight)] if student.preflight else []
    lead = (
        f"The teacher read every row once, at most {count(evidence.task.max_length)} tokens long; the student learned "
        f"from what was kept of its distribution at each position.{vocabulary.lead(evidence)}"
    )
    trimmed = () if evidence.tokens is None else (evidence.tokens.folder.name,)
    folders = (evidence.teacher.folder.name, *trimmed, evidence.signals.folder.name, student.folder.name)
    drawn = _drawn(shared_charts.training_curve(student.training, METRIC))
    return Section("distillation", "Distillation", lead, drawn, tuple(blocks), folders)


def _parity(evidence: DecoderEvidence) -> Section:
    lead = (
        "Every stored block, scale and float is read back and compared, and the tokenizer inside the file gives the "
        "checkpoint's ids. What the file says in its runtime is held against the same numbers in PyTorch: beyond the "
        "limits the build fails."
    )
    folders = tuple(artifact.folder.name for artifact in evidence.artifacts.values())
    return Section("parity", "Export and parity", lead, (), (background.parity(evidence),), folders)


def _corpus(evidence: DecoderEvidence) -> Section:
    corpus = evidence.corpus
    counted = (
        "A token counts where the assistant says it" if evidence.task.conversations
        else "Every token of a row counts but the first"
    )  # fmt: skip
    lead = f"{counted}. Nearly the same text means: {corpus.near_duplicate_rule.rstrip('.')}."
    shown = [background.splits(evidence), shared.overlaps(corpus)]
    if isinstance(corpus, AnsweredCorpus):
        made = corpus.answers
        lead += (
            f" Of {count(made.prompts)} prompts without answers, held against those of every other split, the teacher "
            f"answered {count(made.rows)}, from which its student learns as from the rest of train; its own fit and "
            "the student without a teacher never saw them."
        )
        shown.insert(1, background.answers(corpus))
    return Section("corpus", "Corpus", lead, (), tuple(shown), (corpus.folder.name, evidence.signals.folder.name))


def _environment(evidence: DecoderEvidence) -> Section:
    benchmark = evidence.benchmark
    state = "The benchmark found its own measurements valid." if benchmark.validity.valid else "Not valid:"
    told = [state, *(f"{reason.rstrip('.')}." for reason in benchmark.validity.reasons)]
    shown = (shared.machine(benchmark.environment), background.noise(evidence))
    return Section(
        "environment", "Environment, noise, validity", " ".join(told), (), shown, (benchmark.folder.name,)
    )  # fmt: skip


def _provenance(evidence: DecoderEvidence) -> Section:
    lead = (
        "Each number on this page comes from the result.json of the stage folder named under its section; report.json "
        "holds them all."
    )
    folders = tuple(value.folder.name for value in evidence.stage_values().values())
    return Section("provenance", "Provenance", lead, (), (background.provenance(evidence),), folders)


def _loading(evidence: DecoderEvidence, recommended: str | None) -> Iterator[Section]:
    """Yield how to load the file put forward, or the first there is."""
    subject = find(evidence.benchmark, recommended) or next(iter(candidates(evidence.benchmark)), None)
    context, chat = evidence.task.max_length, evidence.task.conversations
    for name, artifact, file in evidence.variants():
        if subject is None or name != subject.name:
            continue
        lead = (
            f"In the artifact's folder ({artifact.root}), with stock programs alone. "
            f"{loading.shipping(artifact, file)} Quality was measured on rows of at most {count(context)} tokens."
        )
        ways = loading.ways(artifact, file, context, conversations=chat, system=evidence.recipe.data.system)
        yield Section("loading", "Load it", lead, (), tuple(Code(one.text) for one in ways), (artifact.folder.name,))


def _drawn(*found: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in found if chart is not None)
