"""A desktop or server of 2013 to 2018, or a small one of today: AVX2, no 8-bit dot product."""

from edgedistill.targets._target import Target


def target() -> Target:
    """Return the least that such a device has."""
    return Target(
        name="x86_64_avx2",
        arch="x86_64",
        threads=2,
        memory_bytes=None,
        runtimes=("onnxruntime", "onnxruntime_genai", "llama_cpp", "llama_cpp_encoder"),
        cpu_features=frozenset({"avx2"}),
        runner="local",
    )
