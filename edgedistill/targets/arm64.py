"""64-bit ARM of the first generation (Cortex-A53, A72; Raspberry Pi 4): NEON, no dot product."""

from edgedistill.targets._target import Target


def target() -> Target:
    """Return the least that such a device has."""
    return Target(
        name="arm64",
        arch="aarch64",
        threads=4,
        memory_bytes=None,
        runtimes=("onnxruntime", "onnxruntime_genai", "llama_cpp", "llama_cpp_encoder"),
        cpu_features=frozenset({"neon"}),
        runner="local",
    )
