"""What the running machine's processor is called and can do, read from the operating system alone."""

import platform
import subprocess
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

LINUX_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
}
"""Words of /proc/cpuinfo (lines `flags` on x86, `Features` on ARM) and what they mean here."""

DARWIN_FLAGS = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512",
    "hw.optional.avx512vnni": "vnni",
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
}
"""Names of sysctl that are 1 where the processor has the feature."""

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def architecture() -> str:
    """Return x86_64 or aarch64, by whatever name the system calls them; other machines keep their own name."""
    machine = platform.machine().lower()
    return ARCHITECTURES.get(machine, machine)


def features() -> frozenset[str]:
    """Return the features that decide which integer kernels run; empty where the system does not tell."""
    if CPUINFO.exists():
        return linux_features(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    if platform.system() == "Darwin":
        return frozenset(word for name, word in DARWIN_FLAGS.items() if _sysctl(name) == "1")
    return frozenset()


def name() -> str:
    """Return the processor's name as its maker gives it, or else the architecture."""
    if CPUINFO.exists():
        told = linux_name(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    else:
        told = _sysctl("machdep.cpu.brand_string") or platform.processor()
    return told or architecture()


def linux_features(cpuinfo: str) -> frozenset[str]:
    """Return the features that every core listed in the text of /proc/cpuinfo has."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    cores = [set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")]
    shared = set.intersection(*cores) if cores else set()
    return frozenset(LINUX_FLAGS[flag] for flag in shared & LINUX_FLAGS.keys())


def linux_name(cpuinfo: str) -> str:
    """Return the first core's `model name`, or the board's `Model`; empty where there is neither."""
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    return told.get("model name") or told.get("Model") or ""


def _sysctl(key: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
