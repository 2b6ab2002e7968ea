"""Tables of how the models came to be and where they were measured: corpus, training, tensors, parity, machine."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from edgedistill.report.evidence import AnySubject, Evidence, find, name_of, split_title
from edgedistill.report.page import Cell, Row, Table, facts, missing, row
from edgedistill.report.tables import change_cell, kept_cell, metric_cell
from edgedistill.report.units import (
    better,
    count,
    duration,
    percent,
    rounded_count,
    share,
    significant,
    size,
    tiny,
)
from edgedistill.results import BenchmarkResult, Environment
from edgedistill.student_values import Search, Tokens
from edgedistill.values import (
    Augmentation,
    Check,
    Corpus,
    Parity,
    ParityCheck,
    QuantizedModel,
    Split,
    Student,
    Training,
    Variant,
)


def splits(corpus: Corpus) -> Table:
    """Rows of every split, and what was taken out of it."""
    known = ("Labelled", "Fewest to most per label") if corpus.labels else ("Queries", "Documents searched among")
    columns = (
        "Split",
        "Texts",
        *known,
        "Exact duplicates",
        "Near duplicates",
        "Conflicting",
        "Empty",
    )
    rows = []
    for name in ("train", "validation", "calibration", *corpus.evaluation_splits):
        split = corpus.splits[name]
        removed = (
            split.exact_duplicates_removed, split.near_duplicates_removed, split.conflicting_rows_removed,
            split.empty_rows_removed,
        )  # fmt: skip
        rows.append(row(split_title(name), count(split.rows), *_known(split), *(count(number) for number in removed)))
    return Table("Splits, and rows removed from them", columns, tuple(rows))


def _known(split: Split) -> tuple[str | Cell, str | Cell]:
    """Return how many rows have a label and how they are spread, or how many queries there are, and documents."""
    counts = split.label_counts.values()
    if counts:
        return count(split.labelled_rows), f"{count(min(counts))} to {count(max(counts))}"
    if split.documents:
        return count(split.rows - split.documents), count(split.documents)
    return missing("texts alone"), missing("texts alone")


def overlaps(corpus: Corpus) -> Table:
    """What the audit between splits took out."""
    rows = tuple(
        row(split_title(each.removed_from), split_title(each.kept_in), count(each.exact), count(each.near))
        for each in corpus.overlaps
    )
    none = (row("none", "none", "0", "0"),)
    return Table("Overlap between splits, removed", ("Taken out of", "Because also in", "Exact", "Near"), rows or none)


def augmentation(made: Augmentation) -> Table:
    """How texts of train became further ones."""
    tried = made.copies * made.made_from
    return facts(
        "Texts of train again, words replaced by near ones; the teacher alone labels them",
        ("Copies of each text", f"{count(made.copies)} of {count(made.made_from)} texts, seed {made.seed}"),
        (
            "Words replaced",
            f"{count(made.words_replaced)} of {count(made.words)}, each with probability {made.probability:g}, by one "
            f"of the {count(made.neighbours)} nearest in the teacher's token table",
        ),
        ("Words that can be", f"{count(made.vocabulary)} whole words of the teacher's vocabulary"),
        ("New texts", f"{count(made.rows)} of {count(tried)}"),
        ("Dropped, equal to a held-out text", count(made.equal_to_held_out)),
        ("Dropped, equal to a text of train or to an earlier copy", count(made.equal_to_train)),
    )


def choice(search: Search) -> str:
    """Say what a search chose, and whether that may be luck."""
    best, others = search.trials[search.chosen], [one.behind for one in search.trials if one.behind is not None]
    close = sum(not better(behind) for behind in others)
    said = (
        f"Temperature {best.temperature:g} and soft weight {best.soft_weight:g} were the best of "
        f"{count(len(search.trials))} short trainings on the validation split; {count(close)} of the other "
        f"{count(len(others))} cannot be told from it there."
    )
    return said if search.warning is None else f"{said} {search.warning[0].upper()}{search.warning[1:]}."


def trials(search: Search, metric: str) -> Table:
    """Every trial of a search, as it did on the validation split."""
    columns = (
        "Temperature", "Soft weight", f"{metric.capitalize()}, validation", "Same class as the teacher",
        "KL from the teacher", "Epoch kept", "The chosen one minus this, points",
    )  # fmt: skip
    rows = tuple(
        row(
            Cell(f"{trial.temperature:g}", "the recipe's own" if place == 0 else ""),
            f"{trial.soft_weight:g}",
            metric_cell(trial.metric),
            percent(trial.agreement),
            tiny(trial.divergence),
            f"{trial.best_epoch} of {search.epochs}",
            Cell("chosen", tone="good") if trial.behind is None else change_cell(trial.behind),
            emphasised=place == search.chosen,
        )
        for place, trial in enumerate(search.trials)
    )
    return Table(f"Search for temperature and mixing weight, {duration(search.seconds)}", columns, rows)


def models(evidence: Evidence) -> Table:
    """The teacher and the student, side by side."""
    teacher, student = evidence.teacher, evidence.student
    fitted = "used as it came" if teacher.fit is None else f"fitted ({teacher.fit_method}), {trained(teacher.fit)}"
    rows = (
        row("From", teacher.source, student.initialised_from),
        row("Kind", teacher.kind.replace("_", " "), student.kind.replace("_", " ")),
        row("Parameters", rounded_count(teacher.parameters), rounded_count(student.parameters)),
        row("Weights, float32", size(teacher.weights_bytes), size(student.weights_bytes)),
        row("FLOPs per token", missing("not counted for a teacher"), rounded_count(student.flops_per_token)),
        row("Training", fitted, trained(student.training)),
        row("Reads the training texts", _reading(evidence), "as cached token ids"),
        row("Licence", teacher.licence, evidence.recipe.licence),
    )
    return Table("Teacher and student", ("", "Teacher", "Student"), rows)


def vocabulary(tokens: Tokens) -> Table:
    """How the student reads the texts: with which tokens, and what that changes."""
    columns = (
        "Split", "Tokens per text", "Before tokens were dropped", "Teacher's", "Read as before", "Proven to be",
        "Unknown tokens", "Before",
    )  # fmt: skip
    rows = tuple(
        row(
            split_title(name),
            significant(split.tokens_per_text, 3),
            significant(split.whole_tokens_per_text, 3),
            significant(split.teacher_tokens_per_text, 3),
            f"{count(split.identical_rows)} of {count(split.rows)}",
            count(split.proven_rows),
            percent(split.unknown_share),
            percent(split.whole_unknown_share),
        )
        for name, split in tokens.splits.items()
    )
    whose = "the teacher's" if tokens.start is None else "its own"
    kept = f"{count(tokens.vocabulary)} of {count(tokens.whole_vocabulary)} tokens"
    return Table(f"The student's vocabulary: {kept} of {whose} tokenizer", columns, rows)


def _reading(evidence: Evidence) -> str:
    signals = evidence.signals
    return f"once: {count(signals.rows)} texts in {duration(signals.seconds)}, its answers kept"


def trained(training: Training) -> str:
    """Say how a model came by its weights."""
    epochs = len(training.curve)
    return (
        f"{count(training.rows)} texts, {count(training.steps)} steps, {duration(training.seconds)}, "
        f"epoch {training.best_epoch} of {epochs} kept, seed {training.seed}, "
        f"on {training.device} with {training.threads} thread(s)"
    )


def preflight(checks: Sequence[Check], spread: Check | None = None) -> Table:
    """The checks that held before training began, and the one after it."""
    rows = tuple(
        row(check.name.replace("_", " "), _checked(check.value), check.limit, check.explanation)
        for check in (*checks, *([spread] if spread else []))
    )
    after = ", and after it that vectors differ" if spread else ""
    return Table(f"Checks before training{after}", ("Check", "Value", "Limit", "Why"), rows)


def truncations(student: Student, metric: str) -> Table:
    """What vectors are worth that are cut to their first numbers, beside the teacher's, turned and cut alike."""
    splits = tuple(student.truncations[0].student)
    rows = tuple(
        row(
            f"{count(one.length)} numbers",
            *(Cell(share(one.student[split]), f"teacher: {share(one.teacher[split])}") for split in splits),
        )
        for one in student.truncations
    )
    caption = f"The float student's vectors, cut short: {metric}"
    return Table(caption, ("Length", *(split_title(split) for split in splits)), rows)


