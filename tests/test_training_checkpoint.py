"""A checkpoint holds all that the rest of a training depends on, and nothing that could run code."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_training import OPTIONS, gold, model

from edgedistill.training import checkpoint, loop
from edgedistill.training.checkpoint import Position


def stepped(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Return a model and its optimizer after some steps on the first rows."""
    rows, objective = gold()
    learner = model()
    optimizer = loop._optimizer(learner, OPTIONS)
    for step in range(steps):
        torch.manual_seed(step)
        ids, mask = rows.padded(range(8))
        torch.autograd.backward(objective.loss(learner(torch.from_numpy(ids), torch.from_numpy(mask)), np.arange(8)))
        optimizer.step()
        optimizer.zero_grad()
    return learner, optimizer


POSITION = Position(7, 0.1 + 0.2, 56, 1.5, 2, 0.75, 1 / 3, [{"epoch": 1, "train_loss": 0.7, "validation_loss": 1e-17}])


@pytest.mark.parametrize("steps", [0, 3])
def test_weights_moments_and_numbers_come_back_to_the_last_bit(steps: int, tmp_path: Path) -> None:
    learner, optimizer = stepped(steps)
    checkpoint.save(tmp_path / "state", learner, optimizer, POSITION)
    other = model(seed=9)
    moments = loop._optimizer(other, OPTIONS)
    assert checkpoint.restore(tmp_path / "state", other, moments) == POSITION
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in learner.state_dict().items())
    saved, found = optimizer.state_dict()["state"], moments.state_dict()["state"]
    assert saved.keys() == found.keys()
    assert len(found) == (len(list(learner.parameters())) if steps else 0)
    for index in saved:
        assert saved[index].keys() == found[index].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(saved[index][name], found[index][name]) for name in saved[index])
    assert moments.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_a_position_before_the_first_epoch_comes_back(tmp_path: Path) -> None:
    learner, optimizer = stepped(1)
    checkpoint.save(tmp_path / "state", learner, optimizer, Position())
    assert math.isinf(checkpoint.restore(tmp_path / "state", learner, optimizer).best_loss)


def test_the_file_is_safetensors_and_no_pickle(tmp_path: Path) -> None:
    learner, optimizer = stepped(1)
    file = tmp_path / "state"
    checkpoint.save(file, learner, optimizer, POSITION)
    with safe_open(file, framework="np") as opened:
        names = set(opened.keys())
    assert {name.partition(".")[0] for name in names} == {"model", "optimizer"}
    assert list(tmp_path.iterdir()) == [file], "the draft is moved, not left"


def test_what_is_saved_does_not_follow_the_model(tmp_path: Path) -> None:
    learner, optimizer = stepped(1)
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    checkpoint.save(tmp_path / "state", learner, optimizer, POSITION)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.zero_()
    checkpoint.restore(tmp_path / "state", learner, optimizer)
    assert all(torch.equal(tensor, learner.state_dict()[name]) for name, tensor in before.items())


def test_weights_that_share_memory_are_saved_each_for_itself(tmp_path: Path) -> None:
    table = torch.arange(6.0).reshape(2, 3)
    checkpoint.save_weights(tmp_path / "tied", {"one": table, "other": table, "turned": table.T})
    with safe_open(tmp_path / "tied", framework="pt") as opened:
        assert torch.equal(opened.get_tensor("one"), opened.get_tensor("other"))
        assert torch.equal(opened.get_tensor("turned"), table.T)
