"""What every kind of teacher keeps, however many are added."""

import inspect
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, get_args

import pytest

from edgedistill import registry
from edgedistill.section import TeacherOptions

TEACHERS = "edgedistill.teachers"
WORDS = {"text", "labels", "logits", "top_k_logprobs", "hidden_states", "attentions", "embeddings"}
FUNCTIONS = {
    "digest": ["options", "base"],
    "labels_of": ["options", "base", "cache"],
    "prepare": ["options", "task", "corpus", "base", "folder"],
}


def complaints(module: Any, name: str) -> list[str]:
    """Return what the shape of a teacher module breaks."""
    found, options = [], module.Options
    if get_args(options.model_fields["kind"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    found += undeclared(options)
    if "licence" not in options.model_fields or not options.model_fields["licence"].is_required():
        found.append("whoever names a teacher says what its licence is")
    for function, parameters in FUNCTIONS.items():
        if list(inspect.signature(getattr(module, function, lambda: None)).parameters) != parameters:
            found.append(f"{function} takes {parameters}")
    if not module.__doc__:
        found.append("its first line says what it is")
    return found


def undeclared(options: Any) -> list[str]:
    """Return what Options does not say of a teacher, or says in words that nobody knows."""
    found = []
    if not issubclass(options, TeacherOptions) or not options.SIGNALS or options.SIGNALS - WORDS:
        found.append("Options says which signals it gives, in words that losses know")
    if not options.TASKS or options.TASKS - set(registry.names("edgedistill.tasks")):
        found.append("Options says which tasks it teaches, each a file of tasks/")
    if bool(options.EXTRA) != bool(options.IMPORTS):
        found.append("what must be installed has a name to install it by")
    return found


@pytest.mark.parametrize("name", registry.names(TEACHERS))
def test_every_teacher_has_the_shape_of_one(name: str) -> None:
    assert complaints(registry.load(TEACHERS, name), name) == []


def test_a_module_of_another_shape_is_rejected() -> None:
    class Options(TeacherOptions):
        kind: Literal["other"]
        SIGNALS: ClassVar[frozenset[str]] = frozenset({"telepathy"})
        TASKS: ClassVar[frozenset[str]] = frozenset({"mind_reading"})
        IMPORTS: ClassVar[tuple[str, ...]] = ("crystal_ball",)

    broken = SimpleNamespace(Options=Options, digest=lambda options: "", prepare=lambda folder: None, __doc__="")
    assert len(complaints(broken, "mine")) == 9
