"""A training ends the same wherever it was interrupted, keeps its best epoch, and stops at a loss that is none."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import OPTIONS, STEPS, Dying, Killed, Scripted, model, same, trained

from edgedistill.errors import TrainingError
from edgedistill.recipe_sections import TrainingOptions
from edgedistill.training import checkpoint, loop


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("undisturbed"))


def killed_at(progress: Path, *calls: int) -> bool:
    """Train until one of the calls; return whether it came to that."""
    try:
        trained(progress, Dying(*calls))
    except Killed:
        return True
    return False


EVERY_CALL = range(1, STEPS + OPTIONS.epochs + 1)


@pytest.mark.parametrize("every_s", [0.0, 1e9])
@pytest.mark.parametrize("call", EVERY_CALL)
def test_killed_anywhere_and_resumed_it_ends_the_same(
    undisturbed: Any, call: int, every_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", every_s)
    assert killed_at(tmp_path, call)
    assert (tmp_path / "state.safetensors").exists() == (every_s == 0.0 and call > 1)
    assert same(trained(tmp_path), undisturbed)


def test_killed_again_and_again_it_goes_on_where_it_was(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    deaths = 0
    while killed_at(tmp_path, 4):
        deaths += 1
        assert deaths <= STEPS, "each life must get further than the last"
    assert deaths >= 5
    assert same(trained(tmp_path), undisturbed)


@pytest.mark.parametrize("writing", ["half the file", "nothing"])
@pytest.mark.parametrize("fatal", range(1, STEPS, 3))
def test_killed_while_writing_a_checkpoint_the_one_before_counts(
    undisturbed: Any, fatal: int, writing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    written, whole = itertools.count(1), safetensors.torch.save_file

    def save_file(tensors: Any, file: Path, metadata: Any) -> None:
        whole(tensors, file, metadata)
        if next(written) == fatal:
            file.write_bytes(file.read_bytes()[:100] if writing == "half the file" else b"")
            raise Killed

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    with pytest.raises(Killed):
        trained(tmp_path)
    assert same(trained(tmp_path), undisturbed)


def _without_moments(file: Path, learner: Any, optimizer: Any, average: Any) -> checkpoint.Position:
    return checkpoint.restore(file, learner, torch.optim.AdamW(learner.parameters()))


def _from_the_start_of_the_epoch(file: Path, learner: Any, optimizer: Any, average: Any) -> checkpoint.Position:
    position = checkpoint.restore(file, learner, optimizer)
    position.step -= position.step % 5
    return position


def _without_the_epochs_loss(file: Path, learner: Any, optimizer: Any, average: Any) -> checkpoint.Position:
    position = checkpoint.restore(file, learner, optimizer)
    position.loss_sum, position.loss_rows = 0.0, 0
    return position


@pytest.mark.parametrize("restore", [_without_moments, _from_the_start_of_the_epoch, _without_the_epochs_loss])
def test_a_resume_that_forgets_something_is_seen(
    restore: Callable[..., checkpoint.Position],
    undisturbed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    assert killed_at(tmp_path, 9)
    broken = type("", (), {"restore": restore, "save": checkpoint.save, "save_weights": checkpoint.save_weights})
    broken.Position = checkpoint.Position  # type: ignore[attr-defined]
    monkeypatch.setattr(loop, "checkpoint", broken)
    assert not same(trained(tmp_path), undisturbed)


def test_random_numbers_that_go_on_where_the_process_stands_are_seen(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(loop, "_seed_of", lambda seed, step: next(itertools.count(step + 1)))
    assert not same(trained(tmp_path), undisturbed), "dropout must matter here"


def test_a_finished_training_is_not_trained_again(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    trained(tmp_path)
    assert not killed_at(tmp_path, 1)
    assert same(trained(tmp_path), undisturbed)


def test_the_best_epochs_weights_are_kept_and_patience_ends_it(tmp_path: Path) -> None:
    told = Scripted((1.0, 0.5), (0.9, 0.6), (0.8, 0.55), (0.7, 0.58), (0.6, 0.9))
    weights, found = trained(tmp_path, told, OPTIONS.model_copy(update={"epochs": 5, "patience": 2}))
    assert (found.best_epoch, len(found.curve), found.steps) == (2, 4, 20)
    assert all(torch.equal(weights[name], told.seen[1][name]) for name in weights)
    assert not all(torch.equal(weights[name], told.seen[3][name]) for name in weights)


def test_without_patience_it_trains_to_the_last_epoch_and_keeps_the_best(tmp_path: Path) -> None:
    told = Scripted((0.4, 0.9), *[(0.5 + epoch / 10, 0.5) for epoch in range(6)])
    weights, found = trained(tmp_path, told, OPTIONS.model_copy(update={"epochs": 7, "patience": None}))
    assert (found.best_epoch, len(found.curve), found.steps) == (1, 7, 35)
    assert all(torch.equal(weights[name], told.seen[0][name]) for name in weights)
    assert found.curve[-1].learning_rate < 0.01 * OPTIONS.learning_rate, "it has come down"


def test_of_equal_metrics_the_smaller_loss_is_better_and_of_equal_losses_the_first(tmp_path: Path) -> None:
    found = trained(tmp_path, Scripted((0.9, 0.5), (0.8, 0.5), (0.8, 0.5), (0.85, 0.5)))[1]
    assert found.best_epoch == 2
    assert [epoch.validation_loss for epoch in found.curve] == [0.9, 0.8, 0.8, 0.85]


def test_training_learns_and_its_curve_says_so(undisturbed: Any) -> None:
    _, found = undisturbed
    assert [epoch.epoch for epoch in found.curve] == [1, 2, 3, 4]
    assert found.curve[-1].train_loss < 0.8 * found.curve[0].train_loss
    assert found.rows == 40
    assert found.steps == STEPS
    assert found.curve[found.best_epoch - 1].validation_metric == max(epoch.validation_metric for epoch in found.curve)


class Poisoned(Dying):
    """The loss of one step, or its gradient alone, is no number."""

    def __init__(self, call: int, *, gradient_only: bool) -> None:
        super().__init__()
        self._call, self._gradient_only = call, gradient_only

    def loss(self, logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        loss = super().loss(logits, rows)
        if self._calls != self._call:
            return loss
        return loss + (logits * 0).sqrt().sum() if self._gradient_only else loss * float("nan")


def test_a_loss_that_is_no_number_stops_and_costs_nothing(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 9 of 20; lower learning_rate \(0\.03\)"):
        trained(tmp_path, Poisoned(10, gradient_only=False))  # the sixth call was a validation
    learner = model()
    position = checkpoint.restore(tmp_path / "state.safetensors", learner, loop._optimizer(learner, OPTIONS))
    assert position.step == 8
    assert all(tensor.isfinite().all() for tensor in learner.state_dict().values())
    assert same(trained(tmp_path), undisturbed)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (2, "the loss is nan at step 3"),
        (5, "the validation loss is nan after epoch 1"),
        (23, "the validation loss is nan after epoch 4"),
    ],
)
def test_weights_that_are_no_numbers_are_never_kept(call: int, text: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=text):
        trained(tmp_path, Poisoned(call, gradient_only=True))


@given(
    steps=st.integers(1, 400),
    warmup=st.floats(0, 0.99),
    peak=st.floats(1e-6, 1.0),
)
def test_the_learning_rate_rises_to_its_peak_once_and_falls(steps: int, warmup: float, peak: float) -> None:
    options = TrainingOptions(learning_rate=peak, warmup=warmup)
    rates = np.array([loop.learning_rate_at(step, steps, options) for step in range(steps)])
    top = int(rates.argmax())
    assert rates[top] == pytest.approx(peak)
    assert (rates > 0).all()
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) <= 0).all()
    assert top <= max(1, warmup * steps + 1)
    assert steps < 20 or warmup > 0.5 or rates[-1] < 0.05 * peak


def test_only_matrices_decay() -> None:
    decayed, spared = loop._optimizer(model(), OPTIONS).param_groups
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)


@pytest.mark.parametrize("norm", [0.01, 1e9])
def test_gradients_are_scaled_down_to_the_norm_asked_for(
    norm: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    make = loop._optimizer

    def watched(learner: Any, options: TrainingOptions) -> torch.optim.Optimizer:
        optimizer = make(learner, options)
        optimizer.register_step_pre_hook(
            lambda *_: norms.append(float(sum(p.grad.square().sum() for p in learner.parameters()) ** 0.5))
        )
        return optimizer

    monkeypatch.setattr(loop, "_optimizer", watched)
    trained(tmp_path, options=OPTIONS.model_copy(update={"max_gradient_norm": norm}))
    assert len(norms) == STEPS
    assert (max(norms) <= norm * 1.001) if norm < 1 else (max(norms) > 0.05)


def test_every_seed_and_step_has_its_own_random_numbers() -> None:
    def drawn(seed_of: Callable[[int, int], int]) -> set[float]:
        return {
            torch.rand(1, generator=torch.Generator().manual_seed(seed_of(seed, step))).item()
            for seed in range(12)
            for step in range(12)
        }

    assert len(drawn(loop._seed_of)) == 144
    assert len(drawn(lambda seed, step: (seed << 32) + step)) == 12, "PyTorch reads 32 bits of a seed"


def test_another_seed_is_another_training(undisturbed: Any, tmp_path: Path) -> None:
    assert not same(trained(tmp_path, options=OPTIONS.model_copy(update={"seed": 1})), undisturbed)


def test_precisions_may_follow_each_other_and_leave_a_float32_model(undisturbed: Any, tmp_path: Path) -> None:
    mixed, learner = OPTIONS.model_copy(update={"mixed_precision": "bf16"}), model()
    weights, found = trained(tmp_path / "mixed", options=mixed, start=learner)
    assert same(trained(tmp_path / "after"), undisturbed)
    assert not same((weights, found), undisturbed), "the precision must have an effect"
    again = model(seed=1)
    again.load_state_dict(weights)
    ids = torch.arange(12).reshape(2, 6)
    logits = learner(ids, torch.ones_like(ids))
    assert logits.dtype == torch.float32
    assert torch.equal(logits, again.eval()(ids, torch.ones_like(ids)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has float16")
def test_a_precision_that_the_device_lacks_is_told_and_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="mixed_precision: 'fp16' does nothing on cpu; choose 'bf16' or 'no'"):
        trained(tmp_path, options=OPTIONS.model_copy(update={"mixed_precision": "fp16"}))


def test_mixed_precision_resumes_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    options = OPTIONS.model_copy(update={"mixed_precision": "bf16"})
    whole = trained(tmp_path / "whole", options=options)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", Dying(9), options)
    assert same(trained(tmp_path / "killed", options=options), whole)


@pytest.mark.parametrize(("took_s", "wait_s"), [(0.1, 20.0), (5.0, 100.0)])
def test_a_checkpoint_that_takes_long_to_write_is_written_less_often(
    took_s: float, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    clock = type("", (), {"monotonic": staticmethod(lambda: now[0])})
    saver = type("", (), {"save": staticmethod(lambda *_: now.__setitem__(0, now[0] + took_s))})
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "checkpoint", saver)
    saving = loop._Saving()
    now[0] = 20.5
    assert saving.due(), "nobody knows yet how long it takes"
    saving.save()
    for passed, due, due_at_an_end in ((wait_s / 5, False, False), (wait_s / 3, False, True), (wait_s + 1, True, True)):
        now[0] = 20.5 + took_s + passed
        assert (saving.due(), saving.due(1 / 4)) == (due, due_at_an_end)
