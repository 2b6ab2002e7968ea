"""The training loop: AdamW, warm-up and cosine decay, clipping, early stopping, the best epoch kept, resumable.

Where the options ask for an average of the weights, that average is what is validated, stops the training, and is kept;
the steps themselves are the same.

Nothing in a training depends on when it was interrupted: batches come from (seed, epoch), random numbers from
(seed, step), the learning rate from the step, and all else is in the checkpoint. (Not so under fp16: the factor that
accelerate scales gradients by starts anew.)
"""

import math
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from edgedistill.errors import TrainingError
from edgedistill.progress import bar
from edgedistill.recipe_sections import TrainingOptions
from edgedistill.training import checkpoint
from edgedistill.training.averaging import average_of
from edgedistill.training.precision import accelerator_for
from edgedistill.training.rows import TokenRows, shuffled_batches
from edgedistill.values import Epoch, Training

CHECKPOINT_EVERY_S = 20.0  # and where saving takes longer than a second, so many times as long


class Objective(Protocol):
    """What is minimised, and what tells a better epoch from a worse one."""

    views: int  # how often each row stands in a batch, each time under other dropout

    def asked(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return what the model is told of these training rows besides ids and mask, by the name of its argument."""

    def loss(self, said: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Return a scalar for what the model says, (views * batch, width), of these training rows."""

    def validate(self, model: Any) -> tuple[float, float]:
        """Return loss (lower is better) and metric (higher is better) on the validation split."""


def learning_rate_at(step: int, steps: int, options: TrainingOptions) -> float:
    """Return the rate for step 0..steps-1: linear up to the peak, then half a cosine down to zero.

    Source: Loshchilov, Hutter 2017, "SGDR", arXiv:1608.03983, equation 5, without restarts.
    """
    warmup = max(1, round(options.warmup * steps))
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(
    model: Any, rows: TokenRows, objective: Objective, options: TrainingOptions, progress: Path, what: str
) -> Training:
    """Train `model` in place and leave it with the weights of its best validation epoch, on the CPU.

    Args:
        model: maps ids and mask, both (batch, tokens) int64, to logits or vectors, (batch, width).
        rows: the training rows; `objective` knows their targets by row number.
        progress: folder for the checkpoint and the best weights; the same folder resumes.
        what: said beside the progress bar.

    Raises:
        TrainingError: the loss is not finite, or the device lacks the precision asked for.
    """
    accelerator = accelerator_for(options.mixed_precision)
    optimizer = _optimizer(model, options)
    state_file, best_file = progress / "state.safetensors", progress / "best.safetensors"
    progress.mkdir(parents=True, exist_ok=True)
    average = average_of(model, options.averaging)
    position = checkpoint.Position()
    if state_file.exists():
        position = checkpoint.restore(state_file, model, optimizer, average)
    model, optimizer = accelerator.prepare(model, optimizer)
    bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # only training steps are in mixed precision
    judged = bare if average is None else average.to(accelerator.device).module
    batches_each = len(shuffled_batches(rows.lengths, options.batch_size, options.seed, 0))
    steps = batches_each * options.epochs
    saving = _Saving()
    started = time.monotonic()
    earlier = position.seconds
    with bar(what, steps, "steps", done=position.step) as advance:
        while position.step < steps and not _exhausted(position, options):
            epoch, first = divmod(position.step, batches_each)
            for batch in shuffled_batches(rows.lengths, options.batch_size, options.seed, epoch)[first:]:
                value = _step(model, rows, batch, objective, options, accelerator, optimizer, position.step, steps)
                if average is not None:
                    average.update_parameters(bare)
                position.step += 1
                position.loss_sum += value * len(batch)
                position.loss_rows += len(batch)
                position.seconds = earlier + time.monotonic() - started
                advance(1)
                if saving.due() and position.step % batches_each:
                    saving.save(state_file, bare, optimizer, position, average)
            rate = learning_rate_at(position.step - 1, steps, options)
            if _end_epoch(judged, objective, position, epoch + 1, rate):
                checkpoint.save_weights(best_file, judged.state_dict())
            if saving.due(1 / 4):
                saving.save(state_file, bare, optimizer, position, average)
    bare.cpu()
    bare.load_state_dict(load_file(best_file))
    bare.eval()
    curve = tuple(Epoch.model_validate(epoch) for epoch in position.curve)
    return Training(
        curve=curve, best_epoch=position.best_epoch, steps=position.step, seconds=position.seconds, rows=len(rows),
        seed=options.seed, device=accelerator.device.type, threads=torch.get_num_threads(),
    )  # fmt: skip


class _Saving:
    """When a checkpoint is due: a large one is written less often, so that little of the time goes into it."""

    def __init__(self) -> None:
        self._ended, self._took_s = time.monotonic(), 0.0

    def due(self, part: float = 1.0) -> bool:
        """Return whether so much of the time between two checkpoints has passed."""
        return time.monotonic() - self._ended > part * CHECKPOINT_EVERY_S * max(1.0, self._took_s)

    def save(self, *state: Any) -> None:
        """Write one, and note how long that took."""
        started = time.monotonic()
        checkpoint.save(*state)
        self._ended = time.monotonic()
        self._took_s = self._ended - started


def _optimizer(model: Any, options: TrainingOptions) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)


def _step(
    model: Any,
    rows: TokenRows,
    batch: np.ndarray,
    objective: Objective,
    options: TrainingOptions,
    accelerator: Accelerator,
    optimizer: Any,
    step: int,
    steps: int,
) -> float:
    """Take one optimizer step and return the batch's loss."""
    torch.manual_seed(_seed_of(options.seed, step))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, steps, options)
    model.train()
    batch = np.tile(batch, objective.views)
    ids, mask = (torch.from_numpy(array).to(accelerator.device) for array in rows.padded(batch))
    with accelerator.autocast():
        said = model(ids, mask, **objective.asked(batch))
    loss = objective.loss(said.float(), batch)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss is {value} at step {step + 1} of {steps}; lower learning_rate ({options.learning_rate:g}), "
            "raise warmup, or check the data for empty texts"
        )
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), options.max_gradient_norm)
    optimizer.step()
    optimizer.zero_grad()
    return value


def _seed_of(seed: int, step: int) -> int:
    """Return 32 bits that depend on both; of a longer seed, PyTorch's generator on the CPU reads no more."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def _end_epoch(
    model: Any, objective: Objective, position: checkpoint.Position, epoch: int, learning_rate: float
) -> bool:
    """Validate, add a point to the curve, and say whether this epoch is the best so far.

    Raises:
        TrainingError: the validation loss is not finite: the last step has broken the weights.
    """
    loss, metric = objective.validate(model)
    if not math.isfinite(loss):
        raise TrainingError(f"the validation loss is {loss} after epoch {epoch}; lower learning_rate, or raise warmup")
    position.curve.append(
        {
            "epoch": epoch,
            "train_loss": position.loss_sum / max(1, position.loss_rows),
            "validation_loss": loss,
            "validation_metric": metric,
            "learning_rate": learning_rate,
        }
    )
    position.loss_sum, position.loss_rows = 0.0, 0
    better = (metric, -loss) > (position.best_metric, -position.best_loss)
    if better:
        position.best_epoch, position.best_metric, position.best_loss = epoch, metric, loss
    return better


def _exhausted(position: checkpoint.Position, options: TrainingOptions) -> bool:
    """Whether patience is over: too many epochs have ended without a better one. Without a limit it never is."""
    if options.patience is None or not position.curve:
        return False
    return len(position.curve) - position.best_epoch >= options.patience
