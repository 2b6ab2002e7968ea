"""What the sections of a recipe must agree on. Each check's parameters name the sections that it looks at.

A check runs when all of its sections are valid, whatever is wrong with the others. It reads the sets that are
declared beside the code they describe (`SIGNALS`, `NEEDS`, `STORES`, `RUNTIME`, `TASKS`), so that a new choice needs
no line here.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgedistill import registry
from edgedistill.decoder_agreement import DECODER_CHECKS
from edgedistill.recipe_sections import BenchmarkOptions, DataOptions, DistillOptions
from edgedistill.section import FormatOptions, MethodOptions, StudentOptions, TaskOptions, TeacherOptions

Found = Iterator[tuple[str, str]]
TARGETS = "edgedistill.targets"
FORMATS = "edgedistill.export.formats"
LOSSES = "edgedistill.distill.losses"
METHODS = "edgedistill.quantize.methods"


def problems_between(sections: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (key path, what is wrong) for every disagreement among the given sections.

    Args:
        sections: valid sections by their name in the recipe; those that are not valid are left out.
    """
    found: list[tuple[str, str]] = []
    for check in CHECKS:
        needed = inspect.signature(check).parameters
        if needed.keys() <= sections.keys():
            found += check(**{name: sections[name] for name in needed})
    return found


def _losses_get_their_signals(distill: DistillOptions, teacher: TeacherOptions) -> Found:
    for index, loss in enumerate(distill.losses):
        for signal in sorted(loss.NEEDS - {"gold"} - teacher.SIGNALS):
            yield (
                f"distill.losses[{index}].loss",
                f"'{loss.loss}' needs the teacher's {signal}, and a teacher of kind '{teacher.kind}' gives: "
                f"{_listed(teacher.SIGNALS)}; choose another loss or another teacher",
            )


def _losses_get_their_gold(distill: DistillOptions, data: DataOptions, task: TaskOptions) -> Found:
    for index, loss in enumerate(distill.losses):
        known = _labelled(data) or task.GOLD_IN_TEXT
        if "gold" in loss.NEEDS and task.kind in loss.TASKS and not known:
            yield (
                f"distill.losses[{index}].loss",
                f"'{loss.loss}' needs gold labels, and data.train has none; "
                "name their column in data.train.label, or list other losses",
            )


def _a_search_has_something_to_change(distill: DistillOptions, task: TaskOptions) -> Found:
    losses = [loss.loss for loss in distill.losses]
    if distill.search is not None and task.kind not in registry.load(LOSSES, "forward_kl").Options.TASKS:
        yield (
            "distill.search",
            f"changes the temperature of 'forward_kl', which does not compare what '{task.kind}' gives; "
            "leave search out",
        )
    elif distill.search is not None and "forward_kl" not in losses:
        yield (
            "distill.search",
            "changes the temperature of 'forward_kl', and distill.losses has none; add it, or leave search out",
        )
    elif distill.search is not None and distill.search.soft_weights and "cross_entropy" not in losses:
        yield (
            "distill.search.soft_weights",
            "weigh 'forward_kl' against 'cross_entropy', and distill.losses has none; add it, or leave them out",
        )


def _augmented_texts_are_labelled(distill: DistillOptions, teacher: TeacherOptions) -> Found:
    if distill.augment is None:
        return
    if not teacher.TOKEN_TABLE:
        yield (
            "distill.augment",
            f"takes near words from the teacher's token table, and a teacher of kind '{teacher.kind}' has none to be "
            "read; leave augment out, or choose another teacher",
        )
    if not any(loss.NEEDS - {"gold"} for loss in distill.losses):
        yield (
            "distill.augment",
            "makes texts that only the teacher labels, and no loss in distill.losses reads what it says; "
            "add one, such as forward_kl, or leave augment out",
        )


def _teacher_does_the_task(teacher: TeacherOptions, task: TaskOptions) -> Found:
    if task.kind not in teacher.TASKS:
        yield (
            "teacher.kind",
            f"'{teacher.kind}' cannot teach '{task.kind}'; it teaches: {_listed(teacher.TASKS)}; choose another kind",
        )


def _fitting_gets_its_gold(teacher: TeacherOptions, data: DataOptions, task: TaskOptions) -> Found:
    if getattr(teacher, "fit", None) is None or task.GOLD_IN_TEXT:
        return
    if not task.LABELLED:
        yield "teacher.fit", f"trains a head for labels, and '{task.kind}' has none; leave fit out"
    elif not _labelled(data):
        yield (
            "teacher.fit",
            "fitting needs gold labels, and data.train has none; "
            "name their column in data.train.label, or give a teacher that has a head for the task",
        )


def _losses_fit_the_task(distill: DistillOptions, task: TaskOptions) -> Found:
    for index, loss in enumerate(distill.losses):
        if task.kind not in loss.TASKS:
            known = {name: registry.load(LOSSES, name).Options.TASKS for name in registry.names(LOSSES)}
            fitting = [name for name, tasks in known.items() if task.kind in tasks]
            yield (
                f"distill.losses[{index}].loss",
                f"'{loss.loss}' does not compare what '{task.kind}' gives; choose one of: {_listed(fitting)}",
            )


