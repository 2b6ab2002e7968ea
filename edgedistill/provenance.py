"""What a result depends on besides the recipe: library versions, this package's own code, the host."""

import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import edgedistill
from edgedistill.files import sha256_of_text

PACKAGE = Path(edgedistill.__file__).parent


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed version of each distribution, and Python's; 'not installed' where there is none."""
    found = {"python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def code_of(*rooms: str) -> str:
    """Return 16 hex digits of the Python source of these parts of the package: a changed line re-runs its stage.

    Args:
        rooms: files or folders, relative to the package, such as "distill" or "models".
    """
    files: list[Path] = []
    for room in rooms:
        files += sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / room]  # a file; what is not there fails below
    texts = [f"{file.relative_to(PACKAGE).as_posix()}\n{file.read_text(encoding='utf-8')}" for file in files]
    return sha256_of_text("\0".join(texts))[:16]


def disable_telemetry() -> None:
    """Opt out of onnxruntime's telemetry, which its Linux wheels switch on at import; call before importing it."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def host() -> dict[str, str]:
    """Return the operating system, machine and interpreter, as a person would name them."""
    return {
        "machine": platform.machine(),
        "operating_system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
    }