def _checked(value: float) -> str:
    """Return a check's number: a count where it is whole, else two digits."""
    return count(round(value)) if value >= 1 and value == round(value) else tiny(value)


def schemes(model: QuantizedModel) -> Table:
    """How the weights of one method are stored, by scheme."""
    groups: dict[tuple[str, int], list[tuple[int, int, float]]] = defaultdict(list)
    for tensor in model.tensors:
        numbers = 1
        for axis in tensor.shape:
            numbers *= axis
        groups[tensor.scheme, tensor.bits].append((numbers, tensor.stored_bytes, tensor.max_error_in_steps))
    rows = []
    for (scheme, bits), tensors in sorted(groups.items(), key=lambda group: -sum(one[1] for one in group[1])):
        numbers, stored_bytes = sum(one[0] for one in tensors), sum(one[1] for one in tensors)
        worst = max(one[2] for one in tensors)
        error = missing("stored as it is, nothing is rounded") if bits >= 32 else f"{worst:.2f} steps"
        rows.append(
            row(
                scheme, count(len(tensors)), rounded_count(numbers), size(stored_bytes), str(bits),
                f"{stored_bytes * 8 / numbers:.2f}" if numbers else missing("the tensors are empty"), error,
            )
        )  # fmt: skip
    columns = ("Scheme", "Tensors", "Numbers", "Stored", "Bits", "Bits with scales", "Largest error")
    return Table(f"{model.method}: how the weights are stored", columns, tuple(rows))


