"""Where a model runs, and in which precision: accelerate decides the first, a recipe the second."""

from typing import Literal

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from edgedistill.errors import TrainingError


def accelerator_for(mixed_precision: Literal["no", "fp16", "bf16"]) -> Accelerator:
    """Return accelerate's view of this machine, in this precision.

    Raises:
        TrainingError: the device lacks it.
    """
    AcceleratorState._reset_state()  # an earlier stage of this process may have chosen another precision
    accelerator = Accelerator(mixed_precision=mixed_precision)
    if mixed_precision != "no" and not accelerator.native_amp:
        device = accelerator.device.type
        raise TrainingError(f"mixed_precision: {mixed_precision!r} does nothing on {device}; choose 'bf16' or 'no'")
    return accelerator
