"""A desktop or server with an 8-bit dot product: AVX-512 VNNI (2019 on) or AVX-VNNI (2021 on)."""

from edgedistill.targets._target import Target


def target() -> Target:
    """Return the least that such a device has."""
    return Target(
        name="x86_64_vnni",
        arch="x86_64",
        threads=2,
        memory_bytes=None,
        runtimes=("onnxruntime", "onnxruntime_genai", "llama_cpp", "llama_cpp_encoder"),
        cpu_features=frozenset({"avx2", "vnni"}),
        runner="local",
    )
