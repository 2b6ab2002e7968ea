"""What every task keeps, however many are added."""

import inspect
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from edgedistill import registry
from edgedistill.section import TaskOptions

TASKS, LOSSES = "edgedistill.tasks", "edgedistill.distill.losses"
CLASSIFIERS = [name for name in registry.names(TASKS) if registry.load(TASKS, name).Options.LABELLED]


def complaints(module: Any, name: str) -> list[str]:
    """Return what a task module breaks."""
    found, options = [], module.Options
    if get_args(options.model_fields["kind"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    if not getattr(options, "METRIC", "").isidentifier() or not getattr(options, "PIPELINE_TAG", ""):
        found.append("it names its metric in one word, and the tag under which model hubs know it")
    if list(inspect.signature(module.right).parameters) != ["outputs", "gold"]:
        found.append("right takes outputs and gold")
    if (options.GOLD_LOSS in registry.names(LOSSES)) != options.LABELLED or options.SEVERAL > options.LABELLED:
        found.append("where rows have labels, a loss learns from them; several there can be where there are any")
    if not module.__doc__:
        found.append("its first line says what it is")
    return found


@pytest.mark.parametrize("name", registry.names(TASKS))
def test_every_task_has_the_shape_of_one(name: str) -> None:
    assert complaints(registry.load(TASKS, name), name) == []


def test_a_module_of_another_shape_is_rejected() -> None:
    class Options(TaskOptions):
        kind: Literal["other"]
        METRIC: ClassVar[str] = "top-1"

    assert len(complaints(SimpleNamespace(Options=Options, right=lambda x: x, __doc__=""), "mine")) == 5


@pytest.mark.parametrize("name", registry.names(TASKS))
def test_every_task_has_a_student_that_does_it(name: str) -> None:
    students = "edgedistill.models.students"
    kinds = (registry.load(students, kind).Options.TASKS for kind in registry.names(students))
    assert any(name in tasks for tasks in kinds), "a task that no student does can never be chosen"


def test_an_item_is_right_where_its_largest_logit_stands_at_its_label() -> None:
    from sklearn.metrics import accuracy_score

    task = registry.load(TASKS, "text_classification")
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(100, 4)), random.integers(0, 4, 100)
    found = task.right(logits, labels)
    assert found.dtype == bool
    assert found.mean() == accuracy_score(labels, logits.argmax(axis=1))
    assert task.right(np.eye(4), np.arange(4)).all()
    assert not task.right(-np.eye(4), np.arange(4)).any()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_tasks_gold_loss_is_for_that_task(name: str) -> None:
    options = registry.load(TASKS, name).Options
    loss = registry.load(LOSSES, options.GOLD_LOSS).Options
    assert name in loss.TASKS
    assert {"gold"} == loss.NEEDS


def distance_faults(task: Any) -> list[str]:
    """Return what is wrong with how a task holds one model's outputs against another's."""
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 60, 4)).astype(np.float32)
    nothing, found = np.full(60, -1), []
    if task.divergence(one, one) > 1e-6 or not task.agree(one, one, nothing).all():
        found.append("outputs are what they are themselves")
    if not task.divergence(one, one + 0.01 * other) < task.divergence(one, other) or task.divergence(one, other) < 0.01:
        found.append("other outputs are farther, the farther the more")
    if task.agree(one, other, nothing).mean() > 0.9 or task.agree(one, other, nothing).dtype != bool:
        found.append("other outputs do not agree on every row")
    return found


@pytest.mark.parametrize("name", registry.names(TASKS))
def test_every_task_measures_how_far_two_models_are_apart(name: str) -> None:
    assert distance_faults(registry.load(TASKS, name)) == []


def test_a_distance_that_is_none_is_rejected() -> None:
    blind = SimpleNamespace(
        divergence=lambda before, after: float(np.abs(before).mean()),
        agree=lambda before, after, gold: np.ones(len(before), dtype=bool),
    )
    assert len(distance_faults(blind)) == 3


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("wrong", [{"labels": ["only"]}, {"max_length": 3}, {"max_length": 10_000}, {"label": ["a"]}])
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, Any], name: str) -> None:
    options = registry.load(TASKS, name).Options
    assert options(kind=name).max_length == 128
    with pytest.raises(ValidationError):
        options(kind=name, **wrong)


def told(options: Any, labels: list[Any]) -> list[str]:
    """Return why labels are refused; nothing where they are taken as they are."""
    try:
        taken = options(kind=get_args(options.model_fields["kind"].annotation)[0], labels=labels)
    except ValidationError as error:
        return [details["msg"] for details in error.errors()]
    assert taken.labels == tuple(labels)
    return []


REFUSED = (
    (["good", "bad", "good"], "names 'good' more than once; name each label once"),
    (["b", "a", "b", "c", "a"], "names 'a', 'b' more than once"),
    (["1", "2", "1"], "names '1' more than once"),
    (["good", ""], "holds an empty label"),
    (["only"], "has 1 label(s); a classifier tells at least two apart"),
    ([], "has 0 label(s)"),
)


def faults(options: Any) -> list[str]:
    """Return what is wrong with how a task tells labels apart."""
    found = [f"takes {labels}" for labels, said in REFUSED if not any(said in line for line in told(options, labels))]
    found += [f"refuses {labels}" for labels in (["1", "2"], ["10", "9"], ["a", "A", "a "]) if told(options, labels)]
    return found + [
        f"tells in lines: {line}" for labels, _ in REFUSED for line in told(options, labels) if "\n" in line
    ]


def test_labels_are_told_apart() -> None:
    class Careless(TaskOptions):
        kind: Literal["text_classification"]
        labels: tuple[str, ...]

    for name in CLASSIFIERS:
        assert faults(registry.load(TASKS, name).Options) == []
    assert len(faults(Careless)) == len(REFUSED)
