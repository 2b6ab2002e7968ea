"""What the methods share that round no activation."""

from typing import Any

from edgedistill.section import LayerOptions


def decide_range(options: LayerOptions) -> tuple[bool, str]:
    """Return that codes keep their full range, and why, in words."""
    return False, "weights are multiplied as float32, where nothing saturates"


def needs(options: LayerOptions) -> dict[str, Any]:
    """Return what the result depends on besides the options: nothing."""
    return {}
