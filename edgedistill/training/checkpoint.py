"""Where a training stands, in one safetensors file: weights, their average, optimizer moments, and a few numbers.

The file is moved into place whole. Random numbers are not stored: each step seeds them anew from (seed, step), so a
resumed training takes the very steps that an undisturbed one takes.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel


@dataclass
class Position:
    """How far a training has come."""

    step: int = 0
    loss_sum: float = 0.0  # over the rows of the epoch so far
    loss_rows: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_metric: float = -1.0
    best_loss: float = float("inf")
    curve: list[dict[str, float]] = field(default_factory=list)


def save(
    file: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    average: AveragedModel | None = None,
) -> None:
    """Write everything that the rest of the training depends on."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(moment) for name, moment in moments.items()}
    save_weights(file, tensors, {"position": json.dumps(asdict(position))})


def save_weights(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors whole or not at all."""
    draft = file.with_name(f"{file.name}.draft")
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(copies, draft, metadata)
    draft.replace(file)


def restore(
    file: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: AveragedModel | None = None
) -> Position:
    """Put model, optimizer and average back to where `file` left them, and return how far that was."""
    tensors = load_file(file)
    model.load_state_dict(_named(tensors, "model."))
    if average is not None:
        average.load_state_dict(_named(tensors, "average."))
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in _named(tensors, "optimizer.").items():
        index, _, moment = name.partition(".")
        state.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(file, framework="pt") as opened:
        return Position(**json.loads(opened.metadata()["position"]))


def _named(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
