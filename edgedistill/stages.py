"""Every stage of a recipe, named with all that its result depends on, before anything runs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill import planning, registry
from edgedistill.corpus.stage import digests
from edgedistill.files import canonical_json, sha256_of_text
from edgedistill.models import resolve
from edgedistill.models.student import cut_from_codes, own_checkpoint, starts_apart
from edgedistill.provenance import code_of, host, versions
from edgedistill.recipe import DECIDES_THE_FILES, Recipe
from edgedistill.run import Run, fingerprint
from edgedistill.section import MethodOptions
from edgedistill.targets import _cpu
from edgedistill.values import Corpus

TRAINERS = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "numpy")
RUNTIMES = ("onnxruntime", "onnxruntime-genai", "llama-cpp-python", "gguf")
CONTROLS = {"controls", "control_learning_rate", "seeds"}  # keys of distill that the student does not depend on
BEFORE = {"augment", "search"}  # keys of the distill section that are stages of their own, before the student
UNSEARCHED = {"epochs", "patience"}  # keys of the distill section that a search has its own values for
KEPT = {"cache", "calibration_tokens", "answers"}  # keys of the task section that change no teacher
ANSWERING = (
    "distill/decoder/answers.py",
    "distill/decoder/continuing.py",
    "runtimes/_decoder.py",
    "runtimes/pytorch_decoder.py",
    "sampling.py",
)
ASKING = ("distill/decoder/asking.py", "runtimes/_likeness.py", "runtimes/_odd_texts.py")
RECORDING = ("distill/decoder/signals.py", "distill/decoder/own_reading.py", *ASKING)
CUTTING = ("distill/decoder/unpacked.py", *ASKING)
TEACHING = ("train", "validation")  # splits that a teacher is fitted on


@dataclass(frozen=True)
class Stage:
    """A stage with everything that its result depends on."""

    name: str
    verb: str  # the command that would make it
    needs: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """What a later stage depends on."""
        return fingerprint(self.name, self.needs)


def recipe_sha256(recipe: Recipe) -> str:
    """Return the hash of all that decides the artifact's bytes: a budget and further seeds do not change a file."""
    sections = recipe.model_dump(mode="json", exclude={"distill": CONTROLS})
    return sha256_of_text(canonical_json({name: sections[name] for name in DECIDES_THE_FILES}))


def reads_importance(methods: Iterable[MethodOptions]) -> bool:
    """Whether a method decides by an importance matrix, which is then measured once for all of them."""
    return any(getattr(options, "reads_importance", False) for options in methods)


def asks_the_teacher(recipe: Recipe) -> bool:
    """Whether there are prompts that the teacher is to answer."""
    return recipe.data.unlabelled is not None and recipe.data.unlabelled.unanswered


def stages(recipe: Recipe, base: Path, run: Run) -> dict[str, Stage]:
    """Return every stage of the recipe, in order, by name.

    Args:
        base: folder of the recipe's file; relative paths start there.
        run: where the corpus may be finished; then the teacher depends on the texts that it is fitted on, and no
            longer on all that the corpus was made from: a further challenge set does not fit it anew.
    """
    made: dict[str, Stage] = {}

    def add(stage: str, verb: str, code: tuple[str, ...], after: tuple[str, ...], /, **needs: Any) -> None:
        earlier = {before: made[before].fingerprint for before in after}
        made[stage] = Stage(stage, verb, {**needs, "after": earlier, "code": code_of(*code)})

    kind = registry.load("edgedistill.teachers", recipe.teacher.kind)
    shared = ("training", "models", "tasks", "statistics.py", "resumable.py")
    trainers = versions(*TRAINERS)
    runs, runner = _teacher_runs_in(recipe)
    add(
        "corpus", "distill", ("corpus", "tasks/_labels.py", "tasks/sentence_embedding.py"), (),
        data=recipe.data, labels=planning.named_labels(recipe.task), several=recipe.task.SEVERAL,
        files=digests(recipe.data, base),
        teacher_labels=None if getattr(recipe.teacher, "fit", None) else kind.digest(recipe.teacher, base),
        versions=versions("datasets", "datasketch", "pyarrow"),
    )  # fmt: skip
    reads = _read_by_the_teacher(made["corpus"], run)
    add(
        "teacher", "distill", ("teachers", "distill/losses", *shared, *runs), () if reads else ("corpus",),
        teacher=recipe.teacher, task=recipe.task.model_dump(mode="json", exclude=KEPT),
        files=kind.digest(recipe.teacher, base), train_and_validation=reads, versions={**trainers, **runner},
    )  # fmt: skip
    if recipe.distill.augment is not None:
        add(
            "augment", "distill", ("distill/augment.py", "distill/neighbours.py", "corpus", "models"),
            ("corpus", "teacher"),
            augment=recipe.distill.augment, versions={**trainers, **versions("pyarrow", "scikit-learn")},
        )  # fmt: skip
    texts = "corpus" if recipe.distill.augment is None else "augment"
    decoder = recipe.task.GOLD_IN_TEXT
    if asks_the_teacher(recipe):
        texts = "answers"
        _answered(add, recipe, shared, trainers)
    if decoder:
        _before_signals(add, recipe, base, texts, shared, trainers)
    records = (*RECORDING, *runs) if decoder else ("distill/signals.py",)
    read = (texts, "teacher", *(("tokens",) if "tokens" in made else ()))
    task = recipe.task.model_dump(mode="json", exclude={"answers"})  # a stage of its own
    add("signals", "distill", (*records, *shared), read, task=task, versions={**trainers, **runner})
    said = recipe.distill.model_dump(mode="json", exclude=CONTROLS | BEFORE)
    wanted = recipe.distill.model_dump(mode="json", include=CONTROLS)
    if not decoder:
        own = own_checkpoint(recipe.student)
        add(
            "tokens", "distill", ("distill/tokens.py", *shared), ("signals",),
            vocabulary=recipe.student.vocabulary, model=own, licence=getattr(recipe.student, "licence", None),
            files=None if own is None else resolve.digest(own, base), versions=trainers,
        )  # fmt: skip
    learners = {"student": recipe.student, "versions": {**trainers, **versions("scikit-learn")}}
    if recipe.distill.search is not None:
        same = {key: value for key, value in said.items() if key not in UNSEARCHED}
        add(
            "search", "distill", ("distill", *shared), ("signals", "tokens"),
            search=recipe.distill.search, distill=same, **learners,
        )  # fmt: skip
    taught = ("signals", *(stage for stage in ("tokens", "start", "search") if stage in made))
    add("student", "distill", ("distill", *shared), taught, distill=said, **learners)
    add("controls", "distill", ("distill", *shared), taught, distill=said, wanted=wanted, **learners)
    _quantized(add, recipe, made, shared, trainers)
    quantized = tuple(f"quantize-{options.method}" for options in recipe.quantize)
    for layout in recipe.export:
        add(
            f"export-{layout.format}", "export", ("export", "runtimes", "models"),
            ("teacher", "student", *quantized),
            options=layout, name=recipe.name, version=recipe.version, licence=recipe.licence, system=recipe.data.system,
            recipe_sha256=recipe_sha256(recipe), versions={**trainers, **versions("onnx", "onnxscript", *RUNTIMES)},
        )  # fmt: skip
    exported = tuple(f"export-{layout.format}" for layout in recipe.export)
    add(
        "benchmark", "bench", ("benchmark", "runtimes", "targets", "tasks", "statistics.py"), ("controls", *exported),
        benchmark=recipe.benchmark, versions={**trainers, **versions(*RUNTIMES)}, machine=[_cpu.name(), host()],
    )  # fmt: skip
    add(
        "report", "report", ("report", "results.py", "decoder_results.py"), ("benchmark",),
        budget=recipe.budget, versions=versions("jinja2", "matplotlib", "huggingface_hub"),
    )  # fmt: skip
    return made