def tensors(model: QuantizedModel) -> Table:
    """Every tensor of one method."""
    columns = ("Tensor", "Shape", "Scheme", "Bits", "Stored", "Largest error")
    rows = tuple(
        row(
            Cell(tensor.name, tone="code"),
            " × ".join(map(str, tensor.shape)) or "scalar",
            tensor.scheme,
            str(tensor.bits),
            size(tensor.stored_bytes),
            f"{tensor.max_error_in_steps:.2f} steps" if tensor.bits < 32 else missing("nothing is rounded"),
        )
        for tensor in model.tensors
    )
    return Table(f"{model.method}: all {len(model.tensors)} tensors", columns, rows, folded=True)


def simulated(evidence: Evidence) -> Table:
    """Quality of every method before export, beside what its exported file does."""
    benchmark = evidence.benchmark
    rows = []
    for method, by_split in benchmark.simulated_quality.items():
        quality = by_split.get("test")
        before = missing("not simulated on the test set") if quality is None else metric_cell(quality.metric)
        for name in evidence.artifacts:
            subject = find(benchmark, f"{name}.{method}")
            exported = None if subject is None else subject.quality.get("test")
            after = missing("not exported in this format") if exported is None else metric_cell(exported.metric)
            rows.append(row(method, before, name, after, kept_cell(exported)))
    columns = ("Method", "Simulated in PyTorch", "Format", "Exported", "Kept of the teacher")
    return Table("Quality on the test set before and after export", columns, tuple(rows))


def parity(evidence: Evidence) -> Table:
    """The proof that export changed no number, one row for each shipped file."""
    columns = (
        "File", "Exact: largest difference", "Allowed", "As deployed: largest difference", "Same answer",
        "Weights", "Same token ids", "Format",
    )  # fmt: skip
    return Table("Parity of every file with its checkpoint", columns, tuple(_parity_rows(evidence)))


def _parity_rows(evidence: Evidence) -> Iterator[Row]:
    for name, _, variant in evidence.variants():
        proof = variant.parity
        allowed = proof.exact.tolerance
        yield row(
            name,
            _difference(proof.exact),
            missing("a measurement, not a gate") if allowed is None else tiny(allowed),
            _difference(proof.deployed),
            Cell(percent(proof.deployed.top1_agreement), f"{count(proof.deployed.inputs)} inputs"),
            Cell("bit-equal", tone="good") if proof.weights_bit_equal else Cell("differ", tone="bad"),
            _same_ids(proof),
            Cell("" if variant.opset is None else f"opset {variant.opset}", _exporters(variant)),
        )


def _difference(check: ParityCheck) -> Cell:
    return Cell(tiny(check.max_abs_diff), f"on {check.worst}")


def _exporters(variant: Variant) -> str:
    refused = f"; refused: {'; '.join(variant.exporters_refused)}" if variant.exporters_refused else ""
    runtime = "" if variant.oldest_runtime is None else f", runtime {variant.oldest_runtime} or newer"
    version = "" if variant.ir_version is None else f"IR {variant.ir_version}{runtime}, "
    return f"{version}{variant.exporter}{refused}"


