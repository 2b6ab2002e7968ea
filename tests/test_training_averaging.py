"""The average of the weights is the one that numpy computes from the same steps; it changes no step, and resumes."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_training import OPTIONS, STEPS, Dying, Killed, Scripted, Weights, model, same, trained

from edgedistill.recipe_sections import TrainingOptions
from edgedistill.training import checkpoint, loop
from edgedistill.training.averaging import average_of, decay_after

AVERAGED = OPTIONS.model_copy(update={"averaging": 0.9})
FOUND = ((1.0, 0.5), (0.9, 0.6), (0.8, 0.7), (0.7, 0.8))
SLOW, FAST = 0.999, 0.5  # the first is never reached in so few steps, the second after eight


def steps_of(progress: Path, options: TrainingOptions, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Weights], Any]:
    """Return the weights after each step, and what each validation saw."""
    taken: list[Weights] = []
    make = loop._optimizer

    def watched(learner: Any, given: TrainingOptions) -> torch.optim.Optimizer:
        optimizer = make(learner, given)
        optimizer.register_step_post_hook(
            lambda *_: taken.append({name: tensor.detach().clone() for name, tensor in learner.named_parameters()})
        )
        return optimizer

    told = Scripted(*FOUND)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_optimizer", watched)
        trained(progress, told, options)
    assert len(taken) == STEPS
    return taken, told.seen


def by_numpy(taken: list[Weights], decay: float, *, rising: bool = True) -> list[dict[str, np.ndarray]]:
    """Return the average after each step, in float64."""
    average = {name: tensor.double().numpy() for name, tensor in taken[0].items()}
    found = [average]
    for n, weights in enumerate(taken[1:], start=1):
        kept = min(decay, (1 + n) / (10 + n)) if rising else decay
        average = {name: kept * old + (1 - kept) * weights[name].double().numpy() for name, old in average.items()}
        found.append(average)
    return found


def distance(seen: Weights, wanted: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(seen[name].double().numpy() - wanted[name]).max()) for name in wanted)


@pytest.mark.parametrize("decay", [SLOW, FAST])
def test_what_is_validated_is_the_average_of_all_steps_so_far(
    decay: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, seen = steps_of(tmp_path, OPTIONS.model_copy(update={"averaging": decay}), monkeypatch)
    averages = by_numpy(taken, decay)
    for epoch, weights in enumerate(seen, start=1):
        last = epoch * STEPS // OPTIONS.epochs - 1
        assert distance(weights, averages[last]) < 1e-6
        assert distance(weights, {name: tensor.numpy() for name, tensor in taken[last].items()}) > 1e-3, "no one step's"
    if decay == SLOW:
        assert distance(seen[-1], by_numpy(taken, decay, rising=False)[-1]) > 0.01, "would still be the first step's"


def test_the_steps_are_the_same_with_and_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = steps_of(tmp_path / "plain", OPTIONS, monkeypatch)
    averaged, _ = steps_of(tmp_path / "averaged", AVERAGED, monkeypatch)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(plain, averaged, strict=True) for name in a)
    assert all(torch.equal(seen[-1][name], plain[-1][name]) for name in plain[-1]), "without it the step is validated"


def test_the_best_epochs_average_is_kept(tmp_path: Path) -> None:
    told = Scripted((1.0, 0.5), (0.9, 0.6), (0.8, 0.55), (0.7, 0.58))
    weights, found = trained(tmp_path, told, AVERAGED)
    assert found.best_epoch == 2
    assert all(torch.equal(weights[name], told.seen[1][name]) for name in weights)
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("undisturbed"), options=AVERAGED)


@pytest.mark.parametrize("every_s", [0.0, 1e9])
@pytest.mark.parametrize("call", [1, 2, 5, 6, 7, 9, 13, 20, 24])
def test_killed_anywhere_and_resumed_it_ends_the_same(
    undisturbed: Any, call: int, every_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", every_s)
    with pytest.raises(Killed):
        trained(tmp_path, Dying(call), AVERAGED)
    assert same(trained(tmp_path, options=AVERAGED), undisturbed)


def _without_the_average(file: Path, learner: Any, optimizer: Any, average: Any) -> checkpoint.Position:
    return checkpoint.restore(file, learner, optimizer)


def _without_its_length(file: Path, learner: Any, optimizer: Any, average: Any) -> checkpoint.Position:
    position = checkpoint.restore(file, learner, optimizer, average)
    average.n_averaged.fill_(1)
    return position


@pytest.mark.parametrize("restore", [_without_the_average, _without_its_length])
def test_a_resume_that_forgets_the_average_is_seen(
    restore: Any, undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    with pytest.raises(Killed):
        trained(tmp_path, Dying(9), AVERAGED)
    monkeypatch.setattr(checkpoint, "restore", functools.partial(_called, restore, checkpoint.restore))
    assert not same(trained(tmp_path, options=AVERAGED), undisturbed)


def _called(broken: Any, sound: Any, *given: Any) -> checkpoint.Position:
    """Let the broken one restore, which itself calls the sound one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "restore", sound)
        found: checkpoint.Position = broken(*given)
        return found


def test_a_checkpoint_holds_an_average_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    parts = {}
    for name, options in (("plain", OPTIONS), ("averaged", AVERAGED)):
        trained(tmp_path / name, options=options)
        with safe_open(tmp_path / name / "state.safetensors", framework="np") as opened:
            parts[name] = {key.partition(".")[0] for key in opened.keys()}  # noqa: SIM118 (it is no dict)
    assert parts == {"plain": {"model", "optimizer"}, "averaged": {"model", "optimizer", "average"}}


def test_the_decay_rises_to_the_one_asked_for() -> None:
    rising = [decay_after(n, 0.99) for n in range(1, 2000)]
    assert rising == sorted(rising)
    assert rising[0] == 2 / 11
    assert rising[888] < 0.99 == rising[889] == rising[-1]
    assert average_of(model(), None) is None