def _quantized(
    add: Callable[..., None], recipe: Recipe, made: Mapping[str, Stage], shared: tuple[str, ...], trainers: Any
) -> None:
    """Add every method, and before them the importance matrix that they read."""
    if reads_importance(recipe.quantize):
        add("importance", "quantize", ("quantize", *shared), ("student",), versions=trainers)
    before = ("student", *(("importance",) if "importance" in made else ()))
    for options in recipe.quantize:
        method = registry.load("edgedistill.quantize.methods", options.method)
        add(
            f"quantize-{options.method}", "quantize", ("quantize", *shared), before,
            options=options, depends=method.needs(options), versions=trainers,
        )  # fmt: skip


def _answered(add: Callable[..., None], recipe: Recipe, shared: tuple[str, ...], trainers: Any) -> None:
    """Add the teacher's answers to prompts that have none."""
    task: Any = recipe.task
    runs, runner = _teacher_runs_in(recipe)
    idle = set() if recipe.teacher.IN_PYTORCH else {"batch_size"}
    add(
        "answers", "distill", (*ANSWERING, *ASKING, *shared, *runs), ("corpus", "teacher"),
        answers=task.answers.model_dump(mode="json", exclude=idle), max_length=task.max_length,
        versions={**trainers, **versions("pyarrow"), **runner},
    )  # fmt: skip


def _before_signals(
    add: Callable[..., None], recipe: Recipe, base: Path, texts: str, shared: tuple[str, ...], trainers: Any
) -> None:
    """Add what is settled of a language model's student before its teacher reads: its start, and its tokens."""
    own, cut = own_checkpoint(recipe.student), cut_from_codes(recipe.student, recipe.teacher)
    runs, runner = _teacher_runs_in(recipe)
    if starts_apart(recipe.student, recipe.teacher):
        add(
            "start", "distill", ("distill/decoder/start.py", *CUTTING, *shared, *runs), (texts, "teacher"),
            task=recipe.task.model_dump(mode="json", exclude=KEPT), model=own,
            licence=getattr(recipe.student, "licence", None), files=None if own is None else resolve.digest(own, base),
            tokens=getattr(recipe.student, "calibration_tokens", None), unpacks=cut, **_search(recipe.student),
            versions={**trainers, **runner},
        )  # fmt: skip
    if recipe.student.vocabulary is not None:
        add(
            "tokens", "distill", ("distill/decoder/vocabulary.py", *CUTTING, *shared),
            (texts, "teacher", *(("start",) if cut or own is not None else ())),
            vocabulary=recipe.student.vocabulary, conversations=getattr(recipe.task, "conversations", None),
            versions=trainers,
        )  # fmt: skip


def _search(options: Any) -> dict[str, int]:
    """Return what the choice of layers depends on, where they are left to their loss."""
    layers = getattr(options, "searched", None)
    return {} if layers is None else {"layers": layers, "search_tokens": options.search_tokens}


def _teacher_runs_in(recipe: Recipe) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Return code and versions of what a teacher runs in where that is not PyTorch alone."""
    return ((), {}) if recipe.teacher.IN_PYTORCH else (("runtimes",), versions("gguf", "llama-cpp-python"))


def _read_by_the_teacher(corpus: Stage, run: Run) -> str | None:
    """Return a hash of the labels and the splits that a teacher is fitted on; None while the corpus is unknown."""
    if not run.finished(corpus.name, corpus.needs):
        return None
    value = Corpus.load(run.folder_of(corpus.name, corpus.needs))
    return sha256_of_text(canonical_json([value.labels, *(value.splits[name].sha256 for name in TEACHING)]))