def _search_is_measured_only(data: DataOptions, task: TaskOptions) -> Found:
    places = {role: getattr(data, role) for role in ("train", "unlabelled", "validation", "calibration")}
    if task.LABELLED:
        places |= {"test": data.test, **{f"challenge.{name}": source for name, source in data.challenge.items()}}
    for role, source in places.items():
        if source is not None and source.SEARCHED:
            cure = (
                f"'{task.kind}' is measured on texts with labels; choose another source, or another task"
                if task.LABELLED
                else "it is to measure on, and goes to data.test or data.challenge"
            )
            yield f"data.{role}.source", f"'{source.source}' holds queries and documents; {cure}"


def _held_out_texts_have_gold(data: DataOptions, task: TaskOptions) -> Found:
    if not task.LABELLED:
        return
    for role in ("validation", "test"):
        source = getattr(data, role)
        if source is None and not _labelled(data):
            yield (
                f"data.{role}",
                f"is missing, and data.train has no labels to cut it from; nothing could be measured: name a labelled "
                f"file as data.{role}",
            )
        elif source is not None and getattr(source, "label", None) is None:
            yield f"data.{role}", "has no labels, and quality is measured on them; name their column as label"


def _a_format_stores_each_scheme(quantize: Sequence[MethodOptions], export: Sequence[FormatOptions]) -> Found:
    for index, method in enumerate(quantize):
        if export and not any(method.SCHEME in options.STORES for options in export):
            stored = "; ".join(f"'{options.format}' stores: {_listed(options.STORES)}" for options in export)
            yield (
                f"quantize[{index}].method",
                f"no chosen format can store '{method.SCHEME}', which '{method.method}' makes; {stored}; "
                "add a format that stores it, or choose another method",
            )


def _formats_hold_the_student(export: Sequence[FormatOptions], student: StudentOptions, task: TaskOptions) -> Found:
    for index, options in enumerate(export):
        lacks = getattr(registry.load(FORMATS, options.format), "lacks", None)
        if lacks is not None and task.kind in options.TASKS:
            for key, reason in lacks(student, task):
                yield key, f"'{options.format}' in export[{index}] cannot hold it: {reason}; change either of them"


def _methods_serve_the_task(quantize: Sequence[MethodOptions], task: TaskOptions) -> Found:
    for index, method in enumerate(quantize):
        if task.kind not in method.TASKS:
            serving = [
                name for name in registry.names(METHODS) if task.kind in registry.load(METHODS, name).Options.TASKS
            ]
            yield (
                f"quantize[{index}].method",
                f"'{method.method}' does not serve '{task.kind}'; choose one of: {_listed(serving)}",
            )


def _student_does_the_task(student: StudentOptions, task: TaskOptions) -> Found:
    if task.kind not in student.TASKS:
        yield (
            "student.kind",
            f"'{student.kind}' cannot do '{task.kind}'; it does: {_listed(student.TASKS)}; choose another kind",
        )


def _losses_differ(distill: DistillOptions) -> Found:
    yield from _repeated("distill.losses", "loss", [loss.loss for loss in distill.losses])


def _methods_differ(quantize: Sequence[MethodOptions]) -> Found:
    yield from _repeated("quantize", "method", [options.method for options in quantize])


def _formats_differ(export: Sequence[FormatOptions]) -> Found:
    yield from _repeated("export", "format", [options.format for options in export])


def _something_is_exported(export: Sequence[FormatOptions]) -> Found:
    if not export:
        choices = ", ".join(registry.names(FORMATS))
        yield "export", f"names no format, so nothing would come out; choose at least one of: {choices}"


def _target_is_known(benchmark: BenchmarkOptions) -> Found:
    targets = registry.names(TARGETS)
    if benchmark.target not in targets:
        yield "benchmark.target", f"unknown target '{benchmark.target}'; choose one of: {', '.join(targets)}"


def _target_runs_each_format(benchmark: BenchmarkOptions, export: Sequence[FormatOptions]) -> Found:
    if benchmark.target not in registry.names(TARGETS):
        return
    runtimes = registry.load(TARGETS, benchmark.target).target().runtimes
    for index, options in enumerate(export):
        runtime = registry.load(FORMATS, options.format).RUNTIME
        if runtime not in runtimes:
            yield (
                f"export[{index}].format",
                f"'{options.format}' needs the runtime '{runtime}', and benchmark.target "
                f"'{benchmark.target}' has: {_listed(runtimes)}; choose another format or another target",
            )


CHECKS = (
    _losses_get_their_signals,
    _losses_fit_the_task,
    _search_is_measured_only,
    _losses_get_their_gold,
    _a_search_has_something_to_change,
    _augmented_texts_are_labelled,
    _teacher_does_the_task,
    _fitting_gets_its_gold,
    _held_out_texts_have_gold,
    _a_format_stores_each_scheme,
    _formats_hold_the_student,
    _methods_serve_the_task,
    _student_does_the_task,
    _losses_differ,
    _methods_differ,
    _formats_differ,
    _something_is_exported,
    _target_is_known,
    _target_runs_each_format,
    *DECODER_CHECKS,
)


def _labelled(data: DataOptions) -> bool:
    """Whether the training rows say their label; a source without a `label` key has no place for one."""
    return getattr(data.train, "label", None) is not None


def _repeated(section: str, key: str, words: Sequence[str]) -> Found:
    for index, word in enumerate(words):
        if word in words[:index]:
            first = f"{section}[{words.index(word)}]"
            yield f"{section}[{index}].{key}", f"'{word}' stands in {first} already; name it once"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"
