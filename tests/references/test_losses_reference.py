"""The losses against independent implementations: scipy and torch.distributions for KL, scikit-learn for log loss."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax  # type: ignore[import-untyped]
from sklearn.metrics import log_loss

from edgedistill.distill.losses import cross_entropy, forward_kl

TEMPERATURES = (0.5, 1.0, 2.0, 8.0)
random = np.random.default_rng(0)
STUDENT, TEACHER = (4 * random.normal(size=(64, 7)).astype(np.float32) for _ in range(2))
LABELS = random.integers(0, 7, 64)
NONE = torch.full((64,), -1)


def forward(temperature: float) -> Any:
    return forward_kl.Options(loss="forward_kl", temperature=temperature)


def kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    return float(forward_kl.loss(forward(temperature), torch.from_numpy(student), torch.from_numpy(teacher), NONE))


def scipys(p_logits: np.ndarray, q_logits: np.ndarray, temperature: float) -> float:
    """Return the mean of KL(p || q) in float64, without the factor of temperature squared."""
    p, q = (softmax(logits.astype(np.float64) / temperature, axis=1) for logits in (p_logits, q_logits))
    return float(rel_entr(p, q).sum(axis=1).mean())


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_forward_kl_is_scipys_from_teacher_to_student(temperature: float) -> None:
    found, expected = kl(STUDENT, TEACHER, temperature), scipys(TEACHER, STUDENT, temperature)
    assert found == pytest.approx(temperature**2 * expected, rel=1e-4)
    reverse = scipys(STUDENT, TEACHER, temperature)
    assert found != pytest.approx(temperature**2 * reverse, rel=1e-2), "the two directions must be told apart"
    assert temperature == 1.0 or found != pytest.approx(expected, rel=1e-2), "so must the factor"


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_forward_kl_is_that_of_torch_distributions(temperature: float) -> None:
    teacher, student = (
        torch.distributions.Categorical(logits=torch.from_numpy(logits).double() / temperature)
        for logits in (TEACHER, STUDENT)
    )
    expected = torch.distributions.kl_divergence(teacher, student).mean()
    assert kl(STUDENT, TEACHER, temperature) == pytest.approx(temperature**2 * float(expected), rel=1e-4)


def test_forward_kl_has_the_gradient_that_calculus_gives() -> None:
    """Hinton et al., section 2: the gradient is T^2 * (student - teacher) / T, of their soft probabilities."""
    student = torch.from_numpy(STUDENT).requires_grad_()
    torch.autograd.backward(forward_kl.loss(forward(3.0), student, torch.from_numpy(TEACHER), NONE))
    expected = 3.0 * (softmax(STUDENT / 3.0, axis=1) - softmax(TEACHER / 3.0, axis=1)) / len(STUDENT)
    assert student.grad is not None
    assert np.allclose(student.grad.numpy(), expected, atol=1e-6)


def gradient_size(temperature: float, *, scaled: bool = True) -> float:
    student = torch.from_numpy(STUDENT / 40).requires_grad_()
    loss = forward_kl.loss(forward(temperature), student, torch.from_numpy(TEACHER / 40), NONE)
    torch.autograd.backward(loss if scaled else loss / temperature**2)
    assert student.grad is not None
    return float(student.grad.norm())


def test_temperature_squared_keeps_the_size_of_the_gradient() -> None:
    """In the limit of small logits the gradient does not depend on the temperature; without the factor it fades."""
    assert gradient_size(16.0) == pytest.approx(gradient_size(1.0), rel=0.05)
    assert gradient_size(16.0, scaled=False) < 0.01 * gradient_size(1.0, scaled=False)


def gold(labels: np.ndarray) -> float:
    options = cross_entropy.Options(loss="cross_entropy")
    student, teacher = torch.from_numpy(STUDENT), torch.from_numpy(TEACHER)
    return float(cross_entropy.loss(options, student, teacher, torch.from_numpy(labels)))


def test_cross_entropy_is_scikit_learns_log_loss() -> None:
    expected = log_loss(LABELS, softmax(STUDENT.astype(np.float64), axis=1), labels=range(7))
    assert gold(LABELS) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("every", [2, 5, 64])
def test_cross_entropy_is_the_mean_over_labelled_rows_alone(every: int) -> None:
    labels = np.where(np.arange(64) % every == 0, LABELS, -1)
    known = labels >= 0
    expected = log_loss(LABELS[known], softmax(STUDENT[known].astype(np.float64), axis=1), labels=range(7))
    assert gold(labels) == pytest.approx(expected, rel=1e-5)
