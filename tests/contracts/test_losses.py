"""What every loss keeps, however many are added."""

import inspect
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, Literal, get_args

import pytest
import torch
import torch.nn.functional as F

from edgedistill import registry
from edgedistill.section import LossOptions

LOSSES, TEACHERS = "edgedistill.distill.losses", "edgedistill.teachers"
ROWS, CLASSES = 12, 5


def _known_signals() -> frozenset[str]:
    """What a loss may ask for: whatever some kind of teacher gives, and gold labels."""
    kinds = (registry.load(TEACHERS, name).Options.SIGNALS for name in registry.names(TEACHERS))
    return frozenset({"gold"}).union(*kinds)


def several(options: Any) -> bool:
    """Whether a loss is of tasks where several labels may hold at once, so that each logit stands for itself."""
    return all(
        registry.load("edgedistill.tasks", task).Options.SEVERAL for task in options.TASKS or ["text_classification"]
    )


def given(options: Any, seed: int = 0, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what the student and the teacher say, and labels or sets of labels, of one batch."""
    random = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(ROWS, CLASSES, generator=random) for _ in range(2))
    kinds = 2**CLASSES if several(options) else CLASSES
    return student, teacher, torch.randint(0, kinds, (ROWS,), generator=random)


def shape_faults(module: Any, name: str) -> list[str]:
    """Return what the shape of a loss module breaks."""
    found = []
    options = module.Options
    if get_args(options.model_fields["loss"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    if not issubclass(options, LossOptions) or not isinstance(getattr(options, "DIVERGENCE", None), bool):
        found.append("Options is a LossOptions that says whether it is a divergence")
    if not options.NEEDS or options.NEEDS - _known_signals():
        found.append("it needs something, and only what a teacher or the data can give")
    if list(inspect.signature(module.loss).parameters) != ["options", "student", "teacher", "labels"]:
        found.append("loss takes options, student, teacher, labels")
    if not module.__doc__:
        found.append("its first line says what it is")
    return found


def alike(outputs: torch.Tensor, options: Any) -> torch.Tensor:
    """Return other numbers that mean the same: logits with a constant added.

    A vector is what it is, and so is a logit that has a sigmoid of its own.
    """
    return outputs if "embeddings" in options.NEEDS or several(options) else outputs + 7.0


def faults(module: Any, options: Any) -> list[str]:
    """Return what is wrong with what a loss computes."""
    found = []
    student, teacher, labels = given(options)
    student.requires_grad_()
    teacher.requires_grad_()
    value = module.loss(options, student, teacher, labels)
    if value.shape != () or not float(value.detach()) > 0:
        found.append("a scalar, positive where the student is wrong")
    value.backward()
    if student.grad is None or not student.grad.abs().sum(dim=1).all():
        found.append("gradients reach every row of the student")
    if teacher.grad is not None and teacher.grad.any():
        found.append("no gradient reaches the teacher")
    with torch.no_grad():
        others = ((alike(student, options), teacher), (student, alike(teacher, options)))
        shifted = [module.loss(options, *other, labels) for other in others]
        order = torch.randperm(ROWS)
        shuffled = module.loss(options, student[order], teacher[order], labels[order])
        twice = module.loss(options, *(torch.cat([part, part]) for part in (student, teacher, labels)))
        extreme = module.loss(options, 50 * student, -50 * teacher, labels)
        itself = module.loss(options, teacher, teacher, labels)
    if not all(torch.isclose(other, value, rtol=1e-4) for other in (*shifted, shuffled, twice)):
        found.append("a constant added to all logits, the order of rows and their number change nothing")
    if not extreme.isfinite():
        found.append("large logits have a finite loss")
    if module.Options.DIVERGENCE and not itself.abs() < 1e-6:
        found.append("the divergence of equal inputs is zero")
    try:
        module.loss(options, student[:0], teacher[:0], labels[:0])
    except ValueError:
        return found
    return [*found, "an empty batch is an error"]


def fall(module: Any, options: Any, steps: int = 150) -> float:
    """Return the share of the loss that descent on free logits leaves over."""
    student, teacher, labels = given(options, scale=1.0)
    student.requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)
    losses = []
    for _ in range(steps):
        loss = module.loss(options, student, teacher, labels)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return losses[-1] / losses[0]


EVERY = pytest.mark.parametrize("name", registry.names(LOSSES))


def loaded(name: str) -> tuple[ModuleType, Any]:
    module = registry.load(LOSSES, name)
    return module, module.Options(loss=name)


@EVERY
def test_every_loss_has_the_shape_of_one(name: str) -> None:
    assert shape_faults(registry.load(LOSSES, name), name) == []


@EVERY
def test_every_loss_keeps_the_contract(name: str) -> None:
    module, options = loaded(name)
    assert faults(module, options) == []
    assert fall(module, options) < 0.05


@EVERY
def test_every_loss_that_reads_labels_gives_no_gradient_where_there_is_none(name: str) -> None:
    module, options = loaded(name)
    student, teacher, labels = given(options)
    labels[::3] = -1
    student.requires_grad_()
    torch.autograd.backward(module.loss(options, student, teacher, labels))
    assert student.grad is not None
    silent = (student.grad == 0).all(dim=1)
    assert silent.tolist() == (
        [row % 3 == 0 for row in range(ROWS)] if "gold" in module.Options.NEEDS else [False] * ROWS
    )


@EVERY
def test_a_batch_without_any_label_is_finite_and_moves_nothing_that_needs_one(name: str) -> None:
    module, options = loaded(name)
    student, teacher, labels = given(options)
    student.requires_grad_()
    loss = module.loss(options, student, teacher, torch.full_like(labels, -1))
    torch.autograd.backward(loss)
    assert loss.isfinite()
    assert student.grad is not None
    if "gold" in module.Options.NEEDS:
        assert float(loss.detach()) == 0.0
        assert not student.grad.any()


@EVERY
def test_every_loss_reads_only_what_it_says_it_needs(name: str) -> None:
    module, options = loaded(name)
    student, teacher, labels = given(options)
    value = module.loss(options, student, teacher, labels)
    without_teacher = module.loss(options, student, torch.zeros_like(teacher), labels)
    without_gold = module.loss(options, student, teacher, torch.full_like(labels, -1))
    assert torch.equal(value, without_teacher) == (not {"logits", "embeddings"} & module.Options.NEEDS)
    assert torch.equal(value, without_gold) == ("gold" not in module.Options.NEEDS)


@pytest.mark.parametrize("name", [name for name in registry.names(LOSSES) if loaded(name)[0].Options.DIVERGENCE])
@pytest.mark.parametrize("seed", range(5))
def test_every_divergence_is_zero_for_equals_alone(name: str, seed: int) -> None:
    module, options = loaded(name)
    student, teacher, labels = given(options, seed)
    assert abs(float(module.loss(options, alike(teacher, options), teacher, labels))) < 1e-6
    near = teacher + 1e-2 * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(seed))
    assert (
        0 < float(module.loss(options, near, teacher, labels)) < float(module.loss(options, student, teacher, labels))
    )


@EVERY
def test_a_constant_added_to_all_logits_changes_a_loss_of_labels_that_stand_alone(name: str) -> None:
    module, options = loaded(name)
    student, teacher, labels = given(options)
    shift = abs(
        float(module.loss(options, student + 7.0, teacher, labels) - module.loss(options, student, teacher, labels))
    )
    assert shift > 1 or not several(options)
    assert shift < 1e-3 or several(options) or "embeddings" in options.NEEDS


class _Options(LossOptions):
    """As a broken loss might declare it."""

    loss: Literal["other"] = "other"
    NEEDS: ClassVar[frozenset[str]] = frozenset({"telepathy"})
    DIVERGENCE: ClassVar[bool] = True


Loss = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _soft_cross_entropy(
    options: Any, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    return -(teacher.detach().softmax(-1) * student.log_softmax(-1)).sum(-1).mean()


def _teaching_the_teacher(
    options: Any, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True)


def _of_logits(options: Any, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (student - teacher.detach()).square().mean()


def _detached(options: Any, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return _of_logits(options, student.detach(), teacher, labels) + 0.0 * student.sum()


def _a_sum(options: Any, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return len(student) * _teaching_the_teacher(options, student, teacher.detach(), labels)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (_soft_cross_entropy, "the divergence of equal inputs is zero"),
        (_teaching_the_teacher, "no gradient reaches the teacher"),
        (_of_logits, "a constant added to all logits, the order of rows and their number change nothing"),
        (_detached, "gradients reach every row of the student"),
        (_a_sum, "a constant added to all logits, the order of rows and their number change nothing"),
    ],
)
def test_the_contract_rejects_broken_losses(broken: Loss, fault: str) -> None:
    found = faults(SimpleNamespace(loss=broken, Options=_Options), _Options())
    assert fault in found
    assert "an empty batch is an error" in found


def test_the_contract_rejects_another_shape() -> None:
    assert len(shape_faults(SimpleNamespace(loss=lambda logits: logits, Options=_Options, __doc__=""), "mine")) == 4
