"""What the sections of a recipe for text generation must agree on, beside what every recipe's must."""

from collections.abc import Iterator, Sequence
from typing import Any

from edgedistill import registry
from edgedistill.recipe_sections import DataOptions, DistillOptions
from edgedistill.section import FormatOptions, StudentOptions, TaskOptions, TeacherOptions

Found = Iterator[tuple[str, str]]
FORMATS = "edgedistill.export.formats"


def _losses_can_do_with_what_is_kept(distill: DistillOptions, task: TaskOptions) -> Found:
    cache: Any = getattr(task, "cache", None)
    if cache is None or cache.way == "dense":
        return
    way: str = cache.way
    for index, loss in enumerate(distill.losses):
        if task.kind in loss.TASKS and not loss.SPARSE and loss.NEEDS - {"gold"}:
            yield (
                f"distill.losses[{index}].loss",
                f"'{loss.loss}' compares every token of the vocabulary, and task.cache.way: {way} keeps few; "
                "write task.cache: {way: dense}, or choose forward_kl",
            )
        temperature: float = getattr(loss, "temperature", 1.0)
        if temperature != 1.0:
            yield (
                f"distill.losses[{index}].temperature",
                f"{temperature:g} softens every token of the vocabulary, and task.cache.way: {way} keeps few; "
                "write 1, or task.cache: {way: dense}",
            )


def _what_runs_in_llama_cpp_has_no_precision(teacher: TeacherOptions, task: TaskOptions) -> Found:
    cache: Any = getattr(task, "cache", None)
    if cache is not None and cache.mixed_precision != "no" and not teacher.IN_PYTORCH:
        yield (
            "task.cache.mixed_precision",
            f"'{cache.mixed_precision}' is for checkpoints, and a teacher of kind '{teacher.kind}' runs in llama.cpp; "
            "leave it out",
        )


def _conversations_come_from_conversations(data: DataOptions, task: TaskOptions) -> Found:
    places = {role: getattr(data, role) for role in ("train", "unlabelled", "validation", "calibration", "test")}
    places |= {f"challenge.{name}": source for name, source in data.challenge.items()}
    for role, source in places.items():
        if source is None or getattr(task, "conversations", False) == source.CONVERSATIONS:
            continue
        if source.CONVERSATIONS:
            cure = "write task.conversations: true" if task.GOLD_IN_TEXT else "choose another source"
            yield f"data.{role}.source", f"'{source.source}' holds conversations, and the task reads none; {cure}"
        else:
            yield (
                f"data.{role}.source",
                f"'{source.source}' holds texts, and task.conversations reads conversations; choose conversations",
            )


def _prompts_without_answers_are_unlabelled(data: DataOptions) -> Found:
    measured = {"test": data.test, "validation": data.validation}
    measured |= {f"challenge.{name}": source for name, source in data.challenge.items()}
    why = dict.fromkeys(measured, "quality is measured on answers")
    why |= {"train": "train is gold", "calibration": "calibration reads whole conversations"}
    for role, source in {"train": data.train, **measured, "calibration": data.calibration}.items():
        if source is not None and source.unanswered:
            yield (
                f"data.{role}.answer",
                f"null leaves its rows without answers, and {why[role]}; name the key of the answers, "
                "or give prompts that the teacher is to answer as data.unlabelled",
            )


def _what_is_said_of_answers_has_prompts(data: DataOptions, task: TaskOptions) -> Found:
    answers: Any = getattr(task, "answers", None)
    if answers not in (None, type(answers)()) and (data.unlabelled is None or not data.unlabelled.unanswered):
        yield (
            "task.answers",
            "says how prompts are answered, and there are none; give them as data.unlabelled with answer: null, "
            "or leave this out",
        )


def _nothing_is_asked_that_decoders_lack(distill: DistillOptions, student: StudentOptions, task: TaskOptions) -> Found:
    if not task.GOLD_IN_TEXT:
        return
    asked = {
        "distill.search": distill.search,
        "distill.augment": distill.augment,
        "student.embedding_rank": student.embedding_rank,
    }
    for key, value in asked.items():
        if value is not None:
            yield key, f"is not there for '{task.kind}' yet; leave it out"


def _formats_lay_out_the_task(export: Sequence[FormatOptions], task: TaskOptions) -> Found:
    for index, options in enumerate(export):
        if task.kind not in options.TASKS:
            known = {name: registry.load(FORMATS, name).Options.TASKS for name in registry.names(FORMATS)}
            fitting = ", ".join(sorted(name for name, tasks in known.items() if task.kind in tasks)) or "nothing"
            yield (
                f"export[{index}].format",
                f"'{options.format}' does not lay out models of '{task.kind}'; choose one of: {fitting}",
            )


DECODER_CHECKS = (
    _formats_lay_out_the_task,
    _losses_can_do_with_what_is_kept,
    _what_runs_in_llama_cpp_has_no_precision,
    _conversations_come_from_conversations,
    _prompts_without_answers_are_unlabelled,
    _what_is_said_of_answers_has_prompts,
    _nothing_is_asked_that_decoders_lack,
)