def _same_ids(proof: Parity) -> Cell:
    """Return on how many texts all tokenizers agreed, and those that this runtime is known to read otherwise."""
    told = f"otherwise, as known: {', '.join(map(repr, proof.read_otherwise))}" if proof.read_otherwise else ""
    return Cell(f"{count(proof.tokenizer_texts)} texts", told)


def machine(environment: Environment) -> Table:
    """Where the numbers were measured."""
    target = f"{environment.target} (emulated)" if environment.emulated else environment.target
    return facts(
        "Environment",
        ("Target", Cell(target, tone="bad" if environment.emulated else "")),
        ("CPU", f"{environment.cpu}, {environment.machine}, {environment.logical_cpus} logical CPUs"),
        ("CPU features", ", ".join(environment.cpu_features) or missing("none was reported")),
        ("Threads", f"{environment.threads}, the same for every model"),
        ("Memory", size(environment.memory_bytes)),
        ("System", environment.operating_system),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(environment.versions.items()))),
    )


NOISE = ("CPU pressure", "Involuntary switches", "Stolen", "CPU over wall time", "Outputs")


def noise(benchmark: BenchmarkResult) -> Table:
    """What else the machine did while each model was measured."""
    rows = []
    for subject in benchmark.subjects:
        ran = sorted(subject.kernels.items(), key=lambda kernel: (-kernel[1], kernel[0]))
        kernels = ", ".join(f"{name} {number}" for name, number in ran[:6]) + (" …" if len(ran) > 6 else "")
        told = kernels or missing("this runtime does not tell its kernels")
        rows.append(row(name_of(subject), *noise_cells(subject), told))
    columns = ("Model", *NOISE, "Kernels that ran")
    return Table("Noise while measuring, and what ran", columns, tuple(rows))


def noise_cells(subject: AnySubject) -> tuple[Cell | str, ...]:
    """Return what stands under the titles of NOISE."""
    seen = subject.noise
    return (
        missing("the system does not report pressure") if seen.cpu_pressure_percent is None
        else percent(seen.cpu_pressure_percent / 100),
        f"{significant(seen.involuntary_switches_per_s, 2)} per s",
        missing("the system does not report steal") if seen.steal_percent is None
        else percent(seen.steal_percent / 100),
        f"{seen.cpu_per_wall:.2f}",
        Cell("checked", tone="good") if subject.outputs_checked else Cell("not checked", tone="bad"),
    )  # fmt: skip


def provenance(evidence: Evidence) -> Table:
    """The chain of hashes from the teacher's source to the shipped files."""
    teacher, student = evidence.teacher, evidence.student
    links = [("teacher's source", teacher.source, teacher.source_weights_sha256, teacher.folder.name)]
    links += [("teacher", "as it was distilled from", teacher.weights_sha256, teacher.folder.name)]
    links += [("data", name, digest, evidence.corpus.folder.name) for name, digest in evidence.corpus.sources.items()]
    links += [("tokenizer", "teacher", evidence.signals.tokenizer_sha256, evidence.signals.folder.name)]
    links += [("tokenizer", "student", evidence.tokens.tokenizer_sha256, evidence.tokens.folder.name)]
    if evidence.tokens.start is not None:
        start = evidence.tokens.start
        links += [("student's source", start.source, start.weights_sha256, evidence.tokens.folder.name)]
    links += [("student", student.kind.replace("_", " "), student.weights_sha256, student.folder.name)]
    links += [
        ("quantized", method, model.weights_sha256, model.folder.name) for method, model in evidence.quantized.items()
    ]
    for name, artifact, variant in evidence.variants():
        links.append(("file", f"{name}: {variant.file}", variant.sha256, artifact.folder.name))
    for artifact in evidence.artifacts.values():
        links.append(
            (
                "recipe",
                f"sections that decide the {artifact.format} files",
                artifact.recipe_sha256,
                artifact.folder.name,
            )
        )
    return chain(links)


def chain(links: Sequence[tuple[str, str, str, str]]) -> Table:
    """Show a chain of hashes: what, which, SHA-256, and the stage's folder."""
    rows = tuple(
        row(what, which, Cell(digest, tone="code"), Cell(folder, tone="code")) for what, which, digest, folder in links
    )
    return Table("From the teacher's source to the shipped files", ("What", "Which", "SHA-256", "Stage folder"), rows)
