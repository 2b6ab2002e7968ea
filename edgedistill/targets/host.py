"""The machine that this runs on."""

import os

from edgedistill.targets import _cpu
from edgedistill.targets._target import Target


def target() -> Target:
    """Return the running machine; threads are the logical CPUs that this process may use."""
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Target(
        name="host",
        arch=_cpu.architecture(),
        threads=usable,
        memory_bytes=psutil.virtual_memory().total,
        runtimes=("onnxruntime", "onnxruntime_genai", "llama_cpp", "llama_cpp_encoder", "pytorch", "pytorch_decoder"),
        cpu_features=_cpu.features(),
        runner="local",
    )
