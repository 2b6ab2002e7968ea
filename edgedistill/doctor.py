"""Doctor: is everything there that a build needs, and what can this machine do?

Versions are read from the installed metadata, so nothing heavy is imported and a broken library cannot break this.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from edgedistill.report.units import size

PROJECT = "edgedistill"
LEAST_PYTHON = (3, 11)
LEAST_MEMORY_BYTES = 4 * 10**9  # torch, transformers, and a teacher of MiniLM's size with its optimizer state
LEAST_DISK_BYTES = 5 * 10**9  # the cached outputs of a teacher, checkpoints, and the data sets' own cache
EXTRAS = ("gguf", "genai", "dev")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    good: bool | None  # False: a build would fail; None: nothing to judge, or something optional is missing
    cure: str = ""


def examine(place: Path) -> tuple[Finding, ...]:
    """Return everything found about the installation and the machine.

    Args:
        place: a folder on the disk that builds would write to.
    """
    declared = _requirements()
    installation = (_python(), *_dependencies(declared), *_extras(declared))
    return (*installation, *_processor(), _memory(), _disk(place), _telemetry())


def _python() -> Finding:
    recent = sys.version_info >= LEAST_PYTHON
    return Finding("python", platform.python_version(), recent, "" if recent else "use Python 3.11 or newer")


def _requirements() -> list[Requirement] | None:
    """Return what the installed project declares; None where it is not installed."""
    try:
        return [Requirement(line) for line in metadata.requires(PROJECT) or []]
    except metadata.PackageNotFoundError:
        return None


def _dependencies(declared: list[Requirement] | None) -> Iterator[Finding]:
    if declared is None:
        yield Finding(PROJECT, "not installed", False, "pip install -e . in the folder with pyproject.toml")
        return
    yield Finding(PROJECT, metadata.version(PROJECT), True)
    for requirement in declared:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _dependency(requirement)


def _dependency(requirement: Requirement) -> Finding:
    version = _version(requirement)
    if _satisfies(requirement):
        return Finding(requirement.name, str(version), True)
    found = version or "not installed"
    return Finding(requirement.name, f"{found}, needs {requirement.specifier}", False, f"pip install '{requirement}'")


def _extras(declared: list[Requirement] | None) -> Iterator[Finding]:
    for extra in EXTRAS if declared else ():
        wanted = [part for part in declared or () if _belongs_to(part, extra)]
        lacking = [part for part in wanted if not _satisfies(part)]
        cure = "pip install " + " ".join(f"'{part.name}{part.specifier}'" for part in lacking) if lacking else ""
        found = f"lacks {', '.join(part.name for part in lacking)}" if lacking else "complete"
        yield Finding(f"extra {extra}", found, not lacking or None, cure)


def _belongs_to(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _satisfies(requirement: Requirement) -> bool:
    version = _version(requirement)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(requirement: Requirement) -> str | None:
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> Iterator[Finding]:
    from edgedistill.targets.host import target

    host = target()
    yield Finding("processor", f"{host.arch}: {', '.join(sorted(host.cpu_features)) or 'no known features'}", True)
    kernels = (
        "8-bit products are summed in 32 bits" if host.int8_dot else "no VNNI or dotprod: weights get a 7-bit range"
    )
    yield Finding("int8 kernels", kernels, None)
    yield Finding("threads", str(host.threads), True)


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    enough = memory.available >= LEAST_MEMORY_BYTES
    cure = "" if enough else f"free some: a small build wants about {size(LEAST_MEMORY_BYTES, 1)}"
    return Finding(
        "memory", f"{size(memory.available)} of {size(memory.total)} available", True if enough else None, cure
    )


def _disk(place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    enough = free >= LEAST_DISK_BYTES
    cure = "" if enough else f"free some: a small build wants about {size(LEAST_DISK_BYTES, 1)}"
    return Finding(f"disk of {place}", f"{size(free)} free", True if enough else None, cure)


def _telemetry() -> Finding:
    off = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    cure = "" if off else "start through the edgedistill command, or set ORT_DISABLE_TELEMETRY=1"
    return Finding("onnxruntime telemetry", "switched off" if off else "on, as its Linux wheels come", off, cure)
