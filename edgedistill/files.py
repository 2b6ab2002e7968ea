"""Writing files so that a reader never sees half of one, and knowing what is in them."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

CHUNK_BYTES = 1 << 20


def write_atomic(file: Path, content: str | bytes) -> None:
    """Write `file` whole or not at all: to a draft beside it, flushed to disk, then moved into place."""
    draft = file.with_name(f"{file.name}.draft")
    with draft.open("wb") as out:
        out.write(content.encode("utf-8") if isinstance(content, str) else content)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)


def write_changed(file: Path, content: str | bytes) -> None:
    """Write `file` as `write_atomic` does, unless it holds this content already: then it is left alone."""
    raw = content.encode("utf-8") if isinstance(content, str) else content
    if not file.exists() or file.read_bytes() != raw:
        write_atomic(file, raw)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes, 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_of_tree(folder: Path, files: Iterable[Path] | None = None) -> str:
    """Return one SHA-256 for all files of a folder: of their sorted relative names and hashes."""
    chosen = sorted(files if files is not None else files_in(folder))
    return sha256_of_text("\n".join(f"{sha256_of(file)}  {file.relative_to(folder).as_posix()}" for file in chosen))


def sha256_of_place(place: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of a folder's names and hashes."""
    return sha256_of_tree(place) if place.is_dir() else sha256_of(place)


def files_in(folder: Path) -> list[Path]:
    """Return every file below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def size_of(folder: Path) -> int:
    """Return the bytes of every file below `folder`."""
    return sum(file.stat().st_size for file in files_in(folder))


def read_sums(file: Path) -> dict[str, str]:
    """Return name -> SHA-256 of a SHA256SUMS file, as sha256sum writes it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def linked(source: Path, target: Path) -> None:
    """Give a finished file a second name, which takes no room; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def canonical_json(value: object) -> str:
    """Return the one JSON text for `value`: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def clear(folder: Path) -> None:
    """Make `folder` exist and be empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
