"""64-bit ARM of 2018 on (Cortex-A55, A76; Raspberry Pi 5; Apple M1): 8-bit dot product."""

from edgedistill.targets._target import Target


def target() -> Target:
    """Return the least that such a device has."""
    return Target(
        name="arm64_dotprod",
        arch="aarch64",
        threads=4,
        memory_bytes=None,
        runtimes=("onnxruntime", "onnxruntime_genai", "llama_cpp", "llama_cpp_encoder"),
        cpu_features=frozenset({"neon", "dotprod"}),
        runner="local",
    )
